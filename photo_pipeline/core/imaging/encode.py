"""One encoder per output format and effort.

An encoder takes pixels and a quality and returns a whole file without any metadata. Which quality is
taken is decided in `search.py`. A new format is one function and one case of `encoder`.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from typing import Literal

import pillow_avif
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

# SVT-AV1 refuses sides below 4 px and drops tools at tiny sizes; aom encodes those in 2 ms.
_SVT_MIN_SIDE = 16
# SVT-AV1 takes some 45 bytes a pixel: at 12 MP it fails within the 512 MB that a photo may take, where aom
# (speed 8: 6 s for 16 MP) needs half. By size alone, so that the same pixels always get the same bytes.
_SVT_MAX_PIXELS = 7_000_000
_LARGE_SPEED = 8

Encode = Callable[[Image.Image, int], bytes]
"""From an RGB (or RGBA, where alpha is kept) image and a quality of 1-100 to a whole file."""

Codec = Literal["svt", "aom"]

# Codec and libavif's speed. Of both codecs at all speeds and tunings these lie on the frontier of ssimulacra2
# at 100 KB against CPU seconds (8 to 10 photographs at 1200 px): SVT 8 67.4 points at 0.12 s, SVT 7 68.4 at
# 0.19, SVT 6 69.2 at 0.40, aom 7 70.1 at 0.62, aom 6 70.5 at 0.94. Efforts are rows of `make bench-imaging`.
_AVIF_ENCODER: dict[Effort, tuple[Codec, int]] = {
    Effort.SPEED: ("svt", 8),
    Effort.BALANCED: ("svt", 7),
    Effort.QUALITY: ("aom", 6),
}
_SCOUT_SPEED = 10

# SVT-AV1's tuning for still pictures ("IQ"). At 100 KB and 1200 px it scores 4 to 6 ssimulacra2 points more
# than the default, which is tuned for PSNR of video (ten photographs, speeds 6 to 8; benchmarks/imaging).
_STILL_PICTURE = "3"
# aom's own tuning for stills; "iq" scores 0.9 points less, its default 1.1 less.
_AOM_TUNE = "ssimulacra2"


@dataclass(frozen=True)
class Encoder:
    """How to write one format with one effort.

    Attributes:
        name: The encoder's name in the size model.
        encode: Makes a file.
        good_fill: The share of a byte budget with which a search is content: higher where a try is cheap.
        scout: A faster encoder of the same family, whose file size tells a picture's curve; or None.
    """

    name: str
    encode: Encode
    good_fill: float
    scout: Encode | None = None


def encoder(format: ImageFormat, effort: Effort) -> Encoder:
    """Returns the encoder of a format.

    Args:
        format: The format.
        effort: How much time a file may cost; only AVIF knows a difference.
    """
    if format is ImageFormat.JPEG:
        return Encoder("jpeg", encode_jpeg, good_fill=0.97)
    if format is ImageFormat.WEBP:
        return Encoder("webp", encode_webp, good_fill=0.92)
    codec, speed = _AVIF_ENCODER[effort]
    return Encoder(
        f"avif-{effort}",
        partial(encode_avif, codec=codec, speed=speed),
        good_fill=0.93,
        scout=partial(encode_avif, codec="svt", speed=_SCOUT_SPEED),
    )


def keeps_alpha(format: ImageFormat) -> bool:
    """Whether the format can hold transparency."""
    return format is not ImageFormat.JPEG


def encode_avif(image: Image.Image, quality: int, *, codec: Codec, speed: int) -> bytes:
    """Encodes AVIF 4:2:0; with aom also where SVT-AV1 is absent, refuses the size or needs too much memory.

    SVT-AV1's CRF has quarter steps; qualities of 1-100 spread over its 0-63 (lower is better), so that each
    step of quality is another file, where libavif's own scale has 64 steps of about 5 % in bytes.

    Args:
        image: RGB or RGBA.
        quality: 1-100.
        codec: "svt" or "aom".
        speed: libavif's speed, 0 (slowest) to 10.

    Raises:
        MemoryError: The encoder could not get its memory or its threads.
    """
    if image.width * image.height > _SVT_MAX_PIXELS:
        codec, speed = "aom", max(speed, _LARGE_SPEED)
    # One thread: photos are processed side by side, and aom's bytes depend on the number of threads.
    options: dict[str, object] = {"speed": speed, "subsampling": "4:2:0", "max_threads": 1}
    if codec == "svt" and _has_svt() and min(image.size) >= _SVT_MIN_SIDE:
        crf = round(63 * (100 - quality) / 100 * 4) / 4
        options |= {"codec": "svt", "advanced": {"tune": _STILL_PICTURE, "crf": f"{crf:g}"}}
    else:
        options |= {"codec": "aom", "quality": quality, "advanced": {"tune": _AOM_TUNE}}
    try:
        with _ordinary_priority():
            return saved(image, "AVIF", **options)
    except RuntimeError as error:
        # The pixels and settings are valid by now: libavif's "encoding failed" is a failed malloc or thread.
        raise MemoryError(f"{options['codec']}: {error}") from error


@contextmanager
def _ordinary_priority() -> Iterator[None]:
    """Undo what SVT-AV1 does to its caller when it runs as root: real-time scheduling (SCHED_FIFO).

    Left so, the process, and every program that it starts later, starves all others of the machine.
    """
    if sys.platform != "linux":
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)


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


@cache
def _quantisation(quality: int) -> tuple[int, ...]:
    """Robidoux's table scaled as libjpeg does (jpeg_quality_scaling), within baseline's 1..255."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(255, max(1, (step * percent + 50) // 100)) for row in _ROBIDOUX for step in row)


@cache
def _has_svt() -> bool:
    # SVT prints 20 lines per image to stderr unless told before its first use; 1 is errors only.
    os.environ.setdefault("SVT_LOG", "1")
    return bool(pillow_avif.AvifImagePlugin._avif.encoder_codec_available("svt"))
