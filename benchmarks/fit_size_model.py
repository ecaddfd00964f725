"""Fits the size model from a folder of photos: `python -m benchmarks.fit_size_model DIR [DIR ...]`.

Encodes each photo at two sizes and several qualities with every encoder, a few of them at every quality for
the encoders' own steps (`ripple`), and writes
`photo_pipeline/core/imaging/size_model.json`. Prints how well each curve is foretold for photos that the
fit did not see (leave one photo out). Fit it on other photos than those that the benchmarks judge by.
"""

import argparse
import json
import os
import random
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from math import log
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from photo_pipeline.core.errors import PhotoError
from photo_pipeline.core.imaging import size_model
from photo_pipeline.core.imaging.decode import decode
from photo_pipeline.core.imaging.encode import Encode, Encoder, encoder
from photo_pipeline.core.imaging.header import read_header
from photo_pipeline.core.imaging.model_file import MODEL_FILE
from photo_pipeline.core.imaging.recipe import Effort, ImageFormat, VariantSpec, library_versions
from photo_pipeline.core.imaging.resize import plan

Floats = npt.NDArray[np.float64]

MODEL = Path(size_model.__file__).with_name(MODEL_FILE)
QUALITIES = (20, 30, 40, 50, 60, 70, 78, 85)
SIDES = (1200, 500)

# Photos, and the longest side in pixels, at which every quality is looked at.
_RIPPLE_PHOTOS, _RIPPLE_SIDE = 12, 700
_RIPPLE_QUALITIES = range(QUALITIES[0], QUALITIES[-1] + 1)

# Pictures that behave unlike the others (drawings, doubled pixels) count for less than a photograph.
_USUAL_DEVIATION = 2.0

# Ridge on standardised features: a hundred photos do not tell five of them apart exactly.
_RIDGE = 1.0


@dataclass(frozen=True)
class Sample:
    """One photo at one size: what was measured and how large its files became (ln(bytes per pixel))."""

    photo: str
    features: list[float]
    curves: dict[str, list[float]]


def main() -> None:
    """Fits and writes the model."""
    arguments = _arguments()
    samples = _samples(arguments)
    encoders = sorted(_encoders(with_slow=True), key=lambda each: each.name)
    ripples = _ripples(arguments)
    document = {
        "fitted_on": {"photos": len({sample.photo for sample in samples}), "sides": SIDES},
        "libraries": library_versions(),
        "encoders": {
            each.name: fit(each, known, ripples[_family(each)])
            for each in encoders
            if (known := _known(samples, each))
        },
    }
    MODEL.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{len(samples)} pictures -> {MODEL}")


def _samples(arguments: argparse.Namespace) -> list[Sample]:
    """Returns what was measured, now or in an earlier run that kept it."""
    kept: Path | None = arguments.samples
    if kept is not None and kept.is_file():
        return [Sample(**entry) for entry in json.loads(kept.read_text(encoding="utf-8"))]
    photos = _photos(arguments)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        measured = pool.map(measure, photos, repeat(arguments.slow))
        samples = [sample for group in measured for sample in group]
    if kept is not None:
        kept.write_text(json.dumps([asdict(sample) for sample in samples]), encoding="utf-8")
    return samples


def _photos(arguments: argparse.Namespace) -> list[Path]:
    photos = [path for folder in arguments.folders for path in sorted(folder.iterdir()) if path.is_file()]
    random.Random(0).shuffle(photos)
    return photos[: arguments.limit]


def _ripples(arguments: argparse.Namespace) -> dict[str, Floats]:
    """Returns the mean deviation from straight lines between grid points, by family of encoders.

    All of a family take their quality the same way: the fastest one tells the steps.
    """
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = [each for each in pool.map(_steps, _photos(arguments)[:_RIPPLE_PHOTOS]) if each]
    return {family: np.mean([each[family] for each in found], axis=0).round(4) for family in found[0]}


def _steps(path: Path) -> dict[str, Floats]:
    """Returns one photo's deviations by family; none if it is too small or cannot be decoded."""
    image = _decoded(path, _RIPPLE_SIDE)
    if image is None:
        return {}
    steps = {}
    for each in (encoder(format, Effort.SPEED) for format in ImageFormat):
        curve = np.array([log(len(each.encode(image, quality))) for quality in _RIPPLE_QUALITIES])
        on_grid = np.interp(QUALITIES, _RIPPLE_QUALITIES, curve)
        ripple = np.zeros(100)
        ripple[np.array(_RIPPLE_QUALITIES) - 1] = curve - np.interp(_RIPPLE_QUALITIES, QUALITIES, on_grid)
        steps[_family(each)] = ripple
    return steps


def _family(encoder: Encoder) -> str:
    return encoder.name.partition("-")[0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders of photos")
    parser.add_argument("--limit", type=int, default=120, help="photos at most, chosen by a fixed shuffle")
    parser.add_argument("--slow", type=int, default=4, help="one photo in so many also with effort quality")
    parser.add_argument("--samples", type=Path, help="keep the measurements here, or take them from here")
    return parser.parse_args()


def measure(path: Path, slow: int) -> list[Sample]:
    """Returns a photo's samples, one per size that it is large enough for; none if it cannot be decoded."""
    pictures = [image for side in SIDES if (image := _decoded(path, side)) is not None]
    return [_sample(path.name, image, with_slow=sum(path.name.encode()) % slow == 0) for image in pictures]


def _decoded(path: Path, side: int) -> Image.Image | None:
    """Returns the photo within a square of that side; None if it is smaller or cannot be decoded."""
    spec = VariantSpec(name="full", fit="inside", width=side, height=side, max_bytes=None)
    try:
        info = read_header(path, max_pixels=100_000_000)
        geometry = plan(spec, width=info.width, height=info.height)
        return decode(path, info, size=geometry.size).convert("RGB") if max(geometry.size) == side else None
    except PhotoError as error:
        print(f"left out: {error}")
        return None


def _sample(name: str, image: Image.Image, *, with_slow: bool) -> Sample:
    pixels = image.width * image.height
    encodes: dict[str, Encode] = {}
    for each in _encoders(with_slow=with_slow):
        encodes[each.name] = each.encode
        if each.scout is not None:  # One and the same for every encoder that has one.
            encodes[size_model.SCOUT] = each.scout
    curves = {
        kind: [log(len(encode(image, quality)) / pixels) for quality in QUALITIES]
        for kind, encode in encodes.items()
    }
    return Sample(name, size_model.probe(image).tolist(), curves)


def _encoders(*, with_slow: bool) -> Iterable[Encoder]:
    """Returns each encoder once: what a format makes the same way with every effort has one name."""
    efforts = [effort for effort in Effort if with_slow or effort is not Effort.QUALITY]
    found = (encoder(format, effort) for format in ImageFormat for effort in efforts)
    return {each.name: each for each in found}.values()


def _known(samples: list[Sample], encoder: Encoder) -> list[Sample]:
    """Returns the samples that have the encoder's curve; one that is slow was not tried on every photo."""
    return [sample for sample in samples if encoder.name in sample.curves]


def fit(encoder: Encoder, samples: list[Sample], ripple: Floats) -> dict[str, object]:
    """Returns one encoder's entry of the model file; prints its error on photos that were left out.

    Encoders with a scout are fitted together with it: their curves stand behind its curve in one vector.
    """
    has_scout = encoder.scout is not None
    blocks = [size_model.SCOUT, encoder.name] if has_scout else [encoder.name]
    curves = np.array([np.concatenate([s.curves[block] for block in blocks]) for s in samples])
    features = np.array([s.features for s in samples])
    photos = np.array([s.photo for s in samples])
    residuals = np.empty_like(curves)
    usual = np.ones(len(samples))
    for _ in range(4):
        for photo in set(photos):
            seen = photos != photo
            mean, weights, center = _regress(features[seen], curves[seen], usual[seen])
            residuals[~seen] = curves[~seen] - (mean + (features[~seen] - center) @ weights.T)
        usual = _usualness(residuals)
    mean, weights, center = _regress(features, curves, usual)
    # Of photos that the regression did not see, so that the forecast knows its own error.
    covariance = (residuals * usual[:, None]).T @ residuals / usual.sum()
    error = _error(covariance, has_scout)
    print(f"{encoder.name:14} {len(set(photos)):4} photos, error of ln(bytes) by quality: {error}")
    return {
        "qualities": QUALITIES,
        "scouted": has_scout,
        "mean": mean.round(5).tolist(),
        "ripple": ripple.tolist(),
        "weights": weights.round(5).tolist(),
        "center": center.round(5).tolist(),
        "covariance": covariance.round(6).tolist(),
    }


def _error(covariance: Floats, has_scout: bool) -> Floats:
    """Returns the standard deviation at each quality, after the scout was at that quality if there is one."""
    variance = np.diagonal(covariance)
    if has_scout:
        half = len(QUALITIES)
        shared = np.diagonal(covariance[:half, half:])
        variance = variance[half:] - shared**2 / variance[:half]
    return np.sqrt(variance).round(3)


def _usualness(residuals: Floats) -> Floats:
    """Returns each sample's weight: 1 up to _USUAL_DEVIATION times the usual error, falling beyond."""
    size = np.sqrt((residuals**2).mean(1))
    limit = _USUAL_DEVIATION * np.median(size)
    return np.minimum(1.0, (limit / np.maximum(size, 1e-9)) ** 2)


def _regress(features: Floats, curves: Floats, usual: Floats) -> tuple[Floats, Floats, Floats]:
    """Returns mean curve, weights (curve x features) and the features' center, by ridge regression."""
    center, scale = np.average(features, axis=0, weights=usual), features.std(0) + 1e-9
    standard = (features - center) / scale
    mean = np.average(curves, axis=0, weights=usual)
    gram = (standard * usual[:, None]).T @ standard + _RIDGE * np.eye(standard.shape[1])
    weights = np.linalg.solve(gram, (standard * usual[:, None]).T @ (curves - mean)).T / scale
    return mean, weights, center


if __name__ == "__main__":
    main()
