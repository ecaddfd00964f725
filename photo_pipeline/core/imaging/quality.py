"""How much a variant still looks like its photo: ssimulacra2 points, a perceptual metric.

| points | what people see (the metric's author)                                     |
|--------|---------------------------------------------------------------------------|
| 100    | identical pixels                                                          |
| 90     | visually lossless                                                         |
| 70     | high quality: artefacts are hard to notice without the original beside it |
| 50     | medium quality                                                            |
| 30     | low quality                                                               |
| < 0    | very strong distortion; there is no lower bound                           |

A variant is measured against its photo, resized without loss to the variant's own pixels, with the watermark
that belongs there but not sharpened: what sharpening does to the picture is a part of what is measured. Only
whole pictures can be compared so: a variant that is cropped (fit "cover") must not be handed in. Which
variants are measured, and where the points are kept, is `core.migration.visual_quality`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from io import BytesIO
from math import isfinite, sqrt
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from PIL import Image

from photo_pipeline.core.errors import PhotoError
from photo_pipeline.core.imaging.decode import decode, fitting
from photo_pipeline.core.imaging.encode import flattened
from photo_pipeline.core.imaging.finish import Watermark, watermarked
from photo_pipeline.core.imaging.header import DAMAGE_ERRORS, PILLOW_FORMATS, read_header
from photo_pipeline.core.imaging.pool import MIB, ImageWorkers, PhotoTask
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.imaging.variants import MadePhoto

METRIC = "ssimulacra2"

# Larger pictures are judged by this much of their middle: the metric's memory and time grow with the pixels.
MAX_PIXELS = 1_500_000

# Below 8 px the metric compares nothing and calls everything identical.
MIN_SIDE = 8

# The metric's six scales halve down to 8 px. Below 225 px it leaves scales out but keeps reading the weights
# in order, so that they belong to other scales: a JPEG of quality 95 and 120x80 px gets -14 points. The same
# picture continued by its mirror image gets 83, as it does at 400 px.
_SIX_SCALES_SIDE = 225

# The photo is decoded at twice what the variant needs, so that the variant's own short cut (DCT scaling to
# GAP times its size) is a part of what is measured, and yet a photo of 100 megapixels stays small.
_REFERENCE_SCALE = 2

# Address space that a worker may grow by. It grows by 0.8 GB at 1200x900 px and by 1.03 GB at MAX_PIXELS
# (615 and 840 MB of it resident), numpy's and SciPy's own 0.25 GB included. The photo is gone by then.
MEMORY_BYTES = 1536 * MIB

# Three formats take 6 s at 1200x900 px and 9 s at MAX_PIXELS on an idle core (the first 1.5 s longer than the
# others, with all that is imported); busy ones take several times as long. Shorter than a lease, which is
# renewed once per photo.
TIMEOUT_S = 90

_VARIANT_FORMATS = tuple(plugin for each in ImageFormat for plugin in PILLOW_FORMATS[each.name])


@cache
def metric_version() -> str:
    """Returns the metric's name and version, as it is stored beside each score."""
    return f"{METRIC} {version(METRIC)}"


def make_reference(
    source: Path,
    sizes: Iterable[tuple[int, int]],
    *,
    background: tuple[int, int, int],
    max_pixels: int,
    watermark: Watermark | None = None,
) -> dict[tuple[int, int], Image.Image]:
    """Resizes a photo to each of the sizes, upright, in sRGB, without any loss but that of the pixels.

    Args:
        source: The photo; it is decoded once.
        sizes: The variants' widths and heights.
        background: RGB colour under transparent pixels.
        max_pixels: Photos of more pixels are refused from their header.
        watermark: What is laid on the variants.

    Returns:
        The whole picture as RGB, by size.

    Raises:
        PhotoError: The photo cannot be decoded; the subclass says why.
        ConfigurationError: The watermark's file is missing or no picture.
    """
    wanted = set(sizes)
    info = read_header(source, max_pixels=max_pixels)
    scale = max(max(size[0] / info.width, size[1] / info.height) for size in wanted)
    photo = decode(source, info, size=fitting(info, scale * _REFERENCE_SCALE))
    pictures = {size: photo.resize(size, Image.Resampling.LANCZOS) for size in wanted}
    if watermark is not None:
        pictures = {size: watermarked(picture, watermark) for size, picture in pictures.items()}
    return {size: _opaque(picture, background) for size, picture in pictures.items()}


def measure(
    reference: Image.Image, variant: Path | bytes, *, background: tuple[int, int, int] = (255, 255, 255)
) -> float:
    """Measures how much a variant looks like its photo.

    Pictures of more than MAX_PIXELS are judged by their central crop of that many pixels. Transparent
    pixels are judged as they look on the background.

    Args:
        reference: The photo at the variant's size, from `make_reference`.
        variant: The variant's file, or its bytes.
        background: RGB colour under transparent pixels.

    Returns:
        ssimulacra2 points, at most 100, without a lower bound.

    Raises:
        PhotoError: The variant cannot be decoded, has another size, or fewer than MIN_SIDE pixels a side.
    """
    shown = open_variant(variant, background=background)
    cause = _why_not_measurable(reference.size, shown.size)
    if cause is not None:
        raise PhotoError(_name(variant), cause=cause)
    score = _ssimulacra2(_middle(_opaque(reference, background)), _middle(shown))
    if not isfinite(score):
        raise PhotoError(_name(variant), cause=f"{METRIC} comes to {score}")
    return score


def open_variant(variant: Path | bytes, *, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """Decodes one of our variants as RGB.

    Raises:
        PhotoError: It is gone, damaged, or of a format that is never made here.
    """
    try:
        file = BytesIO(variant) if isinstance(variant, bytes) else variant
        with Image.open(file, formats=_VARIANT_FORMATS) as image:
            image.load()
            return _opaque(image, background)
    except (Image.DecompressionBombError, *DAMAGE_ERRORS) as error:
        cause = f"it cannot be decoded ({str(error).rstrip('.') or type(error).__name__})"
        raise PhotoError(_name(variant), cause=cause) from error


@dataclass(frozen=True)
class VariantFile:
    """One variant to measure.

    Attributes:
        key: The caller's name of it, handed back with its score.
        path: The file.
        size: Its width and height in pixels.
    """

    key: str
    path: Path
    size: tuple[int, int]


@dataclass(frozen=True)
class Score:
    """What became of one VariantFile: `points`, or the `reason` why there are none."""

    key: str
    points: float | None
    reason: str | None = None


@dataclass(frozen=True)
class QualityTask:
    """One photo and those of its variants that are to be measured; all of them show the whole picture.

    Attributes:
        id: The caller's name of the photo.
        source: The photo.
        variants: Its variants.
        background: RGB colour under transparent pixels.
        max_pixels: Photos of more pixels are refused from their header.
        watermark: What is laid on the variants.
    """

    id: str
    source: Path
    variants: tuple[VariantFile, ...]
    background: tuple[int, int, int]
    max_pixels: int
    watermark: Watermark | None = None


def measure_task(task: QualityTask) -> tuple[Score, ...]:
    """Measures a task's variants in this process.

    Raises:
        PhotoError: The photo cannot be decoded. A variant that cannot be measured has its reason instead.
        ConfigurationError: The watermark's file is missing or no picture.
    """
    references = make_reference(
        task.source,
        [variant.size for variant in task.variants],
        background=task.background,
        max_pixels=task.max_pixels,
        watermark=task.watermark,
    )
    return tuple(_score(variant, references[variant.size], task.background) for variant in task.variants)


class QualityWorkers:
    """Processes that measure variants, as a context manager.

    Not in the run's own process: the photo is decoded again, and it may be hostile.
    """

    def __init__(self, workers: int) -> None:
        """Takes the number of processes; they start with the first task."""
        # The pool hands tasks and results through as they are; its types name what it was first made for.
        work = cast(Callable[[PhotoTask], MadePhoto], measure_task)
        self._pool = ImageWorkers(workers, timeout_s=TIMEOUT_S, memory_bytes=MEMORY_BYTES, work=work)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, trace)

    def measure(
        self, tasks: Iterable[QualityTask]
    ) -> Iterator[tuple[QualityTask, tuple[Score, ...] | PhotoError]]:
        """Measures photos side by side.

        Yields:
            Each task once with its variants' scores, or with the error that stopped it as a whole, in order
            of completion.

        Raises:
            PhotoPipelineError: The pool broke, or the watermark is gone; tasks not yet yielded are dropped.
        """
        results = self._pool.process(cast(Iterable[PhotoTask], tasks))
        yield from cast(Iterator[tuple[QualityTask, tuple[Score, ...] | PhotoError]], results)


def _score(variant: VariantFile, reference: Image.Image, background: tuple[int, int, int]) -> Score:
    try:
        return Score(variant.key, measure(reference, variant.path, background=background))
    except PhotoError as error:
        return Score(variant.key, None, error.cause)


def _why_not_measurable(wanted: tuple[int, int], size: tuple[int, int]) -> str | None:
    if size != wanted:
        return f"it has {size[0]}x{size[1]} px and not {wanted[0]}x{wanted[1]}"
    if min(size) < MIN_SIDE:
        return f"{size[0]}x{size[1]} px are too few for {METRIC}, which needs {MIN_SIDE} px a side"
    return None


def _name(variant: Path | bytes) -> str:
    return variant.name if isinstance(variant, Path) else "the variant"


def _opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """The picture as JPEG, which keeps no transparency, would show it."""
    return flattened(image, ImageFormat.JPEG, background).convert("RGB")


def _middle(image: Image.Image) -> Image.Image:
    """At most MAX_PIXELS of the picture's middle, in its own proportions."""
    factor = sqrt(MAX_PIXELS / (image.width * image.height))
    if factor >= 1:
        return image
    width, height = int(image.width * factor), int(image.height * factor)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _ssimulacra2(reference: Image.Image, shown: Image.Image) -> float:
    # Imported here: with SciPy it takes 0.6 s, which only those pay who measure.
    from ssimulacra2 import compute_ssimulacra2

    # It takes files only. PPM is the pixels behind a header of 15 bytes.
    return float(compute_ssimulacra2(_as_file(reference), _as_file(shown)))


def _as_file(image: Image.Image) -> BytesIO:
    file = BytesIO()
    _mirrored(image).save(file, "PPM")
    file.seek(0)
    return file


def _mirrored(image: Image.Image) -> Image.Image:
    """The picture, continued by its mirror image to a size at which the metric has all of its scales."""
    right, bottom = (max(0, _SIX_SCALES_SIDE - side) for side in image.size)
    if not right and not bottom:
        return image
    # As above: without a small picture nobody needs it.
    import numpy as np

    return Image.fromarray(np.pad(np.asarray(image), ((0, bottom), (0, right), (0, 0)), mode="symmetric"))
