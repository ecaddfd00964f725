"""From a file to one upright sRGB buffer, no larger than the largest variant needs.

Every pixel layout that can arrive is turned into RGB or RGBA here, on purpose:

| source                                  | becomes                                                    |
|-----------------------------------------|------------------------------------------------------------|
| RGB, RGBA, L, LA, P, 1 (with/without tRNS) | RGB, or RGBA when a pixel is transparent                |
| 16-bit grey (I;16)                      | divided by 256; a plain convert would clip to white        |
| 32-bit and float grey (I, F)            | divided so that 255, 65535 or its own maximum is white     |
| CMYK with profile                       | through the profile to sRGB                                |
| CMYK without profile                    | Pillow's plain conversion (no press is known)              |
| RGB or grey with another profile than sRGB | through the profile to sRGB                             |
| broken profile, or one of another colour model | read as sRGB                                        |
| a layout that Pillow cannot convert     | UnsupportedFormatError                                     |
| MPO, gain maps, multi-page TIFF         | the first frame                                            |
| animated GIF/PNG/WebP/AVIF              | the first frame, or all by `animation: keep` (animation.py) |
"""

from functools import lru_cache
from io import BytesIO
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageCms

from photo_pipeline.core.errors import UnsupportedFormatError
from photo_pipeline.core.imaging.header import DAMAGE_ERRORS, SourceInfo, opened
from photo_pipeline.core.imaging.resize import GAP

# EXIF orientation to the operation that undoes it (EXIF 2.32, tag 0x0112).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Layouts that can be resampled as they are; palettes, bits and 16-bit grey must be converted first.
_RESAMPLED = {"L", "LA", "RGB", "RGBA", "CMYK"}

# How many times the pixels needed a decoder's own shrinking must leave for Lanczos. At 3, no photo of
# shared/photos/real differs from a full decode by more than a tenth of an ssimulacra2 point; at 2 the mean
# is 98.9 and the worst 87, at 1.5 97.5 and 87.
_DRAFT_GAP = 3.0
# Above these pixels, memory counts for more. A progressive JPEG keeps all its coefficients beside the pixels:
# one of 24 MP takes 210 MB at a gap of 3 and 140 at 2.4, where each side is halved (3 points of the resized
# pixels); one of 81 MP 300 MB at 1.5 and 360 at 3.
_PROGRESSIVE_PIXELS, _PROGRESSIVE_GAP = 20_000_000, 2.4
_HUGE_PIXELS = 40_000_000

_DEEP_GREY = {"I;16", "I;16B", "I;16L", "I;16N", "I", "F"}
_COLOUR_MODEL = {"RGB": "RGB ", "RGBA": "RGB ", "L": "GRAY", "LA": "GRAY", "CMYK": "CMYK"}


def decode(source: Path, info: SourceInfo, *, size: tuple[int, int]) -> Image.Image:
    """Decodes the first frame of a photo.

    Args:
        source: The photo.
        info: What `read_header` said of it.
        size: The displayed width and height to return it at; see `fitting`.

    Returns:
        The whole picture of that size (or its own, if that is smaller), upright, in sRGB, without metadata,
        RGB or (only if a pixel is transparent) RGBA.

    Raises:
        CorruptPhotoError: The file is damaged or cut off.
        UnsupportedFormatError: The pixel layout has no conversion.
        PhotoMemoryError: A decoder could not get its memory.
    """
    image = displayed(_load(source, info, size), info, size=size, name=source.name)
    return _without_idle_alpha(image)


def fitting(info: SourceInfo, scale: float) -> tuple[int, int]:
    """Returns the displayed size of a photo at a scale of at most 1, in pixels."""
    scale = min(1.0, scale)
    return max(1, round(info.width * scale)), max(1, round(info.height * scale))


def displayed(image: Image.Image, info: SourceInfo, *, size: tuple[int, int], name: str) -> Image.Image:
    """Turns loaded pixels into what is shown: upright, sRGB, RGB or RGBA, at the size that is needed.

    Args:
        image: A loaded frame.
        info: What `read_header` said of its file.
        size: The displayed width and height to return it at.
        name: The file's name, for messages.

    Raises:
        UnsupportedFormatError: The pixel layout has no conversion.
    """
    profile = image.info.get("icc_profile")
    # Before the resize: some profiles' curves make the mean of two pixels another colour.
    image = _to_srgb(_eight_bit(image), profile)
    # Resized as soon as possible: what follows then costs a fraction of time and memory.
    image = _resized(image, _as_stored(info, size), name)
    image = image.convert("RGBA") if image.mode == "LA" else _plain_rgb(image, name)
    turn = _UPRIGHT.get(info.orientation)
    image = image.transpose(turn) if turn is not None else image
    image.info = {}
    return image


def _load(source: Path, info: SourceInfo, size: tuple[int, int]) -> Image.Image:
    """All pixels of the first frame: truncation shows only when the last one is read."""
    width, height = _as_stored(info, size)
    pixels = info.width * info.height
    with opened(source, info.format, pixels=pixels) as image:
        image.seek(0)
        gap = _draft_gap(pixels, progressive="progressive" in image.info)
        # JPEG decodes at 1/2, 1/4 or 1/8 for a fraction of the time and memory.
        image.draft(None, (ceil(width * gap), ceil(height * gap)))
        image.load()
    # Not copied, which would double the peak; the pixels outlive the file.
    return image


def _draft_gap(pixels: int, *, progressive: bool) -> float:
    if pixels > _HUGE_PIXELS:
        return GAP
    return _PROGRESSIVE_GAP if progressive and pixels > _PROGRESSIVE_PIXELS else _DRAFT_GAP


def _as_stored(info: SourceInfo, size: tuple[int, int]) -> tuple[int, int]:
    """A displayed size, as the pixels lie in the file."""
    return size if info.orientation < 5 else size[::-1]


def _resized(image: Image.Image, size: tuple[int, int], name: str) -> Image.Image:
    if image.width <= size[0] and image.height <= size[1]:
        return image
    if image.mode not in _RESAMPLED:
        image = _plain_rgb(image, name)
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=_DRAFT_GAP)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Converts what can neither be resampled nor has a profile's layout; other modes pass unchanged."""
    if image.mode in _DEEP_GREY:
        return _grey_from_deep(image)
    if image.has_transparency_data and image.mode not in ("LA", "RGBA"):
        return image.convert("RGBA")
    if image.mode in ("1", "P"):
        return image.convert("L" if image.mode == "1" else "RGB")
    return image


def _grey_from_deep(image: Image.Image) -> Image.Image:
    factor = 256 / _white(image)
    # Only the native byte order can be scaled as it is.
    plain = image.convert("I") if image.mode.startswith("I;16") and image.mode != "I;16" else image
    return plain.point(lambda value: value * factor + 0.0).convert("L")


def _white(image: Image.Image) -> float:
    """One more than the value that is shown white."""
    if image.mode.startswith("I;16"):
        return 65536
    peak = float(image.getextrema()[1])  # type: ignore[arg-type]  # one band, so one pair of numbers
    if image.mode == "F" and peak <= 1:
        return 256 / 255
    return next((white for white in (256, 65536) if peak < white), peak)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image converted from its profile to RGB or RGBA; itself where there is none that can be used."""
    source_profile = _usable_profile(image, profile)
    if source_profile is None:
        return image
    if image.mode == "LA":  # LittleCMS, by Pillow, knows no grey with alpha
        converted = _converted(image.convert("L"), source_profile)
        converted.putalpha(image.getchannel("A"))
        return converted
    return _converted(image, source_profile)


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    try:
        return _through(image, profile)
    except (ImageCms.PyCMSError, *DAMAGE_ERRORS):
        # A profile that opens but cannot be computed with is as broken as one that does not open.
        return image


def _through(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    in_place = image.mode in ("RGB", "RGBA")  # saves a copy of what may be a hundred megabytes
    converted = ImageCms.profileToProfile(
        image,
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode=None if in_place else "RGB",
        inPlace=in_place,
    )
    return converted if converted is not None else image


def _plain_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in ("RGB", "RGBA"):
        return image  # `convert` would copy it
    try:
        return image.convert("RGB")
    except ValueError as error:
        cause = f"there is no conversion from pixel layout {image.mode}"
        raise UnsupportedFormatError(name, cause=cause, fix="Convert it to an RGB JPEG or PNG") from error


def _usable_profile(image: Image.Image, profile: bytes | None) -> ImageCms.ImageCmsProfile | None:
    """The embedded profile, or None when it is absent, broken, sRGB already, or of another model."""
    if not profile:
        return None
    try:
        opened_profile = ImageCms.ImageCmsProfile(BytesIO(profile))
        if opened_profile.profile.xcolor_space != _COLOUR_MODEL.get(image.mode):
            return None
        is_srgb = image.mode in ("RGB", "RGBA") and _changes_nothing(profile)
    except (ImageCms.PyCMSError, *DAMAGE_ERRORS):
        return None
    return None if is_srgb else opened_profile


@lru_cache(maxsize=64)
def _changes_nothing(profile: bytes) -> bool:
    """Whether an RGB profile is sRGB but for rounding.

    Not by its name: Minolta's "sRGB" has a plain gamma of 2.2, and many an sRGB profile is called "c2".
    """
    steps = range(0, 256, 15)
    cube = Image.new("RGB", (len(steps) ** 2, len(steps)))
    cube.putdata([(red, green, blue) for red in steps for green in steps for blue in steps])
    converted = _through(cube.copy(), ImageCms.ImageCmsProfile(BytesIO(profile)))
    difference = np.asarray(ImageChops.difference(cube, converted))
    return int(difference.max()) <= 1


def _without_idle_alpha(image: Image.Image) -> Image.Image:
    """Drops an alpha channel that is opaque everywhere: it would cost bytes in each variant."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] == 255:
        return image.convert("RGB")
    return image
