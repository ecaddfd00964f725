"""From one photo to all of its variants: one decode, one buffer, every file verified before it counts.

Isolation, time and memory limits live in `pool.py`; this module runs wherever it is called.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import log
from pathlib import Path
from time import perf_counter

from PIL import Image

from photo_pipeline.core.errors import InfrastructureError, PhotoError
from photo_pipeline.core.imaging.decode import decode
from photo_pipeline.core.imaging.encode import ENCODERS, flattened
from photo_pipeline.core.imaging.header import PILLOW_FORMATS, SourceInfo, read_header
from photo_pipeline.core.imaging.recipe import ImageFormat, Recipe, VariantSpec
from photo_pipeline.core.imaging.resize import GAP, Geometry, plan, render
from photo_pipeline.core.imaging.search import SearchResult, search_quality

STAGES = ("decode", "resize", "encode", "hash", "write")

# When not even the lowest quality fits, each step takes 28 % of the pixels away (0.85 squared); eight
# steps end at 27 % of the width, beyond which a picture is not worth its URL.
SHRINK = 0.85
MAX_SHRINKS = 8

_METADATA_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "icc_profile", "comment", "photoshop")


@dataclass(frozen=True)
class MadeVariant:
    """One file that was made.

    Attributes:
        variant: The VariantSpec's name.
        format: Its format.
        path: Where it was written.
        bytes: Its size.
        width: Its width in pixels.
        height: Its height in pixels.
        quality: The quality it was encoded with (1-100, each format's own scale).
        encodes: How many encodes the search took, all pixel sizes together.
        met_target: Whether it fits its byte target, and its source's bytes at the source's own size.
        sha256: Hex digest of the file.
    """

    variant: str
    format: ImageFormat
    path: Path
    bytes: int
    width: int
    height: int
    quality: int
    encodes: int
    met_target: bool
    sha256: str


@dataclass(frozen=True)
class MadePhoto:
    """All that was made of one photo.

    Attributes:
        info: What the source's header said.
        variants: The files, in the order in which they were asked for.
        timings: Seconds of wall time for each of STAGES; verification counts as "write".
    """

    info: SourceInfo
    variants: tuple[MadeVariant, ...]
    timings: dict[str, float]


def make_variants(
    source: Path,
    recipe: Recipe,
    wanted: Sequence[tuple[VariantSpec, ImageFormat]],
    out: Callable[[str, ImageFormat], Path],
) -> MadePhoto:
    """Makes the wanted variants of a photo.

    Args:
        source: The photo.
        recipe: Everything that shapes the bytes, and the pixel limit.
        wanted: Which of the recipe's variants to make; the bytes of each do not depend on the others.
        out: From a variant's name and format to the file's path. Folders are created.

    Returns:
        What was made. Each file was written beside its place, verified and renamed, so that a path holds
        a whole file or nothing.

    Raises:
        PhotoError: The photo cannot be processed; the subclass says why.
        InfrastructureError: The files cannot be written.
    """
    clock = _Clock()
    with clock.timed("decode"):
        info = read_header(source, max_pixels=recipe.max_pixels)
        # Of the whole recipe, wanted or not: a variant that is made again alone must get the same bytes.
        plans = [plan(spec, width=info.width, height=info.height) for spec in recipe.variants]
        buffer = decode(source, info, scale=min(1.0, max(geometry.scale for geometry in plans)))
    maker = _Maker(recipe, info, buffer, source_bytes=source.stat().st_size, clock=clock)
    made = tuple(maker.make(spec, format, out(spec.name, format)) for spec, format in wanted)
    return MadePhoto(info=info, variants=made, timings=clock.seconds)


def verify_variant(path: Path, *, format: ImageFormat, size: tuple[int, int]) -> None:
    """Re-opens a variant and checks that it is what it should be.

    Args:
        path: The file, under any name.
        format: The format it must have.
        size: The width and height it must have.

    Raises:
        PhotoError: Another format or size, or any metadata (EXIF, XMP, ICC, IPTC, comment) inside.
    """
    with Image.open(path, formats=PILLOW_FORMATS[format.name]) as image:
        image_size, leaks = image.size, [key for key in _METADATA_KEYS if image.info.get(key)]
    if image_size != size or leaks:
        cause = f"the {format} variant has {image_size} px and metadata {leaks}, not {size} px and none"
        raise PhotoError(path.name, cause=cause, fix="Report this as a bug of photo_pipeline")


class _Clock:
    """Adds up wall time by stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - start


class _Maker:
    """Makes the variants of one decoded photo."""

    def __init__(
        self, recipe: Recipe, info: SourceInfo, buffer: Image.Image, *, source_bytes: int, clock: _Clock
    ) -> None:
        self.recipe = recipe
        self.info = info
        self.source_bytes = source_bytes
        self.clock = clock
        self.buffer = buffer
        plans = [plan(spec, width=info.width, height=info.height) for spec in recipe.variants]
        self.bases = [geometry for geometry in plans if geometry.box == (0, 0, info.width, info.height)]
        self.rendered: dict[Geometry, Image.Image] = {}

    def make(self, spec: VariantSpec, format: ImageFormat, path: Path) -> MadeVariant:
        geometry, found = self._fitted(spec, format)
        with self.clock.timed("hash"):
            digest = hashlib.sha256(found.data).hexdigest()
        with self.clock.timed("write"):
            _write(path, found.data, format=format, size=geometry.size)
        return MadeVariant(
            variant=spec.name,
            format=format,
            path=path,
            bytes=len(found.data),
            width=geometry.size[0],
            height=geometry.size[1],
            quality=found.quality,
            encodes=found.encodes,
            met_target=found.met,
            sha256=digest,
        )

    def _fitted(self, spec: VariantSpec, format: ImageFormat) -> tuple[Geometry, SearchResult]:
        """The best file at the largest pixel size that meets the byte target, or the last one tried."""
        encodes = 0
        for step in range(MAX_SHRINKS + 1):
            shrink = SHRINK**step
            geometry = plan(spec, width=self.info.width, height=self.info.height, shrink=shrink)
            found = self._searched(spec, format, geometry, shrunk=step > 0)
            encodes += found.encodes
            # Only the target itself is worth pixels: at smaller dimensions the source is no yardstick.
            if spec.max_bytes is None or len(found.data) <= spec.max_bytes:
                break
        return geometry, SearchResult(quality=found.quality, data=found.data, encodes=encodes, met=found.met)

    def _searched(
        self, spec: VariantSpec, format: ImageFormat, geometry: Geometry, *, shrunk: bool
    ) -> SearchResult:
        with self.clock.timed("resize"):
            pixels = flattened(self._pixels(geometry), format, self.recipe.background)
        low, budget = self.recipe.quality_min, self._budget(spec, geometry)
        guess = low if shrunk else self._guess(format, geometry, budget)
        with self.clock.timed("encode"):
            return search_quality(
                lambda quality: ENCODERS[format].encode(pixels, quality),
                max_bytes=budget,
                low=low,
                high=self.recipe.quality_max,
                guess=guess,
                slope=ENCODERS[format].bytes_curve[1],
            )

    def _budget(self, spec: VariantSpec, geometry: Geometry) -> int | None:
        """The byte target; at the source's own dimensions never more than the source's bytes."""
        if geometry.size != (self.info.width, self.info.height):
            return spec.max_bytes
        return min(spec.max_bytes or self.source_bytes, self.source_bytes)

    def _guess(self, format: ImageFormat, geometry: Geometry, budget: int | None) -> int:
        """The quality at which the mean photograph fills the budget.

        From this variant alone: were it learnt from other formats, the bytes of one would depend on which
        others were asked for.
        """
        if budget is None:
            return self.recipe.quality_max
        offset, slope = ENCODERS[format].bytes_curve
        quality = (log(budget / (geometry.size[0] * geometry.size[1])) - offset) / slope
        return max(self.recipe.quality_min, min(self.recipe.quality_max, int(quality)))

    def _pixels(self, geometry: Geometry) -> Image.Image:
        if geometry not in self.rendered:
            width, height = self.info.width, self.info.height
            self.rendered[geometry] = render(self._base(geometry), geometry, width=width, height=height)
        return self.rendered[geometry]

    def _base(self, geometry: Geometry) -> Image.Image:
        """The smallest whole picture of the recipe that has GAP times the pixels needed, or the buffer."""
        width, height = (side * geometry.scale * GAP for side in (self.info.width, self.info.height))
        good = [base for base in self.bases if base.size[0] >= width and base.size[1] >= height]
        if not good:
            return self.buffer
        return self._pixels(min(good, key=lambda base: base.size))


def _write(path: Path, data: bytes, *, format: ImageFormat, size: tuple[int, int]) -> None:
    # The process id keeps two workers apart that make the same content-addressed file.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        verify_variant(part, format=format, size=size)
        part.replace(path)
    except OSError as error:
        fix = "Free disk space, or check the folder's permissions"
        cause = f"{path.name} cannot be written or read back ({error.strerror or error})"
        raise InfrastructureError(f"folder {path.parent}", cause=cause, fix=fix) from error
    finally:
        # Gone after the rename; whatever else is in the way was reported above.
        with suppress(OSError):
            part.unlink()
