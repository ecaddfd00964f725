"""What to make of a photo: sizes, formats, byte targets, and the digest that names the result.

Plain values only. How pixels are resized or encoded lives in `resize.py` and `encode.py`.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import PIL
import pillow_avif
from PIL import features

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.imaging.model_file import model_digest

if TYPE_CHECKING:  # It reads pictures, with modules that stand on this one.
    from photo_pipeline.core.imaging.finish import Watermark

# Raised by hand whenever a change of this package changes the bytes that it makes.
ENGINE_VERSION = 4

# Pillow itself raises above 2 x its MAX_IMAGE_PIXELS default, so a higher limit would not take effect.
PILLOW_PIXEL_CEILING = 178_956_970


class ImageFormat(StrEnum):
    """A format that variants are written in."""

    AVIF = "avif"
    WEBP = "webp"
    JPEG = "jpeg"

    @property
    def extension(self) -> str:
        """The file extension without its dot."""
        return "jpg" if self is ImageFormat.JPEG else self.value

    @property
    def mime(self) -> str:
        """The media type to serve the format with."""
        return f"image/{self.value}"


class Effort(StrEnum):
    """How much time a file may cost. `make bench-imaging` has a row for each."""

    SPEED = "speed"
    BALANCED = "balanced"
    QUALITY = "quality"


@dataclass(frozen=True)
class VariantSpec:
    """One size to make of each photo.

    Attributes:
        name: The variant's name, as in file names and catalog ("full", "thumb").
        fit: "inside" keeps the whole picture within the box; "cover" fills the box and crops the rest.
        width: Width of the box in pixels.
        height: Height of the box in pixels.
        max_bytes: The byte target of each file; None for no target.
        crop: Where "cover" crops: "attention" finds the subject, "center" takes the middle.
    """

    name: str
    fit: Literal["inside", "cover"]
    width: int
    height: int
    max_bytes: int | None
    crop: Literal["attention", "center"] = "attention"

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ConfigurationError(
                f"variant {self.name}",
                cause=f"a box of {self.width}x{self.height} px holds no picture",
                fix="Give it a width and a height of at least 1",
            )
        if self.max_bytes is not None and self.max_bytes < 1:
            raise ConfigurationError(
                f"variant {self.name}",
                cause=f"no file fits into {self.max_bytes} bytes",
                fix="Raise max_bytes, or leave it out for no target",
            )


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is made of a photo.

    Attributes:
        variants: The sizes.
        formats: The formats that each size is made in.
        quality_min: The lowest quality that may be chosen to meet a byte target (1-100).
        quality_max: The highest quality, taken where the target allows it (1-100).
        effort: How much time a file may cost.
        sharpen: Whether variants of SHARPEN_MIN_SIDE px and more are sharpened lightly.
        watermark: What is laid on every variant, or None.
        animation: "keep" writes animations as such in the formats that can; "first_frame" never does.
        focal_point: What "cover" variants keep in the middle, as fractions of the photo's width and height;
            None to find it. Belongs to one photo.
        background: RGB colour under transparent pixels, for formats without transparency.
        max_pixels: Photos of more pixels are refused from their header, before any is decoded.
    """

    variants: tuple[VariantSpec, ...]
    formats: tuple[ImageFormat, ...] = (ImageFormat.AVIF, ImageFormat.WEBP, ImageFormat.JPEG)
    quality_min: int = 20
    quality_max: int = 85
    effort: Effort = Effort.BALANCED
    sharpen: bool = False
    watermark: "Watermark | None" = None
    animation: Literal["first_frame", "keep"] = "first_frame"
    focal_point: tuple[float, float] | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        if not self.variants or not self.formats:
            cause = "it names no variants or no formats"
            raise ConfigurationError("recipe", cause=cause, fix="Give it at least one of each")
        if not 1 <= self.quality_min <= self.quality_max <= 100:
            raise ConfigurationError(
                "recipe.quality",
                cause=f"{self.quality_min}..{self.quality_max} is no range within 1..100",
                fix="Set quality_min <= quality_max, both from 1 to 100",
            )
        if not 1 <= self.max_pixels <= PILLOW_PIXEL_CEILING:
            raise ConfigurationError(
                "recipe.max_pixels",
                cause=f"{self.max_pixels} is outside of 1..{PILLOW_PIXEL_CEILING}",
                fix=f"Set it to {PILLOW_PIXEL_CEILING} at most",
            )

    @cached_property
    def digest(self) -> str:
        """The recipe's name in object keys: equal digests mean equal bytes for equal sources.

        Returns:
            The first 12 hex digits of a SHA-256 over every setting that shapes the bytes, the encoders'
            versions and ENGINE_VERSION. `max_pixels` is left out: it refuses photos and shapes none.
        """
        settings = asdict(self)
        del settings["max_pixels"]
        settings["watermark"] = self.watermark.digest() if self.watermark else None
        shape = {
            "recipe": settings,
            "libraries": library_versions(),
            "size_model": model_digest(),
            "engine": ENGINE_VERSION,
        }
        text = json.dumps(shape, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def library_versions() -> dict[str, str | None]:
    """Versions of every library between the source's bytes and a variant's bytes.

    Returns:
        Library name to version; None where a library is absent.
    """
    names = ("avif", "webp", "libjpeg_turbo", "jpg", "littlecms2")
    versions: dict[str, str | None] = {name: features.version(name) for name in names}
    versions["pillow"] = PIL.__version__
    versions["pillow_avif"] = pillow_avif.__version__
    # aom and dav1d are updated without libavif's own version changing.
    versions["avif_codecs"] = pillow_avif.AvifImagePlugin._avif.codec_versions()
    versions["heic"] = "pillow_heif" if find_spec("pillow_heif") else None
    return versions
