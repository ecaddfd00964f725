"""What a file is, decided from its first bytes and its header, before a pixel is decoded.

The file's extension is never consulted. Decoding lives in `decode.py`.
"""

import resource
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pillow_avif  # noqa: F401 - registers the AVIF plugin that has SVT and dav1d
import puremagic
from PIL import ExifTags, Image, UnidentifiedImageError

from photo_pipeline.core.errors import (
    CorruptPhotoError,
    PhotoChangedError,
    PhotoError,
    PhotoMemoryError,
    PhotoTooLargeError,
    UnsupportedFormatError,
)
from photo_pipeline.core.imaging.camera import CameraFacts, camera_facts, tag

SNIFF_BYTES = 64

# Family to the only Pillow plugins that may open it. MPO is a JPEG with more frames behind the first.
PILLOW_FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": ("JPEG", "MPO"),
    "PNG": ("PNG",),
    "WEBP": ("WEBP",),
    "AVIF": ("AVIF",),
    "GIF": ("GIF",),
    "TIFF": ("TIFF",),
    "BMP": ("BMP",),
    "HEIC": ("HEIF",),
}

# What Pillow's plugins raise for damaged content besides OSError (which its own errors derive from).
DAMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    RuntimeError,
    OverflowError,
    ZeroDivisionError,
    AttributeError,
    struct.error,
)

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)
# What a decoder needs beside Pillow's buffer and reports as broken data when it does not get it:
# libjpeg all coefficients of a progressive file (3 x 2 bytes), libwebp and libavif canvases and planes.
_DECODER_BYTES = {"JPEG": 6, "WEBP": 8, "AVIF": 8, "HEIC": 8}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
# Lengths of the known BMP info headers; "BM" alone begins too many texts.
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}


@dataclass(frozen=True)
class SourceInfo:
    """What a photo's header says.

    Attributes:
        format: The family, one of PILLOW_FORMATS.
        width: Width in pixels as displayed, that is after the orientation is applied.
        height: Height in pixels as displayed.
        mode: Pillow's name of the pixel layout in the file ("RGB", "CMYK", "I;16").
        orientation: EXIF orientation from 1 to 8 that is still to be applied; 1 when missing or bogus.
        has_alpha: Whether the file can hold transparent pixels.
        frames: Number of frames or pictures.
        mime: The source's media type.
        camera: What the camera wrote about the exposure.
    """

    format: str
    width: int
    height: int
    mode: str
    orientation: int
    has_alpha: bool
    frames: int
    mime: str
    camera: CameraFacts


def sniff(path: Path) -> str | None:
    """Names the format family of a file by its signature.

    Args:
        path: The file; at most SNIFF_BYTES bytes of it are read.

    Returns:
        A key of PILLOW_FORMATS, or None when the content is none of them.

    Raises:
        OSError: The file is gone or cannot be read.
    """
    with path.open("rb") as file:
        return family_of(file.read(SNIFF_BYTES))


def family_of(head: bytes) -> str | None:
    """Names the format family of a file whose first SNIFF_BYTES bytes (or more) are `head`; see `sniff`."""
    head = head[:SNIFF_BYTES]
    for signature, family in _SIGNATURES:
        if head.startswith(signature):
            return family
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _isobmff_family(head)
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return None


def is_supported(family: str) -> bool:
    """Says whether a family that `sniff` named can be decoded here (HEIC needs pillow-heif)."""
    if family == "HEIC":
        return find_spec("pillow_heif") is not None
    return family in PILLOW_FORMATS


def describe_content(head: bytes) -> str:
    """Names unsupported content for a message.

    Args:
        head: The first bytes of the file.

    Returns:
        A noun such as "PDF file", "text" or "unknown data".
    """
    if not head:
        return "an empty file"
    try:
        guesses = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        guesses = []  # what puremagic 1 raises, puremagic 2 (Python 3.12 and later) says with an empty list
    if guesses:
        return str(guesses[0].name)
    return "text" if _is_text(head) else "unknown data"


def read_header(path: Path, *, max_pixels: int) -> SourceInfo:
    """Reads a photo's header and decides whether it may be decoded.

    Args:
        path: The photo.
        max_pixels: The most pixels that are accepted.

    Returns:
        What the header says.

    Raises:
        UnsupportedFormatError: The content is no format that is decoded here.
        CorruptPhotoError: The signature is known but the header cannot be read.
        PhotoTooLargeError: More pixels than `max_pixels` (decompression bombs included).
        PhotoChangedError: The file is gone.
    """
    head = _head(path)
    family = _supported_family(path, head)
    # Pillow's WebP plugin reserves two whole canvases when it opens a file, before it can be asked.
    width, height = _webp_size(head) if family == "WEBP" else (0, 0)
    _refuse_too_large(path, (width, height), max_pixels)
    with opened(path, family, pixels=width * height) as image:
        _refuse_too_large(path, image.size, max_pixels)
        return _describe(image, family)


@contextmanager
def opened(path: Path, family: str, *, pixels: int) -> Iterator[Image.Image]:
    """Opens a photo with the plugins of its family only, without decoding it.

    Args:
        path: The photo.
        family: What `sniff` named.
        pixels: How many it has, 0 if unknown: whether the memory limit may explain a failure.

    Yields:
        The image at its first frame. Whatever damage makes Pillow raise inside of the block leaves it as
        one of our errors.

    Raises:
        CorruptPhotoError: The header, or what the caller decodes, is damaged.
        PhotoTooLargeError: Pillow's own ceiling is exceeded.
        PhotoMemoryError: A decoder could not get its memory.
    """
    _register_heic(family)
    try:
        # The warning is silenced since `read_header` compares with the configured limit itself.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=PILLOW_FORMATS[family]) as image:
                yield image
    except Image.DecompressionBombError as error:
        fix = "Shrink the photo; this ceiling is not configurable"
        raise PhotoTooLargeError(path.name, cause=str(error).rstrip("."), fix=fix) from error
    except FileNotFoundError as error:
        raise _gone(path) from error
    except DAMAGE_ERRORS as error:
        if "out of memory" in str(error).lower() or _starved(pixels * _DECODER_BYTES.get(family, 0)):
            cause = f"its {pixels} px cannot be decoded in the memory that is allowed"
            fix = "Raise workers.memory_bytes; if that does not help, the file is damaged"
            raise PhotoMemoryError(path.name, cause=cause, fix=fix) from error
        raise _damaged(path, family, error) from error


def _refuse_too_large(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        cause = f"{size[0]}x{size[1]} px are more than the {max_pixels} allowed"
        fix = "Shrink the photo, or raise workers.max_pixels"
        raise PhotoTooLargeError(path.name, cause=cause, fix=fix)


def _starved(needed_bytes: int) -> bool:
    """Whether less address space than that is left under this process's limit, if it has one."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return False
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    return needed_bytes > limit - used


def _damaged(path: Path, family: str, error: Exception) -> PhotoError:
    if isinstance(error, UnidentifiedImageError):
        cause = f"its header cannot be read as {family}"
    else:
        cause = f"it cannot be decoded as {family} ({str(error).rstrip('.') or type(error).__name__})"
    return CorruptPhotoError(path.name, cause=cause, fix="Restore the file from a backup")


def _gone(path: Path) -> PhotoChangedError:
    return PhotoChangedError(path.name, cause="the file is gone", fix="Run the inventory again")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SNIFF_BYTES)
    except FileNotFoundError as error:
        raise _gone(path) from error
    except OSError as error:
        cause = f"the file cannot be read ({error.strerror})"
        raise PhotoError(path.name, cause=cause, fix="Check its permissions and the disk") from error


def _webp_size(head: bytes) -> tuple[int, int]:
    """Canvas size from the first chunk (RFC 9649, sections 2.5 to 2.7); 0x0 when it is not there."""
    kind, field = head[12:16], head[20:30]
    if kind == b"VP8X":
        return int.from_bytes(field[4:7], "little") + 1, int.from_bytes(field[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(field[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(field[6:8], "little") & 0x3FFF, int.from_bytes(field[8:10], "little") & 0x3FFF
    return 0, 0


def _isobmff_family(head: bytes) -> str | None:
    """AVIF and HEIC share a container; its brands tell them apart."""
    box_end = min(int.from_bytes(head[:4], "big"), len(head))
    compatible = {head[at : at + 4] for at in range(16, box_end, 4)}
    if head[8:12] in _AVIF_BRANDS:
        return "AVIF"
    if head[8:12] in _HEIC_BRANDS:
        return "AVIF" if compatible & _AVIF_BRANDS else "HEIC"
    return None


def _is_text(head: bytes) -> bool:
    # A multi-byte character may be cut at the end of the head.
    text = head.decode("utf-8", errors="ignore")
    return len(text.encode()) >= len(head) - 3 and all(c.isprintable() or c.isspace() for c in text)


def _supported_family(path: Path, head: bytes) -> str:
    if not head:
        cause = "the file is empty (0 bytes)"
        raise CorruptPhotoError(path.name, cause=cause, fix="Restore the file from a backup")
    family = family_of(head)
    if family is None:
        cause = f"its content is {describe_content(head)}, not a photo that can be decoded"
        raise UnsupportedFormatError(path.name, cause=cause, fix="Convert it to JPEG or PNG")
    if not is_supported(family):
        fix = "Install pillow-heif, or convert the photo to JPEG"
        raise UnsupportedFormatError(path.name, cause="HEIC needs the package pillow-heif", fix=fix)
    return family


@cache
def _register_heic(family: str) -> None:
    if family == "HEIC":
        # Optional: it carries libheif and x265, which many installations must not ship.
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]

        pillow_heif.register_heif_opener()


def _describe(image: Image.Image, family: str) -> SourceInfo:
    exif = _exif(image)
    orientation = _orientation(image, exif)
    width, height = image.size if orientation < 5 else image.size[::-1]
    return SourceInfo(
        format=family,
        width=width,
        height=height,
        mode=image.mode,
        orientation=orientation,
        has_alpha=image.has_transparency_data,
        frames=int(getattr(image, "n_frames", 1)),
        mime=f"image/{family.lower()}",
        camera=camera_facts(exif),
    )


def _exif(image: Image.Image) -> Image.Exif:
    """The EXIF block, empty when missing or broken.

    Parsed from the raw block since `getexif()` would decode a whole PNG to look behind its pixels, and
    takes an orientation from XMP that browsers ignore.
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
    except DAMAGE_ERRORS:
        return Image.Exif()
    return exif


def _orientation(image: Image.Image, exif: Image.Exif) -> int:
    # Pillow's TIFF plugin turns the picture by itself while it loads.
    if image.format == "TIFF":
        return 1
    value = tag(exif, ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
