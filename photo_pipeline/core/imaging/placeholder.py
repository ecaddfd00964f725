"""What a page shows before a photo has arrived: a ThumbHash, a picture of 20 px, and one colour.

The ThumbHash is encoded here and not by the package `thumbhash` 0.1.2, which takes 30 ms for 100 px (this:
0.7 ms) and raises TypeError for any picture with transparency. Its hashes of opaque photos are the same.
"""

import base64
from dataclasses import dataclass
from io import BytesIO
from itertools import zip_longest
from math import floor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from photo_pipeline.core.imaging.resize import within_square

Plane = NDArray[np.float64]

# ThumbHash's own limit: more pixels do not change its handful of cosine terms.
_HASHED_SIDE = 100
_PREVIEW_SIDE = 20
# Mean bytes and error (levels, enlarged ten times) over 58 photos: quality 60: 154 and 9.8, 75: 171 and 8.9,
# 90: 268 and 6.5; a JPEG of quality 60: 397 and 11.2, most of it header.
_PREVIEW_QUALITY = 75

# A step of 16 levels is invisible in a background; a cluster is three steps wide, so that a colour which
# lies on the border of two steps is not split into halves.
_COLOUR_STEP = 16
_COLOUR_STEPS = 256 // _COLOUR_STEP

# Below it a cosine term is the rounding of 64-bit floats, which differs between machines.
_NO_TERM = 1e-9


@dataclass(frozen=True)
class Placeholder:
    """Stand-ins for a photo, small enough to be kept in its database row.

    Attributes:
        thumbhash: ThumbHash (evanw.github.io/thumbhash) in base64, 24-36 characters.
        data_uri: A WebP whose longer side is at most 20 px, as `data:image/webp;base64,…`; 90-500 characters.
        dominant_colour: The most frequent colour, as `#rrggbb`.
    """

    thumbhash: str
    data_uri: str
    dominant_colour: str


def make_placeholder(image: Image.Image) -> Placeholder:
    """Makes all stand-ins of a photo.

    Args:
        image: The whole upright picture, RGB or RGBA, in sRGB, of any size; larger ones only take longer.

    Returns:
        The placeholder. A picture without a visible pixel has the colour white.
    """
    small = within_square(image, _HASHED_SIDE)
    pixels = np.asarray(small.convert("RGBA"))
    return Placeholder(
        thumbhash=base64.b64encode(thumb_hash(pixels)).decode("ascii"),
        data_uri=_data_uri(within_square(small, _PREVIEW_SIDE)),
        dominant_colour=_dominant_colour(pixels),
    )


def thumb_hash(pixels: NDArray[np.uint8]) -> bytes:
    """Encodes a ThumbHash, as the reference encoder in JavaScript does (npm thumbhash 0.1.1).

    Args:
        pixels: Rows x columns x RGBA, at most 100 px a side; the colours are not premultiplied.

    Returns:
        17-25 bytes: the means of brightness, two colour differences and opacity, and their lowest cosine
        terms.
    """
    height, width = pixels.shape[:2]
    colour, alpha = pixels[..., :3] / 255, pixels[..., 3] / 255
    has_alpha, longer = bool((alpha < 1).any()), max(width, height)
    limit = 5 if has_alpha else 7
    across, down = (max(1, _rounded(limit * side / longer)) for side in (width, height))
    red, green, blue = np.moveaxis(_on_mean_colour(colour, alpha), 2, 0)
    brightness = _Channel.of((red + green + blue) / 3, max(3, across), max(3, down))
    yellow_blue = _Channel.of((red + green) / 2 - blue, 3, 3)
    red_green = _Channel.of(red - green, 3, 3)
    channels = [brightness, yellow_blue, red_green]
    means = (
        _rounded(63 * brightness.mean)
        | _rounded(31.5 + 31.5 * yellow_blue.mean) << 6
        | _rounded(31.5 + 31.5 * red_green.mean) << 12
        | _rounded(31 * brightness.scale) << 18
        | has_alpha << 23
    )
    scales = (
        (down if width > height else across)
        | _rounded(63 * yellow_blue.scale) << 3
        | _rounded(63 * red_green.scale) << 9
        | (width > height) << 15
    )
    head: bytes = means.to_bytes(3, "little") + scales.to_bytes(2, "little")
    if has_alpha:
        opacity = _Channel.of(alpha, 5, 5)
        channels.append(opacity)
        head += bytes([_rounded(15 * opacity.mean) | _rounded(15 * opacity.scale) << 4])
    terms = [term for channel in channels for term in channel.terms]
    return head + bytes(low | high << 4 for low, high in zip_longest(terms[::2], terms[1::2], fillvalue=0))


@dataclass(frozen=True)
class _Channel:
    """One plane of a ThumbHash.

    Attributes:
        mean: Its mean.
        scale: The largest of its terms without their sign.
        terms: The terms from -scale to scale, as 0 to 15.
    """

    mean: float
    scale: float
    terms: tuple[int, ...]

    @classmethod
    def of(cls, plane: Plane, across: int, down: int) -> "_Channel":
        """The triangle of the lowest cosine terms, `across` in its first row and `down` rows."""
        height, width = plane.shape
        terms = _cosines(down, height) @ plane @ _cosines(across, width).T / plane.size
        kept = [
            float(terms[row, column])
            for row in range(down)
            for column in range(across)
            if column * down < across * (down - row)
        ]
        mean, *waves = kept
        scale = max(abs(wave) for wave in waves)
        if scale < _NO_TERM:
            return cls(mean, 0.0, (0,) * len(waves))
        return cls(mean, scale, tuple(_rounded(7.5 + 7.5 / scale * wave) for wave in waves))


def _cosines(count: int, side: int) -> Plane:
    waves, places = np.arange(count)[:, None], np.arange(side)[None, :]
    cosines: Plane = np.cos(np.pi / side * waves * (places + 0.5))
    return cosines


def _on_mean_colour(colour: Plane, alpha: Plane) -> Plane:
    """Lays transparent pixels on the mean of the visible ones, so that hidden colours do not show."""
    total = alpha.sum()
    weights = alpha[..., None]
    mean = (colour * weights).sum(axis=(0, 1)) / total if total else np.zeros(3)
    laid: Plane = mean * (1 - weights) + colour * weights
    return laid


def _rounded(value: float) -> int:
    """To the nearest whole number, halves upwards as in JavaScript."""
    return floor(value + 0.5)


def _data_uri(preview: Image.Image) -> str:
    buffer = BytesIO()
    preview.save(buffer, "WEBP", quality=_PREVIEW_QUALITY, method=6, exif=b"", icc_profile=b"", xmp=b"")
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _dominant_colour(pixels: NDArray[np.uint8]) -> str:
    """The mean of the densest cube of colours, three steps wide; each pixel counts by its opacity."""
    colours, weights = pixels[..., :3].reshape(-1, 3), pixels[..., 3].reshape(-1).astype(np.float64)
    if not weights.any():
        return "#ffffff"
    steps = colours // _COLOUR_STEP
    shape = (_COLOUR_STEPS,) * 3
    flat = np.ravel_multi_index(tuple(steps.T.astype(np.intp)), shape)
    histogram = np.bincount(flat, weights, minlength=_COLOUR_STEPS**3).reshape(shape).astype(np.float64)
    densest = np.unravel_index(int(np.argmax(_sums_of_cubes(histogram))), shape)
    inside = (np.abs(steps.astype(np.int64) - densest) <= 1).all(axis=1)
    mean = np.average(colours[inside], axis=0, weights=weights[inside])
    return "#" + "".join(f"{round(level):02x}" for level in mean)


def _sums_of_cubes(histogram: Plane) -> Plane:
    """For each cell the sum of itself and its neighbours, 27 in all."""
    padded = np.pad(histogram, 1)
    for axis in range(3):
        moved = (np.roll(padded, shift, axis) for shift in (-1, 0, 1))
        padded = sum(moved, start=np.zeros_like(padded))
    return padded[1:-1, 1:-1, 1:-1]
