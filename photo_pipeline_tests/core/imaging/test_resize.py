from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from photo_pipeline.core.imaging.recipe import VariantSpec
from photo_pipeline.core.imaging.resize import plan, render
from photo_pipeline_tests.core.imaging.conftest import FULL, THUMB

sides = st.integers(min_value=1, max_value=30_000)
boxes = st.builds(
    VariantSpec,
    name=st.just("any"),
    fit=st.sampled_from(("inside", "cover")),
    width=st.integers(1, 5_000),
    height=st.integers(1, 5_000),
    max_bytes=st.none(),
)


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(4_000, 3_000, (1_200, 900)), (3_000, 4_000, (900, 1_200)), (800, 600, (800, 600)),
     (10_000, 1, (1_200, 1)), (1, 1, (1, 1)), (1_200, 1_201, (1_199, 1_200))],
)  # fmt: skip
def test_inside_fits_the_box_and_never_enlarges(width: int, height: int, size: tuple[int, int]) -> None:
    geometry = plan(FULL, width=width, height=height)
    assert geometry.size == size
    assert geometry.box == (0, 0, width, height)


@pytest.mark.parametrize(
    ("width", "height", "size", "box"),
    [
        (4_000, 3_000, (150, 150), (500, 0, 3_500, 3_000)),
        (100, 400, (100, 100), (0, 150, 100, 250)),
        (20_000, 10, (10, 10), (9_995, 0, 10_005, 10)),
        (150, 150, (150, 150), (0, 0, 150, 150)),
        (1, 1, (1, 1), (0, 0, 1, 1)),
    ],
)
def test_cover_crops_the_centre_and_never_enlarges(
    width: int, height: int, size: tuple[int, int], box: tuple[float, ...]
) -> None:
    geometry = plan(THUMB, width=width, height=height)
    assert geometry.size == size
    assert geometry.box == box


@given(spec=boxes, width=sides, height=sides, shrink=st.floats(0.1, 1.0))
def test_no_plan_enlarges_vanishes_or_leaves_the_picture(
    spec: VariantSpec, width: int, height: int, shrink: float
) -> None:
    geometry = plan(spec, width=width, height=height, shrink=shrink)
    left, top, right, bottom = geometry.box
    assert 1 <= geometry.size[0] <= min(spec.width, width)
    assert 1 <= geometry.size[1] <= min(spec.height, height)
    assert 0 <= left < right <= width + 1e-6
    assert 0 <= top < bottom <= height + 1e-6


def test_a_picture_that_is_right_already_is_not_resampled(painting: Image.Image) -> None:
    geometry = plan(FULL, width=96, height=64)
    assert render(painting, geometry, width=96, height=64) is painting


def test_a_crop_from_a_smaller_buffer_shows_the_same_part(painting: Image.Image) -> None:
    spec = replace(THUMB, width=16, height=16)
    geometry = plan(spec, width=96, height=64)
    from_full = render(painting, geometry, width=96, height=64)
    from_half = render(painting.resize((48, 32)), geometry, width=96, height=64)
    assert from_full.size == from_half.size == (16, 16)
    differences = [abs(a - b) for a, b in zip(from_full.tobytes(), from_half.tobytes(), strict=True)]
    assert sum(differences) / len(differences) < 6


def test_transparent_colours_do_not_bleed_into_edges() -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 31, 64))
    small = render(image, plan(replace(THUMB, width=8, height=8), width=64, height=64), width=64, height=64)
    assert all(red <= 8 for red, _, _, alpha in small.get_flattened_data() if alpha > 16)
