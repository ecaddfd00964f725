from math import exp, log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from photo_pipeline.core.imaging.decode import decode
from photo_pipeline.core.imaging.encode import encoder
from photo_pipeline.core.imaging.forecast import forecast
from photo_pipeline.core.imaging.header import read_header
from photo_pipeline.core.imaging.recipe import Effort, ImageFormat
from photo_pipeline.core.imaging.size_model import CurveModel, SizeCurve, curve_model, probe

LOW, HIGH = 20, 85
QUALITIES = range(LOW, HIGH + 1)
EVERY_ENCODER = [
    encoder(format, effort)
    for format in ImageFormat
    for effort in (Effort if format is ImageFormat.AVIF else [Effort.BALANCED])
]


def curve_of(model: CurveModel, features: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> SizeCurve:
    return SizeCurve(model, features, pixels=1_000_000, qualities=QUALITIES)


@pytest.mark.parametrize("each", EVERY_ENCODER, ids=lambda each: each.name)
def test_every_encoder_has_a_model_whose_sizes_grow_with_quality(each: object) -> None:
    model = curve_model(each.name)  # type: ignore[attr-defined]
    sizes = curve_of(model, model.center).log_bytes()
    assert (np.diff(sizes) > 0).all()
    assert log(5_000) < sizes[0] < sizes[-1] < log(3_000_000)  # a megapixel, from worst to best


@pytest.mark.parametrize("each", EVERY_ENCODER, ids=lambda each: each.name)
@given(quality=st.integers(LOW, HIGH), factor=st.floats(0.2, 5))
def test_an_encode_is_believed_where_it_was_made_and_makes_the_rest_surer(
    each: object, quality: int, factor: float
) -> None:
    model = curve_model(each.name)  # type: ignore[attr-defined]
    curve = curve_of(model, model.center)
    expected, above = curve.log_bytes(), curve.log_bytes(sigmas=1)
    size = round(exp(expected[quality - LOW]) * factor)
    curve.learn(quality, size)
    learnt = curve.log_bytes()
    assert learnt[quality - LOW] == pytest.approx(log(size), abs=0.02)
    assert (curve.log_bytes(sigmas=1) - learnt <= above - expected + 1e-5).all()


@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_any_picture_can_be_probed_and_foretold(width: int, height: int) -> None:
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    for each in EVERY_ENCODER:
        curve = SizeCurve(curve_model(each.name), probe(image), pixels=width * height, qualities=QUALITIES)
        assert np.isfinite(curve.log_bytes(sigmas=2)).all()


@pytest.mark.parametrize(
    "each",
    [
        # Six encodes of 1.3 s each; the other efforts of the same encoder are quick.
        pytest.param(each, marks=pytest.mark.slow if each.name == "avif-quality" else (), id=each.name)
        for each in EVERY_ENCODER
    ],
)
def test_sizes_of_real_photos_are_foretold(photos: Path, each: object) -> None:
    """Photos that the model was not fitted on: the median error stays below 12 % of the bytes."""
    errors = []
    for name in ("kodak_05.png", "kodak_19.png", "lomiri_life_by_Aitzol_Berasategi.jpg"):
        source = photos / "real" / name
        info = read_header(source, max_pixels=100_000_000)
        image = decode(source, info, size=(600, 400))
        found = each
        budget = len(found.encode(image, 55))  # type: ignore[attr-defined]
        curve = forecast(found, image, probe(image), budget=budget, qualities=QUALITIES)  # type: ignore[arg-type]
        errors.append(abs(curve.log_bytes()[55 - LOW] - log(budget)))
    assert np.median(errors) < 0.12
