"""What a photo's EXIF says about where it came from: for the catalog, never for a file that is served."""

import math
import re
from dataclasses import dataclass

from PIL import ExifTags, Image

# EXIF written by hand or by broken firmware: each of these has been seen.
_BROKEN = (ValueError, TypeError, KeyError, SyntaxError, OSError, OverflowError, ZeroDivisionError)


@dataclass(frozen=True)
class CameraFacts:
    """What the camera wrote. Everything may be missing or wrong.

    Attributes:
        name: Make and model.
        taken_at: ISO 8601 local time of the exposure, with offset where the camera wrote one.
        latitude: Degrees north, -90 to 90.
        longitude: Degrees east, -180 to 180.
    """

    name: str | None = None
    taken_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None


def camera_facts(exif: Image.Exif) -> CameraFacts:
    """Returns what can be read of a photo's EXIF; a value that makes no sense counts as missing."""
    gps = ExifTags.IFD.GPSInfo
    latitude = tag(exif, ExifTags.GPS.GPSLatitude, gps), tag(exif, ExifTags.GPS.GPSLatitudeRef, gps)
    longitude = tag(exif, ExifTags.GPS.GPSLongitude, gps), tag(exif, ExifTags.GPS.GPSLongitudeRef, gps)
    return CameraFacts(
        name=_name(exif),
        taken_at=_taken_at(exif),
        latitude=_degrees(*latitude, negative="S", limit=90),
        longitude=_degrees(*longitude, negative="W", limit=180),
    )


def tag(exif: Image.Exif, tag: int, ifd: int | None = None) -> object:
    """Returns a tag's value, or None when it is missing or cannot be read."""
    try:
        return exif.get(tag) if ifd is None else exif.get_ifd(ifd).get(tag)
    except _BROKEN:
        return None


def _text(value: object) -> str:
    """A camera's text without NULs and control characters, at most 100 characters of it."""
    if not isinstance(value, str):
        return ""
    return "".join(c for c in value if c.isprintable()).strip()[:100]


def _taken_at(exif: Image.Exif) -> str | None:
    written = _text(tag(exif, ExifTags.Base.DateTimeOriginal, ExifTags.IFD.Exif))
    written = written or _text(tag(exif, ExifTags.Base.DateTime))
    found = re.fullmatch(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d:\d\d:\d\d).*", written)
    if not found or found[1] == "0000":
        return None
    offset = _text(tag(exif, ExifTags.Base.OffsetTimeOriginal, ExifTags.IFD.Exif))
    suffix = offset if re.fullmatch(r"[+-]\d\d:\d\d", offset) else ""
    return f"{found[1]}-{found[2]}-{found[3]}T{found[4]}{suffix}"


def _name(exif: Image.Exif) -> str | None:
    make, model = _text(tag(exif, ExifTags.Base.Make)), _text(tag(exif, ExifTags.Base.Model))
    # "Canon" + "Canon EOS 20D" repeats the make.
    name = model if model.lower().startswith(make.lower()) else f"{make} {model}"
    return name.strip() or None


def _degrees(value: object, reference: object, *, negative: str, limit: int) -> float | None:
    """Degrees from EXIF's three rationals (degrees, minutes, seconds; EXIF 2.32, 4.6.6) and a hemisphere."""
    if not isinstance(value, tuple | list) or len(value) != 3:
        return None
    try:
        degrees, minutes, seconds = (float(each) for each in value)
    except _BROKEN:
        return None
    total = degrees + minutes / 60 + seconds / 3600
    if not math.isfinite(total) or not 0 <= total <= limit:
        return None
    return round(-total if _text(reference) == negative else total, 7)
