"""Puts a variant's file in its place: whole, verified, or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from PIL import Image

from photo_pipeline.core.errors import InfrastructureError, PhotoError
from photo_pipeline.core.imaging.header import PILLOW_FORMATS
from photo_pipeline.core.imaging.recipe import ImageFormat

_METADATA_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "icc_profile", "comment", "photoshop")


def write_variant(
    path: Path, data: bytes, *, format: ImageFormat, size: tuple[int, int], animated: bool = False
) -> None:
    """Writes a file beside its place, verifies it there and renames it.

    Args:
        path: The place; folders are created.
        data: The file.
        format: The format it must have.
        size: The width and height it must have.
        animated: Whether it may have several frames (encoders merge equal ones).

    Raises:
        PhotoError: The file is not what it should be.
        InfrastructureError: It cannot be written or read back.
    """
    # The process id keeps two workers apart that make the same content-addressed file.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        verify_variant(part, format=format, size=size, animated=animated)
        part.replace(path)
    except OSError as error:
        fix = "Free disk space, or check the folder's permissions"
        cause = f"{path.name} cannot be written or read back ({error.strerror or error})"
        raise InfrastructureError(f"folder {path.parent}", cause=cause, fix=fix) from error
    finally:
        # Gone after the rename; whatever else is in the way was reported above.
        with suppress(OSError):
            part.unlink()


def verify_variant(path: Path, *, format: ImageFormat, size: tuple[int, int], animated: bool = False) -> None:
    """Re-opens a variant and checks that it is what it should be.

    Args:
        path: The file, under any name.
        format: The format it must have.
        size: The width and height it must have.
        animated: Whether it may have several frames.

    Raises:
        PhotoError: Another format or size, frames that it must not have, or any metadata (EXIF, XMP, ICC,
            IPTC, comment) inside.
    """
    with Image.open(path, formats=PILLOW_FORMATS[format.name]) as image:
        found, frames = image.size, int(getattr(image, "n_frames", 1))
        leaks = [key for key in _METADATA_KEYS if image.info.get(key)]
    if found != size or leaks or (frames > 1 and not animated):
        cause = f"the {format} variant has {found} px, {frames} frames and metadata {leaks}, not {size} px"
        raise PhotoError(path.name, cause=cause, fix="Report this as a bug of photo_pipeline")
