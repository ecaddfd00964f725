"""How many bytes a picture will take at each quality, before it is encoded.

ln(bytes per pixel) against quality is nearly the same curve for all photographs of a format. The model
(`size_model.json`) holds, per encoder, the mean curve, how it moves with a few cheap measurements of the
picture (`probe`), and the few directions in which what remains varies. `benchmarks/fit_size_model.py` fits
it from any folder of photos. Each real encode then corrects the prediction for its picture; which quality
is tried next is decided in `search.py`.

A prediction is a function of the pixels and of the encodes of that same file alone: what else is made of
a photo, and in which order, changes no byte of it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from photo_pipeline.core.imaging.model_file import model_text

Floats = npt.NDArray[np.float64]

SCOUT = "avif-scout"
"""The model's name of the fast AVIF encoder that foretells the others."""

# Plain JPEGs (Pillow's default tables, no optimisation) take 4 ms each at 1200 px, at half the size 1 ms;
# where their sizes lie tells how much detail of which amplitude and fineness a picture has. Without the half
# size the sizes of JPEG files are foretold half as well.
PROBE_QUALITIES = (30, 85)

# Below this many pixels, headers and tables outweigh the picture and the curves bend.
_LEAST_PIXELS = 64


@dataclass(frozen=True)
class CurveModel:
    """The sizes of one encoder's files, as ln(bytes per pixel).

    Attributes:
        qualities: The grid of qualities, ascending; G of them.
        scouted: Whether the curve of a scout stands before this encoder's own: N is 2 G, else G.
        mean: The mean curve, shape (N,).
        ripple: By how much more or less than a straight line between grid points says, for each quality of
            1..100: the encoder's own steps, which all pictures share. The scout's are the same. Shape (100,).
        weights: How the curve moves with each measurement of `probe`, shape (N, F).
        center: The measurements' means, shape (F,).
        covariance: What remains unexplained, shape (N, N).
    """

    qualities: Floats
    scouted: bool
    mean: Floats
    ripple: Floats
    weights: Floats
    center: Floats
    covariance: Floats


class SizeCurve:
    """The sizes that one picture's files will have in one format; learns from each encode.

    A Gaussian over ln(bytes) at each quality: the model says where it starts, encodes condition it.
    """

    def __init__(self, model: CurveModel, features: Floats, *, pixels: int, qualities: Sequence[int]) -> None:
        """Takes the model's word for a picture.

        Args:
            model: The encoder's model.
            features: What `probe` measured.
            pixels: The picture's pixels.
            qualities: Those that will be asked about, ascending.
        """
        self._places = {quality: place for place, quality in enumerate(qualities)}
        grid = np.array(qualities, dtype=np.float64)
        self._own = slice(-len(grid), None)
        onto: Floats = _interpolation(model.qualities, grid)
        if model.scouted:
            onto = np.kron(np.eye(2), onto).astype(np.float64)
        curve = model.mean + model.weights @ (features - model.center)
        self._mean: Floats = np.asarray(onto @ curve + log(max(pixels, 1)), dtype=np.float64)
        self._mean += np.tile(model.ripple[np.array(qualities) - 1], 2 if model.scouted else 1)
        self._covariance: Floats = onto @ model.covariance @ onto.T

    def learn(self, quality: int, size: int) -> None:
        """Corrects the curve by one encode: `size` bytes at `quality`."""
        self._condition(self._places[quality] - len(self._places), size)

    def learn_scout(self, quality: int, size: int) -> None:
        """Corrects the curve by the scout's file of `size` bytes at `quality`."""
        self._condition(self._places[quality], size)

    def _condition(self, at: int, size: int) -> None:
        spread = self._covariance[:, at]
        gain = spread / (spread[at] + _REPEATABILITY)
        self._mean = self._mean + gain * (log(max(size, 1)) - self._mean[at])
        self._covariance = self._covariance - np.outer(gain, spread)

    def log_bytes(self, *, sigmas: float = 0.0) -> Floats:
        """Returns ln(bytes) of each quality, `sigmas` deviations above the mean."""
        spread = np.sqrt(np.maximum(np.diagonal(self._covariance), 0.0))
        # Rounded, so that the last bits of a machine's linear algebra decide nothing.
        return np.round(self._mean + sigmas * spread, 6)[self._own]


# Variance of ln(bytes) that the smooth curve leaves at a single quality: encoders' own small steps.
_REPEATABILITY = 5e-6


def probe(image: Image.Image) -> Floats:
    """Measures a picture for the model.

    Args:
        image: RGB or RGBA; transparency is not looked at.

    Returns:
        The features, shape (F,): ln(bytes per pixel of the picture) as a plain JPEG at each of
        PROBE_QUALITIES, the same of the picture at half its width and height, and ln(pixels).
    """
    pixels = image.width * image.height
    opaque = image.convert("RGB") if image.mode != "RGB" else image
    sizes = [
        log(_jpeg_bytes(scaled, quality) / pixels)
        for scaled in (opaque, opaque.reduce(2))
        for quality in PROBE_QUALITIES
    ]
    return np.array([*sizes, log(max(pixels, _LEAST_PIXELS))])


def curve_model(name: str) -> CurveModel:
    """Returns the model of an encoder, by the name that `encode.py` gives it (such as "avif-balanced").

    Raises:
        KeyError: The model file does not know it.
    """
    return _models()[name]


def load_models(document: dict[str, Any]) -> dict[str, CurveModel]:
    """Returns the models of a parsed model file, by encoder name."""
    return {
        name: CurveModel(
            qualities=np.array(entry["qualities"], dtype=np.float64),
            scouted=bool(entry["scouted"]),
            mean=np.array(entry["mean"]),
            ripple=np.array(entry["ripple"]),
            weights=np.array(entry["weights"]),
            center=np.array(entry["center"]),
            covariance=np.array(entry["covariance"]),
        )
        for name, entry in document["encoders"].items()
    }


@cache
def _models() -> dict[str, CurveModel]:
    return load_models(json.loads(model_text()))


def _interpolation(grid: Floats, wanted: Floats) -> Floats:
    """Returns the matrix, shape (len(wanted), len(grid)), that interpolates linearly between grid points."""
    return np.stack([np.interp(wanted, grid, unit) for unit in np.eye(len(grid))], axis=1)


def _jpeg_bytes(image: Image.Image, quality: int) -> int:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.tell()
