"""Where to cut a picture that must fill a box of another shape: at the part that people look at.

Only the window's place is decided here; cutting and resampling live in `resize.py`.

Attention is made of what the known croppers use: edges, saturation and skin colour (smartcrop.js, libvips'
"attention") and local contrast (in the place of libvips' "entropy"). There is no face detector: its model
would weigh more than the rest of the engine.
"""

from math import isclose, isfinite

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.imaging.resize import within_square

Plane = NDArray[np.floating]

# The small copy that is looked at, with which all takes 3 ms from 1200 px. 128 px take 4 ms and place 6 of
# 174 windows (58 photos at aspects of 0.6, 1 and 2.4) elsewhere by 5 % of the picture or more, 64 px 8.
_GLANCE = 96

# Steps of brightness (0..1) below the first are noise and compression; above the second an edge is an edge,
# however hard, so that a few black-on-white lines do not outweigh everything else.
_STEP_RANGE = (0.03, 0.3)
# In pixels of the glance: what is called local.
_NEIGHBOURHOOD = 9

# The defaults of smartcrop.js: the direction of skin in RGB and how far from it is still skin, the
# saturation from which a colour stands out, and the brightness within which either is believed.
_SKIN = np.array([0.78, 0.57, 0.44], dtype=np.float32) / np.float32(1.0616)
_SKIN_REACH = 0.2
_SKIN_MIN_BRIGHTNESS = 0.2
_VIVID = 0.4
_VIVID_BRIGHTNESS = (0.05, 0.9)

# Skin and vivid colours count where there is contrast, and by these much less on flat walls. The weights
# were judged by eye on the 58 photos of shared/photos/real at aspects of 0.6, 1 and 2.4.
_FLAT_SKIN, _FLAT_VIVID = 0.1, 0.2
_WEIGHTS = {"edges": 1.0, "contrast": 1.0, "skin": 1.8, "vivid": 1.5}

# A window's score adds up these nested shares of its length, so that its middle counts three times as much
# as its rim and a small subject is not left at the very edge.
_NESTED = (1.0, 0.75, 0.5)
# How much more of all attention a window at the picture's end must hold than the one in the centre.
_CENTRE_PRIOR = 0.1


def attention_box(
    image: Image.Image, *, aspect: float, focal: tuple[float, float] | None = None
) -> tuple[float, float, float, float]:
    """Places the largest window of a shape, which can only slide along one axis of the picture.

    Args:
        image: The whole upright picture, RGB or RGBA, at any scale.
        aspect: Width / height of the window.
        focal: What must be in the middle as far as the picture's edges allow, in fractions of the width
            and height; None to find the part that draws most attention.

    Returns:
        Left, top, right, bottom in fractions of the picture's width and height. The centre where nothing
        draws attention, or the same everywhere; of equally good places the nearest to the centre.

    Raises:
        ConfigurationError: The aspect is not positive, or the focal point outside of the picture.
    """
    _check(aspect, focal)
    across, down = _shares(aspect * image.height / image.width)
    if focal is not None:
        left, top = (_centred(at, share) for at, share in zip(focal, (across, down), strict=True))
    elif across == down == 1.0:
        left = top = 0.0
    else:
        attention = _attention(image)
        left = _best_start(attention.sum(axis=0), across)
        top = _best_start(attention.sum(axis=1), down)
    return left, top, min(1.0, left + across), min(1.0, top + down)


def _check(aspect: float, focal: tuple[float, float] | None) -> None:
    if not (isfinite(aspect) and aspect > 0):
        cause = f"no window has a width of {aspect} times its height"
        raise ConfigurationError("crop aspect", cause=cause, fix="Give a number above 0")
    if focal is not None and not all(0 <= at <= 1 for at in focal):
        raise ConfigurationError(
            "focal point",
            cause=f"({focal[0]}, {focal[1]}) lies outside of the picture",
            fix="Give fractions of its width and height, from 0 to 1",
        )


def _shares(relative: float) -> tuple[float, float]:
    """The window's width and height as shares of the picture's, from its relative aspect."""
    if isclose(relative, 1.0):
        # The picture's own aspect, but for the last digits of a division.
        return 1.0, 1.0
    return min(1.0, relative), min(1.0, 1 / relative)


def _centred(at: float, share: float) -> float:
    """The start of a window of that share of an axis whose middle is as near to `at` as it can be."""
    return min(max(at - share / 2, 0.0), 1 - share)


def _attention(image: Image.Image) -> Plane:
    """How much each pixel of a small copy draws the eye, 0 to about 5; transparent pixels do not."""
    small = within_square(image, _GLANCE)
    colour = np.asarray(small.convert("RGB"), dtype=np.float32) / 255
    brightness = _brightness(small)
    contrast = _beyond_noise(_contrast(brightness))
    attention: Plane = (
        _WEIGHTS["edges"] * _beyond_noise(_edges(brightness))
        + _WEIGHTS["contrast"] * contrast
        + _WEIGHTS["skin"] * _skin(colour, brightness) * (contrast + _FLAT_SKIN)
        + _WEIGHTS["vivid"] * _vivid(colour, brightness) * (contrast + _FLAT_VIVID)
    )
    if small.mode == "RGBA":
        attention *= np.asarray(small.getchannel("A"), dtype=np.float32) / 255
    return attention


def _brightness(small: Image.Image) -> Plane:
    """Luma from 0 to 1, on white where it is transparent: the outline of a cut-out is an edge."""
    if small.mode == "RGBA":
        white = Image.new("RGBA", small.size, "white")
        small = Image.alpha_composite(white, small)
    return np.asarray(small.convert("L"), dtype=np.float32) / 255


def _beyond_noise(steps: Plane) -> Plane:
    low, high = _STEP_RANGE
    clipped: Plane = np.clip((steps - low) / (high - low), 0, 1)
    return clipped


def _edges(brightness: Plane) -> Plane:
    """The step to the next pixel on the right and below."""
    right = np.diff(brightness, axis=1, append=brightness[:, -1:])
    below = np.diff(brightness, axis=0, append=brightness[-1:])
    return np.hypot(right, below)


def _contrast(brightness: Plane) -> Plane:
    """The standard deviation within the neighbourhood."""
    mean = _local_mean(brightness)
    return np.sqrt(np.maximum(_local_mean(brightness * brightness) - mean * mean, 0))


def _local_mean(plane: Plane) -> Plane:
    """The mean of a square around each pixel, by cumulative sums; beyond the edges they repeat."""
    reach = _NEIGHBOURHOOD // 2
    for _ in range(2):
        padded = np.pad(plane, ((reach + 1, reach), (0, 0)), mode="edge").cumsum(axis=0)
        plane = ((padded[_NEIGHBOURHOOD:] - padded[:-_NEIGHBOURHOOD]) / _NEIGHBOURHOOD).T
    return plane


def _skin(colour: Plane, brightness: Plane) -> Plane:
    """1 for the colour of skin (of all tones: only the direction in RGB counts), 0 from _SKIN_REACH on."""
    length = np.sqrt(np.einsum("ijk,ijk->ij", colour, colour)) + 1e-6
    # The distance of two vectors of length 1, from their cosine.
    distance = np.sqrt(np.maximum(2 - 2 * (colour @ _SKIN) / length, 0))
    skin: Plane = np.maximum(1 - distance / _SKIN_REACH, 0) * (brightness >= _SKIN_MIN_BRIGHTNESS)
    return skin


def _vivid(colour: Plane, brightness: Plane) -> Plane:
    """How far the saturation (as in HSL) is above _VIVID, 0 to 1."""
    high, low = colour.max(axis=2), colour.min(axis=2)
    saturation = (high - low) / (1.001 - np.abs(high + low - 1))
    believed = (brightness >= _VIVID_BRIGHTNESS[0]) & (brightness <= _VIVID_BRIGHTNESS[1])
    vivid: Plane = np.maximum((saturation - _VIVID) / (1 - _VIVID), 0) * believed
    return vivid


def _best_start(profile: Plane, share: float) -> float:
    """Where along an axis the window starts that holds the most attention.

    Args:
        profile: The attention at each place of the axis.
        share: The window's length, 0 to 1.

    Returns:
        A fraction of the axis, 0 to 1 - share.
    """
    free = 1 - share
    if free <= 0 or not profile.any():
        return free / 2
    steps = max(1, round(free * len(profile)))
    # From the centre outwards, -1 to 1: argmax takes the first of equals.
    shifts = np.array(sorted(range(-steps, steps + 1), key=abs)) / steps
    middles = (1 + shifts * free) / 2
    seen = np.mean([_held(profile, middles, share * part) for part in _NESTED], axis=0)
    # Rounded, since equals left and right of the centre differ in their last digits.
    best = int(np.argmax(np.round(seen - _CENTRE_PRIOR * np.abs(shifts), 6)))
    return float(free * (1 + shifts[best]) / 2)


def _held(profile: Plane, middles: Plane, length: float) -> Plane:
    """The share of all attention in the windows of a length around each middle."""
    sums = np.concatenate([[0.0], np.cumsum(profile, dtype=np.float64)])
    places = np.linspace(0, 1, len(sums))
    until_end = np.interp(middles + length / 2, places, sums)
    before_start = np.interp(middles - length / 2, places, sums)
    held: Plane = (until_end - before_start) / sums[-1]
    return held
