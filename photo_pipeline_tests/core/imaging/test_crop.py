from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.imaging.crop import attention_box
from photo_pipeline_tests.core.imaging.real_photos import shown

fractions = st.floats(0, 1)
aspects = st.floats(0.05, 20)
sizes = st.tuples(st.integers(1, 400), st.integers(1, 400))
SKIN = (224, 172, 138)


def wide_with_subject(at: int, *, colour: tuple[int, int, int] = SKIN, mode: str = "RGB") -> Image.Image:
    """A flat wide picture with a textured disc of 120 px whose left edge is at that pixel."""
    image = Image.new(mode, (1200, 300), (150, 155, 160))
    disc = Image.new("RGB", (120, 120), colour)
    lines = ImageDraw.Draw(disc)
    for row in range(0, 120, 12):
        lines.line((0, row, 120, row), fill=tuple(level // 2 for level in colour), width=4)
    mask = Image.new("L", disc.size)
    ImageDraw.Draw(mask).ellipse((0, 0, 119, 119), fill=255)
    image.paste(disc, (at, 90), mask)
    return image


def centre_box(image: Image.Image, aspect: float) -> tuple[float, float, float, float]:
    return attention_box(image, aspect=aspect, focal=(0.5, 0.5))


def shift(image: Image.Image, aspect: float) -> float:
    """How far the window is from the centre, along whichever axis it slides; a share of the picture."""
    found, centre = attention_box(image, aspect=aspect), centre_box(image, aspect)
    return found[0] - centre[0] + found[1] - centre[1]


@given(size=sizes, aspect=aspects, focal=st.none() | st.tuples(fractions, fractions))
@example(size=(400, 1), aspect=0.05, focal=None)
@example(size=(1, 1), aspect=20.0, focal=None)
def test_the_window_is_the_largest_of_its_aspect_and_within_the_picture(
    size: tuple[int, int], aspect: float, focal: tuple[float, float] | None
) -> None:
    image = Image.effect_noise(size, 60).convert("RGB")
    left, top, right, bottom = attention_box(image, aspect=aspect, focal=focal)
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    assert max(right - left, bottom - top) == pytest.approx(1)
    assert (right - left) * size[0] / ((bottom - top) * size[1]) == pytest.approx(aspect)


@given(size=sizes, aspect=aspects, focal=st.tuples(fractions, fractions))
def test_a_focal_point_is_in_the_middle_as_far_as_the_edges_allow(
    size: tuple[int, int], aspect: float, focal: tuple[float, float]
) -> None:
    box = attention_box(Image.new("RGB", size), aspect=aspect, focal=focal)
    for at, start, end in zip(focal, box[:2], box[2:], strict=True):
        assert start - 1e-9 <= at <= end + 1e-9
        # A window that does not touch an edge had no reason not to be centred.
        if start > 1e-9 and end < 1 - 1e-9:
            assert (start + end) / 2 == pytest.approx(at)


@given(colour=st.tuples(*[st.integers(0, 255)] * 3), size=sizes, aspect=aspects)
@example(colour=(255, 0, 0), size=(300, 200), aspect=1.0)
@example(colour=SKIN, size=(200, 301), aspect=0.5)
def test_a_flat_picture_is_cut_in_the_exact_centre(
    colour: tuple[int, int, int], size: tuple[int, int], aspect: float
) -> None:
    image = Image.new("RGB", size, colour)
    assert attention_box(image, aspect=aspect) == centre_box(image, aspect)


@given(size=sizes)
def test_the_pictures_own_aspect_takes_all_of_it(size: tuple[int, int]) -> None:
    assert attention_box(Image.new("RGB", size), aspect=size[0] / size[1]) == (0, 0, 1, 1)
    assert attention_box(Image.new("RGB", size), aspect=1 / (size[1] / size[0])) == (0, 0, 1, 1)


@pytest.mark.parametrize("at", [0, 200, 540, 800, 1080])
@pytest.mark.parametrize("colour", [SKIN, (220, 20, 30), (90, 60, 40), (20, 20, 20)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_subject_on_flat_ground_is_wholly_in_the_window(
    at: int, colour: tuple[int, int, int], turned: bool
) -> None:
    image = wide_with_subject(at, colour=colour)
    if turned:
        image = image.transpose(Image.Transpose.TRANSPOSE)
    box = attention_box(image, aspect=1)
    start, end = (box[1], box[3]) if turned else (box[0], box[2])
    assert start * 1200 <= at + 1
    assert end * 1200 >= at + 119


def test_a_subject_with_room_around_it_is_not_left_at_the_windows_edge() -> None:
    left, _, right, _ = attention_box(wide_with_subject(250), aspect=1)
    assert min(250 - left * 1200, right * 1200 - 370) >= 30


def test_a_patch_of_skin_draws_more_than_the_same_patch_in_grey() -> None:
    image = wide_with_subject(1000, colour=(179, 179, 179))
    image.paste(wide_with_subject(80).crop((80, 0, 200, 300)), (80, 0))
    assert shift(image, 1) < 0


def test_equal_subjects_on_both_sides_leave_the_window_where_one_is_nearer() -> None:
    image = wide_with_subject(100)
    image.paste(wide_with_subject(900).crop((900, 0, 1020, 300)), (900, 0))
    left, _, right, _ = attention_box(image, aspect=1)
    assert left * 1200 <= 900
    assert right * 1200 >= 1020


def test_what_is_transparent_draws_no_attention() -> None:
    hidden = wide_with_subject(20, colour=(255, 0, 0)).convert("RGBA")
    hidden.putalpha(Image.new("L", hidden.size, 0))
    hidden.paste(wide_with_subject(1000).crop((950, 0, 1200, 300)), (950, 0))
    assert attention_box(hidden, aspect=1)[2] * 1200 >= 1119


def test_colours_that_hide_under_transparency_draw_no_attention() -> None:
    """In a picture so small that it is looked at as it is."""
    image = Image.new("RGBA", (90, 30), (0, 0, 0, 0))
    image.paste((*SKIN, 0), (0, 0, 30, 30))
    assert attention_box(image, aspect=1) == centre_box(image, 1)


@pytest.mark.parametrize("focal", [(-0.01, 0.5), (0.5, 1.01), (float("nan"), 0.5)])
def test_a_focal_point_outside_of_the_picture_is_refused(focal: tuple[float, float]) -> None:
    with pytest.raises(ConfigurationError, match="focal point"):
        attention_box(Image.new("RGB", (20, 10)), aspect=1, focal=focal)


@pytest.mark.parametrize("aspect", [0.0, -1.0, float("inf"), float("nan")])
def test_an_impossible_aspect_is_refused(aspect: float) -> None:
    with pytest.raises(ConfigurationError, match="aspect"):
        attention_box(Image.new("RGB", (20, 10)), aspect=aspect)


# The subjects were marked by hand: left, top, right, bottom in fractions.
SUBJECTS = [
    ("drewnoakes_Nikon_D3100.jpg", 0.6, (0.57, 0.27, 0.77, 0.67)),  # a leaf on snow
    ("drewnoakes_HTC_One_M8.jpg", 0.6, (0.55, 0.3, 0.8, 0.8)),  # a yellow flower but for its rim
    ("recurser_Portrait_5.jpg", 1.0, (0.35, 0.6, 0.52, 0.95)),  # a man at the lower edge
    ("drewnoakes_Minolta_DiMAGE_S304.jpg", 0.7, (0.28, 0.03, 0.75, 0.97)),  # a scooter in the middle
]


@pytest.mark.parametrize(("name", "aspect", "subject"), SUBJECTS)
def test_the_subject_of_a_real_photo_is_in_the_window(
    photos: Path, name: str, aspect: float, subject: tuple[float, float, float, float]
) -> None:
    left, top, right, bottom = attention_box(shown(photos / "real" / name, 1200), aspect=aspect)
    assert left <= subject[0]
    assert top <= subject[1]
    assert right >= subject[2]
    assert bottom >= subject[3]


# Photos of each kind of place for the subject: left, right, top, bottom, middle, everywhere.
REAL = [
    "drewnoakes_Canon_PowerShot_A85.jpg",
    "drewnoakes_HTC_One_M8.jpg",
    "drewnoakes_Nikon_D3100.jpg",
    "immich-app_book-beside-flowers.jpg",
    "immich-app_silver_fir.jpg",
    "kodak_23.png",
    "lomiri_aitzgorri_by_Aitzol_Berasategi.jpg",
    "recurser_Portrait_5.jpg",
]


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("aspect", [0.6, 1.0, 2.4])
def test_the_window_hardly_depends_on_the_scale_and_mirrors_with_the_photo(
    photos: Path, name: str, aspect: float
) -> None:
    image = shown(photos / "real" / name, 1200)
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    assert shift(half, aspect) == pytest.approx(shift(image, aspect), abs=0.03)
    turned = image.transpose(Image.Transpose.ROTATE_180)
    assert shift(turned, aspect) == pytest.approx(-shift(image, aspect), abs=0.06)
    assert attention_box(image.copy(), aspect=aspect) == attention_box(image, aspect=aspect)


@pytest.mark.parametrize(
    "name",
    [
        "drewnoakes_Canon_PowerShot_A85.jpg",
        "drewnoakes_HTC_One_M8.jpg",
        "drewnoakes_Nikon_D3100.jpg",
        "kodak_23.png",
        "lomiri_aitzgorri_by_Aitzol_Berasategi.jpg",
    ],
)
def test_the_window_leaves_the_centre_only_for_what_it_gains(photos: Path, name: str) -> None:
    """Once the part that it gains over the centre is wiped out, the window is drawn elsewhere."""
    image = shown(photos / "real" / name, 1200)
    aspect = 0.5 * image.width / image.height
    moved = shift(image, aspect)
    assert abs(moved) > 0.05
    left, _, right, _ = attention_box(image, aspect=aspect)
    gained = (0.75, right) if moved > 0 else (left, 0.25)
    wiped = image.copy()
    start, end = (round(at * image.width) for at in gained)
    colour = tuple(int(level) for level in np.asarray(image)[:, start:end].mean(axis=(0, 1)))
    wiped.paste(colour, (start, 0, end, image.height))
    assert shift(wiped, aspect) * moved < moved * moved * 0.9


def test_a_grey_photo_is_cut_by_its_shapes(photos: Path) -> None:
    image = shown(photos / "real" / "drewnoakes_Nikon_D3100.jpg", 1200)
    grey = ImageOps.grayscale(image).convert("RGB")
    assert shift(grey, 0.6) == pytest.approx(shift(image, 0.6), abs=0.1)
    assert shift(grey, 0.6) > 0.1
