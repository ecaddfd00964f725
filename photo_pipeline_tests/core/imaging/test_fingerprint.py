import random
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from photo_pipeline.core.imaging.fingerprint import (
    FEATURELESS,
    MAX_DISTANCE,
    hash_distance,
    near_duplicates,
    perceptual_hash,
)
from photo_pipeline_tests.core.imaging.real_photos import shown

DIFFERENT = [
    "drewnoakes_Canon_PowerShot_A610.jpg",
    "drewnoakes_Nikon_D3100.jpg",
    "drewnoakes_Nikon_D90.jpg",
    "drewnoakes_Sony_DSC-H9.jpg",
    "immich-app_denali.webp",
    "immich-app_handwritten-notes.jpg",
    "immich-app_japanese-shop.jpg",
    "immich-app_silver_fir.jpg",
    "immich-app_wood_anemones.jpg",
    "kodak_01.png",
    "kodak_05.png",
    "kodak_13.png",
    "kodak_19.png",
    "lomiri_sunset_by_Aitzol_Berasategi.jpg",
]
# The same landscape and the same portrait, saved with different orientations and a number painted in.
LANDSCAPES = ["recurser_Landscape_2.jpg", "recurser_Landscape_4.jpg", "recurser_Landscape_6.jpg"]
PORTRAITS = ["recurser_Portrait_5.jpg", "recurser_Portrait_8.jpg"]


def resized(image: Image.Image, *, to: float) -> Image.Image:
    size = (round(image.width * to), round(image.height * to))
    return image.resize(size, Image.Resampling.LANCZOS)


def as_jpeg(image: Image.Image, *, quality: int) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def brighter(image: Image.Image, *, by: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + by)


def cropped(image: Image.Image, *, by: float) -> Image.Image:
    """Half of that share of the width and height is cut from each side."""
    across, down = round(image.width * by / 2), round(image.height * by / 2)
    return image.crop((across, down, image.width - across, image.height - down))


def in_grey(image: Image.Image) -> Image.Image:
    return image.convert("L")


@pytest.mark.parametrize(
    ("copy", "most"),
    [
        (partial(resized, to=0.5), 3),
        (partial(resized, to=0.25), 4),
        (partial(as_jpeg, quality=60), 3),
        (partial(as_jpeg, quality=25), 4),
        (partial(brighter, by=0.1), 5),
        (partial(cropped, by=0.02), MAX_DISTANCE),
        (in_grey, 0),
    ],
)
@pytest.mark.parametrize("name", DIFFERENT)
def test_copies_of_a_real_photo_are_near(
    photos: Path, name: str, copy: Callable[[Image.Image], Image.Image], most: int
) -> None:
    image = shown(photos / "real" / name, 1200)
    assert hash_distance(perceptual_hash(image), perceptual_hash(copy(image))) <= most


def test_different_real_photos_are_far(photos: Path) -> None:
    names = [*DIFFERENT, LANDSCAPES[0], PORTRAITS[0]]
    hashes = [perceptual_hash(shown(photos / "real" / name, 1200)) for name in names]
    assert min(hash_distance(one, other) for one, other in combinations(hashes, 2)) > 2 * MAX_DISTANCE


def test_the_near_duplicates_among_real_photos_are_found_and_no_others(photos: Path) -> None:
    names = [*DIFFERENT, *PORTRAITS, *LANDSCAPES]
    hashes = {name: perceptual_hash(shown(photos / "real" / name, 1200)) for name in names}
    assert near_duplicates(hashes) == [tuple(LANDSCAPES), tuple(PORTRAITS)]


def test_a_hash_is_sixteen_hex_digits_and_always_the_same(photos: Path) -> None:
    image = shown(photos / "real" / "kodak_05.png", 1200)
    found = perceptual_hash(image)
    assert found == perceptual_hash(image.copy())
    assert len(found) == 16
    assert int(found, 16) > 0


def gradient(size: tuple[int, int]) -> Image.Image:
    return Image.linear_gradient("L").resize(size)


def stripes(size: tuple[int, int]) -> Image.Image:
    columns = np.arange(size[0]) // 7 % 2 * 255
    return Image.fromarray(np.tile(columns, (size[1], 1)).astype(np.uint8))


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (300, 200), (250, 250, 250)),
        Image.new("RGB", (1, 1), (9, 9, 9)),
        Image.new("RGBA", (64, 64), (255, 0, 0, 0)),
        gradient((640, 480)),
        gradient((640, 480)).transpose(Image.Transpose.ROTATE_90),
        stripes((640, 480)),
        Image.effect_noise((1200, 900), 60),
    ],
)
def test_a_picture_without_shapes_is_featureless(image: Image.Image) -> None:
    assert perceptual_hash(image) == FEATURELESS


def test_featureless_pictures_are_in_no_group() -> None:
    hashes = {f"flat-{n}": FEATURELESS for n in range(1000)} | {"a": "0" * 15 + "1", "b": "0" * 15 + "1"}
    assert near_duplicates(hashes) == [("a", "b")]


def test_transparent_parts_look_white_whatever_hides_there(photos: Path) -> None:
    image = shown(photos / "real" / "kodak_05.png", 1200).convert("RGBA")
    hole = Image.new("L", image.size, 255)
    hole.paste(0, (0, 0, 300, 500))
    image.putalpha(hole)
    painted = Image.new("RGB", image.size, "white")
    painted.paste(image, mask=hole)
    repainted = image.copy()
    repainted.paste((255, 0, 0, 0), (0, 0, 300, 500))
    assert perceptual_hash(image) == perceptual_hash(repainted)
    assert hash_distance(perceptual_hash(image), perceptual_hash(painted)) <= 1
    assert hash_distance(perceptual_hash(image), perceptual_hash(image.convert("RGB"))) > 1


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63)))
def test_the_distance_counts_the_bits_that_differ(value: int, flipped: set[int]) -> None:
    other = value ^ sum(1 << bit for bit in flipped)
    assert hash_distance(f"{value:016x}", f"{other:016x}") == len(flipped)


def by_comparing_all(hashes: Mapping[str, str], max_distance: int) -> list[tuple[str, ...]]:
    groups = [{name} for name in hashes if hashes[name] != FEATURELESS]
    for one, other in combinations([name for name in hashes if hashes[name] != FEATURELESS], 2):
        if hash_distance(hashes[one], hashes[other]) <= max_distance:
            first = next(group for group in groups if one in group)
            second = next(group for group in groups if other in group)
            if first is not second:
                first |= second
                groups.remove(second)
    return sorted(tuple(sorted(group)) for group in groups if len(group) > 1)


@st.composite
def hash_sets(draw: st.DrawFn) -> dict[str, str]:
    """Hashes some of which are a few bits from others: random ones alone would never be near."""
    values = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5))
    for _ in range(draw(st.integers(0, 25))):
        parent = draw(st.sampled_from(values))
        flips = draw(st.lists(st.integers(0, 63), max_size=10))
        values.append(parent ^ sum(1 << bit for bit in set(flips)))
    return {f"photo-{at}": f"{value:016x}" for at, value in enumerate(draw(st.permutations(values)))}


@given(hashes=hash_sets(), max_distance=st.integers(0, 12) | st.sampled_from([20, 63, 64]))
@example(hashes={}, max_distance=7)
@example(hashes={"a": "f" * 16}, max_distance=0)
def test_the_groups_are_those_of_comparing_all_pairs(hashes: dict[str, str], max_distance: int) -> None:
    assert near_duplicates(hashes, max_distance=max_distance) == by_comparing_all(hashes, max_distance)


@pytest.mark.parametrize("distance", range(1, 20))
def test_a_pair_is_found_however_evenly_its_differences_are_spread(distance: int) -> None:
    flips = sum(1 << (64 * at // distance) for at in range(distance))
    hashes = {"a": "123456789abcdef0", "b": f"{0x123456789ABCDEF0 ^ flips:016x}"}
    assert near_duplicates(hashes, max_distance=distance) == [("a", "b")]
    assert near_duplicates(hashes, max_distance=distance - 1) == []


def test_a_chain_of_near_pictures_is_one_group() -> None:
    hashes = {"a": "00000000000000ff", "b": "0000000000000fff", "c": "000000000000ffff"}
    assert near_duplicates(hashes, max_distance=4) == [("a", "b", "c")]
    assert near_duplicates(hashes, max_distance=3) == []


def test_pairs_are_found_among_many_photos() -> None:
    source = random.Random(7)
    hashes = {f"photo-{n:05}": f"{source.getrandbits(64):016x}" for n in range(20_000)}
    planted = []
    for n in range(0, 20_000, 200):
        flips = sum(1 << bit for bit in source.sample(range(64), MAX_DISTANCE))
        hashes[f"photo-{n:05}-copy"] = f"{int(hashes[f'photo-{n:05}'], 16) ^ flips:016x}"
        planted.append((f"photo-{n:05}", f"photo-{n:05}-copy"))
    assert near_duplicates(hashes) == planted


def test_a_crowd_that_looks_alike_is_one_group() -> None:
    source = random.Random(7)
    middle = source.getrandbits(64)
    hashes = {}
    for n in range(20_000):
        flips = sum(1 << bit for bit in source.sample(range(64), 3))
        hashes[f"scan-{n:05}"] = f"{middle ^ flips:016x}"
    assert near_duplicates(hashes) == [tuple(hashes)]


@pytest.mark.parametrize("max_distance", [-1, 65])
def test_a_distance_that_cannot_be_is_refused(max_distance: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        near_duplicates({}, max_distance=max_distance)


def test_a_hash_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        near_duplicates({"a": "not a hash"})
