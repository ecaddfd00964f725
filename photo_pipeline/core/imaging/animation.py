"""Animations that stay animations: every frame through the photo's own path, one file at the end.

Only where a preset declares it; otherwise the first frame stands for all (`decode.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageSequence

from photo_pipeline.core.errors import PhotoTooLargeError
from photo_pipeline.core.imaging.decode import displayed
from photo_pipeline.core.imaging.encode import saved
from photo_pipeline.core.imaging.header import SourceInfo, opened
from photo_pipeline.core.imaging.recipe import ImageFormat

ANIMATED_FORMATS = frozenset({ImageFormat.AVIF, ImageFormat.WEBP})

# What browsers show a frame for whose file says 0: 100 ms (Chromium and Firefox treat 10 ms and less so).
_DEFAULT_MS = 100
_LEAST_MS = 11
# No frame of an hour is meant to be seen, and WebP adds all times up in 31 bits (and counts loops in 16).
_MOST_MS = 3_600_000
_MOST_LOOPS = 65_535

# AVIF sequences are written by aom, which keeps transparency in every frame; 8 is libavif's fast half.
_AVIF_SPEED = 8
_WEBP_METHOD = 4


@dataclass(frozen=True)
class Animation:
    """The frames of an animation, decoded.

    Attributes:
        frames: Upright sRGB pictures, all of one size.
        durations_ms: How long each is shown.
        loop: How often it runs; 0 for ever. WebP keeps it; AVIF sequences always run for ever.
    """

    frames: tuple[Image.Image, ...]
    durations_ms: tuple[int, ...]
    loop: int


def decode_animation(source: Path, info: SourceInfo, *, size: tuple[int, int], max_pixels: int) -> Animation:
    """Decodes every frame.

    Args:
        source: The photo.
        info: What `read_header` said of it.
        size: The displayed width and height to return each frame at.
        max_pixels: The most pixels that all frames may have together.

    Raises:
        PhotoTooLargeError: All frames together have more pixels.
        CorruptPhotoError: A frame is damaged.
    """
    pixels = info.width * info.height * info.frames
    if pixels > max_pixels:
        cause = f"its {info.frames} frames have {pixels} px together, more than the {max_pixels} allowed"
        fix = "Shorten it, raise workers.max_pixels, or set images.<preset>.animation to first_frame"
        raise PhotoTooLargeError(source.name, cause=cause, fix=fix)
    frames, durations = [], []
    with opened(source, info.format, pixels=pixels) as image:
        # A GIF that says nothing plays once (GIF89a has no loops; browsers' NETSCAPE2.0 extension adds them).
        loop = min(int(image.info.get("loop", 1 if info.format == "GIF" else 0)), _MOST_LOOPS)
        for number, frame in enumerate(ImageSequence.Iterator(image)):
            frame.load()
            if number == 0 and getattr(image, "default_image", False):
                continue  # what an APNG shows where it cannot be animated
            shown = int(frame.info.get("duration", 0))
            durations.append(min(shown, _MOST_MS) if shown >= _LEAST_MS else _DEFAULT_MS)
            frames.append(displayed(frame.copy(), info, size=size, name=source.name))
    # One frame with transparency makes all of them RGBA: a file has one layout.
    if any(frame.mode == "RGBA" for frame in frames):
        frames = [frame.convert("RGBA") for frame in frames]
    return Animation(frames=tuple(frames), durations_ms=tuple(durations), loop=loop)


def encode_animation(
    frames: Sequence[Image.Image], animation: Animation, format: ImageFormat, quality: int
) -> bytes:
    """Encodes an animation without metadata.

    Args:
        frames: The pixels of each frame.
        animation: Where durations and loop come from.
        format: One of ANIMATED_FORMATS.
        quality: 1-100.
    """
    options: dict[str, object] = {"method": _WEBP_METHOD, "loop": animation.loop}
    if frames[0].mode == "RGBA":
        # libwebp's lossy differences between frames lose all transparency (1.6, by Pillow 13): whole frames.
        options |= {"kmin": 0, "kmax": 1}
    if format is ImageFormat.AVIF:
        options = {"codec": "aom", "speed": _AVIF_SPEED, "subsampling": "4:2:0", "max_threads": 1}
    return saved(
        frames[0],
        format.name,
        save_all=True,
        append_images=list(frames[1:]),
        duration=list(animation.durations_ms),
        quality=quality,
        **options,
    )
