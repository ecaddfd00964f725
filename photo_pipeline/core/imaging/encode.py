"""One encoder per output format and effort.

An encoder takes pixels and a quality and returns a whole file without any metadata. Which quality is
taken is decided in `search.py`. A new format is one function and one case of `encoder`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from math import ceil

import pillow_avif  # noqa: F401 - registers AVIF with every Pillow
from PIL import Image

from photo_pipeline.core.imaging.recipe import Effort, ImageFormat

# N. Robidoux's table as shipped by ImageMagick and mozjpeg (quant table 3), for luma and chroma alike:
# ssimulacra2 69.0 at 100 KB against 66.6 with libjpeg's own tables (facts/imaging.md).
_ROBIDOUX = (
    (16, 16, 16, 18, 25, 37, 56, 85),
    (16, 17, 20, 27, 34, 40, 53, 75),
    (16, 20, 24, 31, 43, 62, 91, 135),
    (18, 27, 31, 40, 53, 74, 106, 156),
    (25, 34, 43, 53, 69, 94, 131, 189),
    (37, 40, 62, 74, 94, 124, 169, 238),
    (56, 53, 91, 106, 131, 169, 226, 311),
    (85, 75, 135, 156, 189, 238, 311, 418),
)

Encode = Callable[[Image.Image, int], bytes]
"""From an RGB (or RGBA, where alpha is kept) image and a quality of 1-100 to a whole file."""

# libavif's speed of aom. ssimulacra2 at 100 KB and CPU seconds, means of 16 photographs at 1200 px in 4:2:0:
# from aom 8 (0.3 s on an idle core) to aom 7 0.4 points more in 1.8 times the time, to aom 6 1.0 more in 2.9
# times, to aom 5 some 1.8 more in some 15 times (3 photographs); aom 9 1.5 fewer in a quarter. SVT-AV1 4.1
# (tune 3) stays behind at speeds 7 and 6, and takes thrice the memory.
_AVIF_SPEED: dict[Effort, int] = {Effort.SPEED: 9, Effort.BALANCED: 8, Effort.QUALITY: 5}
_SCOUT_SPEED = 9
# Full colour: 0.5 points more than 4:2:0 at equal bytes for 4 % more time, on the same photographs (2 at the
# most colourful, never more than 0.06 fewer). A scout's file is only weighed, and 4:2:0 is a fifth quicker.
_FULL_COLOUR, _HALF_COLOUR = "4:4:4", "4:2:0"
# Pixels above which a slower speed is not used: a photo would take longer than its 30 s, or more than its 512
# MB (speed 5: 3 s per megapixel, speed 6: 1 s; speed 8: 6 s for 16 megapixels). Nor is full colour.
_LARGE_PIXELS = 7_000_000
_LEAST_SPEEDS = ((2_000_000, 6), (_LARGE_PIXELS, 8))

# Quantizers of which the next finer one takes about 10 % more bytes, where others take 5: aom changes to
# another quantization matrix there.
_WIDE_STEPS = frozenset({11, 16, 23, 31, 33, 36, 41})

# aom's own tuning for stills; on the same photographs "iq" scores 1.6 points less.
_AOM_TUNE = "ssimulacra2"


@dataclass(frozen=True)
class Encoder:
    """How to write one format with one effort.

    Attributes:
        name: The encoder's name in the size model.
        encode: Makes a file.
        good_fill: The share of a byte budget with which a search is content: higher where a try is cheap.
        caution: By how many standard deviations of the forecast a search aims below the budget.
        scout: A faster encoder of the same family, whose file size tells a picture's curve; or None.
    """

    name: str
    encode: Encode
    good_fill: float
    caution: float = 0.5
    scout: Encode | None = None


def encoder(format: ImageFormat, effort: Effort) -> Encoder:
    """Returns the encoder of a format.

    Args:
        format: The format.
        effort: How much time a file may cost; only AVIF knows a difference.
    """
    if format is ImageFormat.JPEG:
        return Encoder("jpeg", encode_jpeg, good_fill=0.96)
    if format is ImageFormat.WEBP:
        # Its sizes are foretold half as well as the others': aimed lower, a quarter more hit at once.
        return Encoder("webp", encode_webp, good_fill=0.85, caution=1.0)
    speed = _AVIF_SPEED[effort]
    return Encoder(
        f"avif-{effort}",
        partial(encode_avif, speed=speed),
        good_fill=0.895,
        scout=_scout if speed < _SCOUT_SPEED else None,
    )


def keeps_alpha(format: ImageFormat) -> bool:
    """Whether the format can hold transparency."""
    return format is not ImageFormat.JPEG


def encode_avif(image: Image.Image, quality: int, *, speed: int, subsampling: str = _FULL_COLOUR) -> bytes:
    """Encodes AVIF with aom.

    Args:
        image: RGB or RGBA.
        quality: 1-100, in finer steps than libavif's.
        speed: libavif's speed, 0 (slowest) to 10; very large pictures get a faster one.
        subsampling: Of the colours, as Pillow writes it; very large pictures get "4:2:0".

    Raises:
        MemoryError: The encoder could not get its memory or its threads.
    """
    # By size alone, so that the same pixels always get the same bytes.
    pixels = image.width * image.height
    speed = max([speed, *(least for limit, least in _LEAST_SPEEDS if pixels > limit)])
    if pixels > _LARGE_PIXELS:
        subsampling = _HALF_COLOUR
    coarse, strength = _aom_level(quality)
    # Quality 100 is lossless, for which aom has no tuning.
    tuning = {"tune": _AOM_TUNE, "deltaq-strength": strength} if quality < 100 else {}
    try:
        return saved(
            image,
            "AVIF",
            codec="aom",
            quality=coarse,
            speed=speed,
            subsampling=subsampling,
            # Photos are processed side by side, and aom's bytes depend on the number of threads.
            max_threads=1,
            advanced=tuning,
        )
    except RuntimeError as error:
        # The pixels and settings are valid by now: libavif's "encoding failed" is a failed malloc or thread.
        raise MemoryError(f"aom: {error}") from error


def encode_webp(image: Image.Image, quality: int) -> bytes:
    """Encodes lossy WebP with method 5: 1 % smaller than method 4 at the same time (facts/imaging.md)."""
    return saved(image, "WEBP", quality=quality, method=5)


def encode_lossless_webp(image: Image.Image) -> bytes:
    """Encodes WebP without loss, transparent pixels' hidden colours aside."""
    return saved(image, "WEBP", lossless=True, quality=75, method=4)


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """Encodes progressive JPEG 4:2:0 with optimised Huffman tables and Robidoux's quantisation."""
    # Tables come scaled and no quality is passed: Pillow then sizes its buffer at two bytes per pixel.
    # At the one byte of qualities below 95, noise overflows it ("Suspension not allowed here").
    tables = [_quantisation(quality)] * 2
    return saved(image, "JPEG", qtables=tables, progressive=True, optimize=True, subsampling="4:2:0")


def flattened(image: Image.Image, format: ImageFormat, background: tuple[int, int, int]) -> Image.Image:
    """Lays transparent pixels on a colour where the format cannot keep them.

    Args:
        image: RGB or RGBA.
        format: The format that it will be encoded in.
        background: The RGB colour.

    Returns:
        The image itself when nothing had to be done, else an RGB copy.
    """
    if image.mode != "RGBA" or keeps_alpha(format):
        return image
    ground = Image.new("RGB", image.size, background)
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """Returns a file without metadata, by Pillow's name of the format and its plugin's options."""
    buffer = BytesIO()
    # Explicitly empty, since each plugin falls back to the source's own metadata for some of these.
    image.save(buffer, format, exif=b"", icc_profile=b"", xmp=b"", comment=b"", **options)
    return buffer.getvalue()


def _scout(image: Image.Image, quality: int) -> bytes:
    return encode_avif(image, quality, speed=_SCOUT_SPEED, subsampling=_HALF_COLOUR)


def _aom_level(quality: int) -> tuple[int, int]:
    """The quality to tell libavif, and aom's deltaq-strength, that together stand for one of our qualities.

    libavif has 64 quantizers for its 100 qualities (avifQualityToQuantizer), 3 to 14 % of the bytes apart,
    which leaves 5 % of a budget unused. In between, the strength with which aom's tuning varies the quantizer
    over the picture moves the size by a few percent, at the same points per byte.

    Returns:
        A quality that libavif gives the nearest quantizer, and the strength in percent of aom's default.
    """
    wanted = (100 - quality) * 63 / 100
    quantizer = round(wanted)
    # Percent of strength that make up for one quantizer, measured on five photographs at 45 quantizers.
    per_quantizer = max(25.0, 112 - 3.4 * quantizer) * (2 if ceil(wanted) in _WIDE_STEPS else 1)
    return 100 - round(quantizer * 100 / 63), round(100 + (quantizer - wanted) * per_quantizer)


@cache
def _quantisation(quality: int) -> tuple[int, ...]:
    """Robidoux's table scaled as libjpeg does (jpeg_quality_scaling), within baseline's 1..255."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(255, max(1, (step * percent + 50) // 100)) for row in _ROBIDOUX for step in row)
