import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageStat
from thumbhash import rgba_to_thumb_hash

from photo_pipeline.core.imaging.placeholder import make_placeholder, thumb_hash
from photo_pipeline_tests.core.imaging.real_photos import shown

PREFIX = "data:image/webp;base64,"
PHOTOS = ["drewnoakes_Nikon_D40.jpg", "kodak_23.png", "lomiri_sunset_by_Aitzol_Berasategi.jpg"]
colours = st.tuples(*[st.integers(0, 255)] * 3)
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


def preview(data_uri: str) -> Image.Image:
    assert data_uri.startswith(PREFIX)
    image = Image.open(BytesIO(base64.b64decode(data_uri.removeprefix(PREFIX))), formats=["WEBP"])
    image.load()
    return image


def painted(width: int, height: int, *, alpha: str) -> NDArray[np.uint8]:
    """A picture without symmetries, whose exact zeros would hash to the rounding of whoever computes them."""
    rows, columns = np.mgrid[:height, :width]
    across, down = columns / width, rows / height
    opacity = {"opaque": 1 + 0 * across, "fading": 1.3 * down + 0.2 * across**2, "hidden": 0 * across}[alpha]
    bands = (
        across**2 * (1 - 0.6 * down),
        0.2 + 0.8 * down**3 * across,
        abs(across - 0.3) * (1.1 - down) + 0.1 * across,
        opacity,
    )
    return np.stack([np.floor(np.clip(band, 0, 1) * 255) for band in bands], axis=2).astype(np.uint8)


# From the reference encoder, npm thumbhash 0.1.1, run on the same pixels.
@pytest.mark.parametrize(
    ("width", "height", "alpha", "expected"),
    [
        (40, 30, "opaque", "T9gNJY6gh4d4iHh4d3iHeFigCfpU"),
        (3, 100, "opaque", "DLgJIQjAiYl3h3iHI5Ap+lM="),
        (30, 40, "fading", "j8iJFAg6oId6iHiHaAXbsm9yeAiHZ3h3Bw=="),
        (100, 7, "fading", "UNiJEYhJoIeph4hXsA7rJ4aHcHiHd3c="),
        (60, 60, "hidden", "AAiCBQAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="),
    ],
)
def test_thumbhashes_are_those_of_the_reference_encoder(
    width: int, height: int, alpha: str, expected: str
) -> None:
    assert base64.b64encode(thumb_hash(painted(width, height, alpha=alpha))).decode() == expected


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photos_thumbhash_is_that_of_the_thumbhash_package(photos: Path, name: str) -> None:
    image = shown(photos / "real" / name, 100)
    expected = rgba_to_thumb_hash(*image.size, list(image.convert("RGBA").tobytes()))
    assert list(base64.b64decode(make_placeholder(image).thumbhash)) == expected


@pytest.mark.parametrize("name", PHOTOS)
def test_the_preview_looks_like_the_photo(photos: Path, name: str) -> None:
    image = shown(photos / "real" / name, 1200)
    small = preview(make_placeholder(image).data_uri)
    assert max(small.size) == 20
    assert small.width / small.height == pytest.approx(image.width / image.height, rel=0.06)
    difference = ImageChops.difference(small.convert("RGB"), image.resize(small.size, Image.Resampling.BOX))
    assert max(ImageStat.Stat(difference).mean) < 20


@pytest.mark.parametrize("name", PHOTOS)
def test_a_placeholder_hardly_depends_on_the_scale_it_is_made_from(photos: Path, name: str) -> None:
    large, small = (make_placeholder(shown(photos / "real" / name, side)) for side in (1200, 300))
    one, other = (list(base64.b64decode(each.thumbhash)) for each in (large, small))
    nibbles = [
        (a >> turn & 15) - (b >> turn & 15) for a, b in zip(one, other, strict=True) for turn in (0, 4)
    ]
    assert max(map(abs, nibbles)) <= 1
    assert (
        max(ImageStat.Stat(ImageChops.difference(*map(preview, (large.data_uri, small.data_uri)))).mean) < 6
    )


@settings(max_examples=40)
@given(size=sizes, mode=st.sampled_from(["RGB", "RGBA"]))
@example(size=(1, 1), mode="RGB")
@example(size=(10_000, 1), mode="RGB")
@example(size=(1, 10_000), mode="RGBA")
def test_every_size_gives_a_small_placeholder_without_metadata(size: tuple[int, int], mode: str) -> None:
    image = Image.effect_noise(size, 90).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.effect_noise(size, 90))
    image.info = {"exif": b"Exif\0\0secret", "icc_profile": b"profile", "xmp": b"xmp"}
    made = make_placeholder(image)
    small = preview(made.data_uri)
    assert max(small.size) == min(20, max(size))
    assert not {"exif", "icc_profile", "xmp"} & set(small.info)
    assert len(made.data_uri) <= 1_500
    assert 17 <= len(base64.b64decode(made.thumbhash)) <= 25


def test_a_photos_preview_is_a_few_hundred_bytes(photos: Path) -> None:
    for name in PHOTOS:
        assert len(make_placeholder(shown(photos / "real" / name, 1200)).data_uri) < 500


def test_the_preview_keeps_transparency() -> None:
    image = Image.new("RGBA", (200, 100), (0, 0, 255, 255))
    image.paste((0, 0, 0, 0), (0, 0, 100, 100))
    small = preview(make_placeholder(image).data_uri)
    assert small.mode == "RGBA"
    assert small.getpixel((3, 5))[3] < 20
    assert small.getpixel((16, 5))[3] > 235


@given(colour=colours, size=sizes)
def test_a_flat_pictures_dominant_colour_is_its_colour(
    colour: tuple[int, int, int], size: tuple[int, int]
) -> None:
    made = make_placeholder(Image.new("RGB", size, colour))
    assert made.dominant_colour == "#{:02x}{:02x}{:02x}".format(*colour)


def test_the_most_frequent_colour_wins_over_the_mean_and_over_what_is_brighter() -> None:
    image = Image.new("RGB", (100, 100), (20, 40, 160))
    image.paste((255, 255, 0), (0, 0, 100, 40))
    assert make_placeholder(image).dominant_colour == "#1428a0"


@pytest.mark.parametrize("middle", [96, 104, 111, 112])
def test_shades_of_one_colour_are_counted_together(middle: int) -> None:
    """Wherever they lie: 60 % of the pixels are shades of grey, 40 % one and the same red."""
    shades = np.random.default_rng(1).integers(middle - 15, middle + 16, (60, 100), dtype=np.uint8)
    pixels = np.full((100, 100, 3), (200, 0, 0), dtype=np.uint8)
    pixels[:60] = shades[..., None]
    dominant = make_placeholder(Image.fromarray(pixels)).dominant_colour
    assert dominant[1:3] == dominant[3:5] == dominant[5:7]
    assert int(dominant[1:3], 16) == pytest.approx(middle, abs=6)


def test_colours_under_transparency_do_not_count() -> None:
    pictures = []
    for hidden in ((255, 0, 0, 0), (0, 255, 0, 0)):
        image = Image.new("RGBA", (80, 60), hidden)
        image.paste((0, 0, 200, 255), (0, 0, 20, 20))
        pictures.append(make_placeholder(image))
    assert pictures[0].dominant_colour == "#0000c8"
    assert pictures[0] == pictures[1]


def test_faint_pixels_count_by_their_opacity() -> None:
    image = Image.new("RGBA", (50, 50), (100, 100, 100, 255))
    image.paste((110, 110, 110, 51), (0, 0, 50, 25))
    assert make_placeholder(image).dominant_colour == "#666666"


def test_a_picture_without_a_visible_pixel_is_white() -> None:
    assert make_placeholder(Image.new("RGBA", (30, 30), (255, 0, 0, 0))).dominant_colour == "#ffffff"
