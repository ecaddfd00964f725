"""From one photo to all of its variants: one decode, one buffer, every file verified before it counts.

Isolation, time and memory limits live in `pool.py`; this module runs wherever it is called.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, log
from pathlib import Path
from time import perf_counter

from PIL import Image

from photo_pipeline.core.imaging.animation import ANIMATED_FORMATS, Animation, decode_animation
from photo_pipeline.core.imaging.best_file import best_animation, best_file
from photo_pipeline.core.imaging.decode import decode, fitting
from photo_pipeline.core.imaging.fingerprint import perceptual_hash
from photo_pipeline.core.imaging.header import SourceInfo, read_header
from photo_pipeline.core.imaging.placeholder import Placeholder, make_placeholder
from photo_pipeline.core.imaging.recipe import ImageFormat, Recipe, VariantSpec
from photo_pipeline.core.imaging.rendering import Rendering
from photo_pipeline.core.imaging.resize import GAP, Geometry, plan
from photo_pipeline.core.imaging.search import SearchResult
from photo_pipeline.core.imaging.size_model import Floats, probe
from photo_pipeline.core.imaging.writing import write_variant

STAGES = ("decode", "resize", "encode", "hash", "write", "placeholder")

# When not even the lowest quality fits, each step takes 28 % of the pixels away (0.85 squared); eight
# steps end at 27 % of the width, beyond which a picture is not worth its URL.
SHRINK = 0.85
MAX_SHRINKS = 8

# Formats that drawings, screenshots and scans come in; photographs in them are told by their colours.
_LOSSLESS_SOURCES = {"PNG", "GIF", "BMP", "TIFF"}

# Other files of several frames hold depth maps, gain maps and pages, which are no animation.
_ANIMATED_SOURCES = {"GIF", "PNG", "WEBP", "AVIF"}

# An AVIF or JPEG takes 300 to 600 bytes of headers alone: a smaller source is no yardstick for bytes.
_TINY_BYTES = 1024


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
        quality: The quality it was encoded with (1-100, each format's own scale; 100 is lossless).
        encodes: How many encodes the search took, all pixel sizes together; the scout's fast ones aside.
        met_target: Whether it fits its byte target, and its source's bytes at the source's own size.
        sha256: Hex digest of the file.
        md5: The same, as many object stores name a file by it.
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
    md5: str


@dataclass(frozen=True)
class MadePhoto:
    """All that was made of one photo.

    Attributes:
        info: What the source's header said.
        variants: The files, in the order in which they were asked for.
        placeholder: What a page shows before the photo has arrived.
        perceptual_hash: What the picture looks like; see `fingerprint.py`.
        timings: Seconds of wall time for each of STAGES; verification counts as "write".
    """

    info: SourceInfo
    variants: tuple[MadeVariant, ...]
    placeholder: Placeholder
    perceptual_hash: str
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
        size = buffer_size(recipe, info)
        buffer = decode(source, info, size=size)
    rendering = Rendering(recipe, buffer, width=info.width, height=info.height)
    with clock.timed("decode"):
        moving = _Moving.of(source, info, recipe, size=size)
    maker = _Maker(recipe, info, rendering, moving, source_bytes=source.stat().st_size, clock=clock)
    made = tuple(maker.make(spec, format, out(spec.name, format)) for spec, format in wanted)
    with clock.timed("placeholder"):
        placeholder, fingerprint = make_placeholder(buffer), perceptual_hash(buffer)
    return MadePhoto(
        info=info,
        variants=made,
        placeholder=placeholder,
        perceptual_hash=fingerprint,
        timings=clock.seconds,
    )


def buffer_size(recipe: Recipe, info: SourceInfo) -> tuple[int, int]:
    """The size to decode to: exactly the largest variant's, if all others can be made from that one."""
    plans = [plan(spec, width=info.width, height=info.height) for spec in recipe.variants]
    largest = max(plans, key=lambda geometry: geometry.scale)
    others = {geometry.scale for geometry in plans if geometry.size != largest.size}
    shows_all = largest.box == (0, 0, info.width, info.height)
    if shows_all and all(scale * GAP <= largest.scale for scale in others):
        return largest.size
    return fitting(info, largest.scale * GAP)


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


@dataclass(frozen=True)
class _Moving:
    """An animation that stays one: its frames, each with renderings of its own."""

    animation: Animation
    renderings: tuple[Rendering, ...]

    @classmethod
    def of(cls, source: Path, info: SourceInfo, recipe: Recipe, *, size: tuple[int, int]) -> "_Moving | None":
        """Decodes the source's frames, or returns None if it has one or the recipe wants one."""
        if recipe.animation != "keep" or info.frames < 2 or info.format not in _ANIMATED_SOURCES:
            return None
        animation = decode_animation(source, info, size=size, max_pixels=recipe.max_pixels)
        renderings = (
            Rendering(recipe, frame, width=info.width, height=info.height) for frame in animation.frames
        )
        return cls(animation, tuple(renderings))

    def pixels(self, geometry: Geometry, format: ImageFormat) -> list[Image.Image]:
        """Returns a variant's pixels of each frame."""
        return [rendering.pixels(geometry, format) for rendering in self.renderings]


class _Maker:
    """Makes the files of one decoded photo."""

    def __init__(
        self,
        recipe: Recipe,
        info: SourceInfo,
        rendering: Rendering,
        moving: _Moving | None,
        *,
        source_bytes: int,
        clock: _Clock,
    ) -> None:
        self.recipe = recipe
        self.info = info
        self.rendering = rendering
        self.moving = moving
        self.measured: dict[Geometry, Floats] = {}
        self.source_bytes = source_bytes
        self.clock = clock

    def make(self, spec: VariantSpec, format: ImageFormat, path: Path) -> MadeVariant:
        geometry, found = self._fitted(spec, format)
        with self.clock.timed("hash"):
            sha256 = hashlib.sha256(found.data).hexdigest()
            md5 = hashlib.md5(found.data, usedforsecurity=False).hexdigest()
        with self.clock.timed("write"):
            animated = self._moving(format) is not None
            write_variant(path, found.data, format=format, size=geometry.size, animated=animated)
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
            sha256=sha256,
            md5=md5,
        )

    def _fitted(self, spec: VariantSpec, format: ImageFormat) -> tuple[Geometry, SearchResult]:
        """The best file at the largest pixel size that meets the byte target, or the last one tried."""
        encodes = step = 0
        while True:
            geometry = self.rendering.geometry(spec, shrink=SHRINK**step)
            found = self._searched(spec, format, geometry)
            encodes += found.encodes
            if found.met or step == MAX_SHRINKS:
                return geometry, replace(found, encodes=encodes)
            # Where only the source is smaller, one step will do: at other dimensions it is no yardstick.
            target = max(spec.max_bytes or 0, self._budget(spec, geometry) or 0)
            step = min(MAX_SHRINKS, step + _needed_steps(len(found.data), target))

    def _searched(self, spec: VariantSpec, format: ImageFormat, geometry: Geometry) -> SearchResult:
        moving, budget = self._moving(format), self._budget(spec, geometry)
        if moving is not None:
            return self._animated(moving, format, geometry, budget)
        with self.clock.timed("resize"):
            pixels = self.rendering.pixels(geometry, format)
        with self.clock.timed("encode"):
            return best_file(
                pixels,
                format,
                self.recipe,
                max_bytes=budget,
                is_drawing=self.info.format in _LOSSLESS_SOURCES,
                features=partial(self._features, geometry),
            )

    def _moving(self, format: ImageFormat) -> _Moving | None:
        """The animation, for a format that can hold one."""
        return self.moving if format in ANIMATED_FORMATS else None

    def _features(self, geometry: Geometry) -> Floats:
        """What the size model wants to know of a variant's pixels: measured once for all formats."""
        if geometry not in self.measured:
            self.measured[geometry] = probe(self.rendering.pixels(geometry, ImageFormat.JPEG))
        return self.measured[geometry]

    def _animated(
        self, moving: _Moving, format: ImageFormat, geometry: Geometry, budget: int | None
    ) -> SearchResult:
        with self.clock.timed("resize"):
            frames = moving.pixels(geometry, format)
        with self.clock.timed("encode"):
            return best_animation(frames, moving.animation, format, self.recipe, max_bytes=budget)

    def _budget(self, spec: VariantSpec, geometry: Geometry) -> int | None:
        """The byte target; at the source's own dimensions never more than the source's bytes."""
        if geometry.size != (self.info.width, self.info.height) or self.source_bytes < _TINY_BYTES:
            return spec.max_bytes
        return min(spec.max_bytes or self.source_bytes, self.source_bytes)


def _needed_steps(size: int, max_bytes: int) -> int:
    """Returns how many steps down are needed at the least: bytes shrink more slowly than pixels do."""
    return max(1, ceil(log(max_bytes / size) / log(SHRINK**2)))
