"""The last touches before a variant is encoded: sharpening, and a watermark.

Which variants get them is decided by the caller. Nothing here changes a picture's size.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from PIL import Image, ImageFilter

from photo_pipeline.core.errors import ConfigurationError, PhotoError, PhotoMemoryError
from photo_pipeline.core.imaging.decode import decode
from photo_pipeline.core.imaging.header import read_header

# Pixels of the longer side from which variants are sharpened: thumbnails show too little detail to gain.
SHARPEN_MIN_SIDE = 800

# An unsharp mask: a quarter of the difference to the mean of 3x3 pixels is added. sharp's default ("fast,
# mild sharpen", lovell/sharp, operations.cc) is the same mask with 0.375. On 12 photos at 1200 px the mean
# step between neighbours grows by 18 % (with 0.375: 27 %), the bytes at the same quality by 8 % in JPEG and
# 12 % in WebP (11 and 18 %); a hard edge of 128 levels overshoots by 10 (16), one blurred by 0.6 px not at
# all. No threshold: one of 3 levels saves less than 1 % of the bytes and takes a 2.5 times slower filter.
_SHARPEN_RADIUS = 1
_SHARPEN_AMOUNT = 0.25

# A mark is at most as wide as a variant; more would only be kept in each worker's memory.
MAX_MARK_PIXELS = 4_000_000

Position = Literal["bottom-right", "bottom-left", "top-right", "top-left", "center"]


@dataclass(frozen=True)
class Watermark:
    """A mark that is laid over variants.

    Attributes:
        image: Its file, of any format that photos may have; best a PNG with transparency.
        opacity: How strongly it covers, above 0 to 1; multiplies its own transparency.
        position: The corner it is put in, or the middle.
        scale: Its width as a share of the variant's width, above 0 to 1; never beyond its own pixels.
        margin: Its distance from the edges as a share of the variant's shorter side, 0 to below 0.5.
        sha256: Hex digest of the content that is meant, so that a file that is replaced during a run is
            refused and not laid on the rest; None for whatever is there.
    """

    image: Path
    opacity: float = 0.5
    position: Position = "bottom-right"
    scale: float = 0.2
    margin: float = 0.02
    sha256: str | None = None

    def __post_init__(self) -> None:
        for name in ("opacity", "scale"):
            if not 0 < getattr(self, name) <= 1:
                raise _refused(name, getattr(self, name), fix="Give a number above 0, at most 1")
        if not 0 <= self.margin < 0.5:
            raise _refused("margin", self.margin, fix="Give a number from 0 to below 0.5")
        if self.position not in get_args(Position):
            raise _refused("position", self.position, fix=f"Use one of {', '.join(get_args(Position))}")

    def pinned(self) -> "Watermark":
        """Returns the mark that stands for the file's present content alone.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        return replace(self, sha256=hashlib.sha256(_bytes(self)).hexdigest())

    def digest(self) -> str:
        """Identifies what the mark does to a variant, for the recipe's digest.

        Returns:
            Hex SHA-256 over the file's bytes and all settings; the file's name and place do not count.

        Raises:
            ConfigurationError: The file is missing, no picture, or not the content that is meant, so that a
                bad one is found before any photo is touched.
        """
        _mark(self)
        settings = [self.opacity, self.position, self.scale, self.margin, self.pinned().sha256]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


def sharpened(image: Image.Image) -> Image.Image:
    """Sharpens a variant mildly, for sides of SHARPEN_MIN_SIDE pixels and more.

    Args:
        image: RGB or RGBA.

    Returns:
        A copy. Flat areas and the alpha channel are unchanged, and colours under transparent pixels do not
        reach visible ones.
    """
    blur = ImageFilter.BoxBlur(_SHARPEN_RADIUS)
    if image.mode != "RGBA":
        # A blend beyond 1 leads away from the blurred picture.
        return Image.blend(image.filter(blur), image, 1 + _SHARPEN_AMOUNT)
    # Premultiplied, so that each neighbour counts by its opacity.
    blurred = image.convert("RGBa").filter(blur).convert("RGBA")
    sharp = Image.blend(blurred.convert("RGB"), image.convert("RGB"), 1 + _SHARPEN_AMOUNT)
    sharp.putalpha(image.getchannel("A"))
    return sharp


def watermarked(image: Image.Image, mark: Watermark) -> Image.Image:
    """Lays a mark over a variant.

    Args:
        image: RGB or RGBA, of any size.
        mark: The mark. Where it would not fit between the margins it is made smaller, down to a pixel.

    Returns:
        A copy of the same mode. On transparent ground the mark is as opaque as itself.

    Raises:
        ConfigurationError: The mark's file is missing or no picture.
        PhotoMemoryError: The mark could not be decoded in the memory that is left.
    """
    margin = round(mark.margin * min(image.size))
    stamp = _stamp(mark, room=(image.width - 2 * margin, image.height - 2 * margin), width=image.width)
    place = _place(mark.position, room=image.size, size=stamp.size, margin=margin)
    marked = image.copy()
    if marked.mode == "RGBA":
        marked.alpha_composite(stamp, place)
    else:
        marked.paste(stamp, place, stamp)
    return marked


def _stamp(mark: Watermark, *, room: tuple[int, int], width: int) -> Image.Image:
    """The mark at the size and opacity at which it is laid over a variant of that width."""
    stamp = _mark(mark)
    factor = min(1.0, mark.scale * width / stamp.width, room[0] / stamp.width, room[1] / stamp.height)
    size = (max(1, int(stamp.width * factor)), max(1, int(stamp.height * factor)))
    stamp = stamp.resize(size, Image.Resampling.LANCZOS)
    stamp.putalpha(stamp.getchannel("A").point(lambda alpha: round(alpha * mark.opacity)))
    return stamp


def _place(
    position: Position, *, room: tuple[int, int], size: tuple[int, int], margin: int
) -> tuple[int, int]:
    """The mark's left and top in pixels."""
    free = (room[0] - size[0], room[1] - size[1])
    if position == "center":
        return free[0] // 2, free[1] // 2
    left = margin if "left" in position else free[0] - margin
    top = margin if "top" in position else free[1] - margin
    return left, top


def _mark(mark: Watermark) -> Image.Image:
    """The mark's pixels, RGBA."""
    try:
        state = mark.image.stat()
        return _decoded(mark, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise _unreadable(mark, error) from error
    except PhotoMemoryError:
        # The worker's limit is at fault, and the photo that took up the memory.
        raise
    except PhotoError as error:
        raise _broken(mark, error.cause) from error


@lru_cache(maxsize=4)
def _decoded(mark: Watermark, modified_ns: int, size_bytes: int) -> Image.Image:
    """Decodes a mark once per process; a file that was replaced has another time or size."""
    if mark.sha256 not in (None, mark.pinned().sha256):
        cause = "the file was replaced during the run, and its photos would get two different marks"
        fix = "Run it again: the new mark makes new objects, the old one's stay as they are"
        raise ConfigurationError(f"watermark {mark.image}", cause=cause, fix=fix)
    info = read_header(mark.image, max_pixels=MAX_MARK_PIXELS)
    return decode(mark.image, info, size=(info.width, info.height)).convert("RGBA")


def _bytes(mark: Watermark) -> bytes:
    try:
        return mark.image.read_bytes()
    except OSError as error:
        raise _unreadable(mark, error) from error


def _unreadable(mark: Watermark, error: OSError) -> ConfigurationError:
    return _broken(mark, f"it cannot be read ({error.strerror or error})")


def _broken(mark: Watermark, cause: str) -> ConfigurationError:
    fix = f"name a PNG of at most {MAX_MARK_PIXELS} pixels that can be read from here"
    return ConfigurationError(f"watermark {mark.image}", cause=cause, fix=fix)


def _refused(setting: str, value: object, *, fix: str) -> ConfigurationError:
    return ConfigurationError(f"watermark.{setting}", cause=f"{value!r} is not allowed", fix=fix)
