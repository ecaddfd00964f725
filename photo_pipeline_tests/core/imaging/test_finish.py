import os
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.imaging.finish import (
    SHARPEN_MIN_SIDE,
    Watermark,
    sharpened,
    watermarked,
)
from photo_pipeline_tests.core.imaging.real_photos import shown

RED = (255, 0, 0)
colours = st.tuples(*[st.integers(0, 255)] * 3)
sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))


@pytest.fixture
def mark(tmp_path: Path) -> Watermark:
    """An opaque red mark of 100x40 px."""
    Image.new("RGB", (100, 40), RED).save(tmp_path / "mark.png")
    return Watermark(tmp_path / "mark.png", opacity=1.0, scale=0.25, margin=0.05)


@pytest.fixture(scope="module")
def kept_mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mark") / "mark.png"
    Image.new("RGBA", (37, 53), (255, 0, 0, 128)).save(path)
    return path


def red_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Where the picture is redder than grey."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return Image.fromarray((pixels[..., 0] - pixels[..., 1] > 100).astype(np.uint8)).getbbox()


def edge() -> Image.Image:
    pixels = np.full((32, 64), 64, dtype=np.uint8)
    pixels[:, 32:] = 192
    return Image.fromarray(pixels).convert("RGB")


def mean_step(image: Image.Image) -> float:
    return float(np.abs(np.diff(np.asarray(image.convert("L")).astype(float), axis=1)).mean())


@given(colour=colours, size=sizes, alpha=st.none() | st.integers(0, 255))
@example(colour=RED, size=(1, 1), alpha=None)
def test_a_flat_picture_is_not_changed_by_sharpening(
    colour: tuple[int, int, int], size: tuple[int, int], alpha: int | None
) -> None:
    image = Image.new("RGB", size, colour)
    if alpha is not None:
        image.putalpha(alpha)
    # What premultiplied colours of faint pixels lose to rounding is below what their opacity shows.
    allowed = 0 if alpha in (None, 255) else 255 * 0.25 / max(1, alpha) + 1
    difference = np.asarray(sharpened(image)).astype(int) - np.asarray(image)
    if alpha != 0:
        assert np.abs(difference).max() <= allowed


def test_an_edge_gets_steeper_without_a_wide_or_strong_halo() -> None:
    before, after = (np.asarray(image)[16, :, 0].astype(int) for image in (edge(), sharpened(edge())))
    changed = np.flatnonzero(before != after)
    assert set(changed) == {31, 32}
    assert 4 <= after[32] - 192 <= 12
    assert 4 <= 64 - after[31] <= 12


def test_a_real_photo_gets_crisper_but_no_brighter(photos: Path) -> None:
    image = shown(photos / "real" / "kodak_19.png", SHARPEN_MIN_SIDE)
    sharp = sharpened(image)
    assert sharp.size == image.size
    assert sharp.mode == "RGB"
    assert 1.08 < mean_step(sharp) / mean_step(image) < 1.3
    assert np.asarray(sharp).mean() == pytest.approx(np.asarray(image).mean(), abs=0.5)


def test_sharpening_leaves_alpha_alone_and_treats_colours_as_without_it(photos: Path) -> None:
    image = shown(photos / "real" / "kodak_19.png", SHARPEN_MIN_SIDE)
    seen = image.convert("RGBA")
    assert sharpened(seen).convert("RGB").tobytes() == sharpened(image).tobytes()
    alpha = Image.linear_gradient("L").resize(seen.size)
    seen.putalpha(alpha)
    assert sharpened(seen).getchannel("A").tobytes() == alpha.tobytes()


def test_colours_under_transparency_do_not_reach_visible_pixels() -> None:
    sharp = []
    for hidden in ((0, 0, 0, 0), (255, 255, 255, 0)):
        image = Image.new("RGBA", (40, 40), hidden)
        image.paste((120, 130, 140, 255), (10, 10, 30, 30))
        sharp.append(np.asarray(sharpened(image)))
    visible = sharp[0][..., 3] > 0
    assert (sharp[0][visible] == sharp[1][visible]).all()
    assert (sharp[0][visible] == (120, 130, 140, 255)).all()


@pytest.mark.parametrize(
    ("position", "box"),
    [
        ("bottom-right", (290, 170, 390, 190)),
        ("bottom-left", (10, 170, 110, 190)),
        ("top-right", (290, 10, 390, 30)),
        ("top-left", (10, 10, 110, 30)),
        ("center", (150, 90, 250, 110)),
    ],
)
def test_the_mark_is_put_where_it_was_asked_for(
    tmp_path: Path, position: Any, box: tuple[int, int, int, int]
) -> None:
    Image.new("RGB", (200, 40), RED).save(tmp_path / "wide.png")
    mark = Watermark(tmp_path / "wide.png", opacity=1.0, position=position, scale=0.25, margin=0.05)
    marked = watermarked(Image.new("RGB", (400, 200), (90, 90, 90)), mark)
    assert red_box(marked) == box
    assert marked.getpixel((box[0] - 1, box[1])) == (90, 90, 90)


def test_the_original_picture_is_left_as_it_was(mark: Watermark) -> None:
    image = Image.new("RGB", (400, 200), (90, 90, 90))
    watermarked(image, mark)
    assert red_box(image) is None


def test_opacity_mixes_the_mark_with_the_picture(mark: Watermark) -> None:
    marked = watermarked(Image.new("RGB", (400, 400), (0, 0, 200)), replace(mark, opacity=0.25))
    assert marked.getpixel((370, 375)) == pytest.approx((64, 0, 150), abs=1)


def test_the_marks_own_transparency_is_kept(tmp_path: Path) -> None:
    half = Image.new("RGBA", (100, 40), (0, 255, 0, 0))
    half.paste((255, 0, 0, 255), (50, 0, 100, 40))
    half.save(tmp_path / "half.png")
    mark = Watermark(tmp_path / "half.png", opacity=1.0, scale=0.25, margin=0, position="top-left")
    marked = watermarked(Image.new("RGB", (400, 200), (90, 90, 90)), mark)
    assert marked.getpixel((20, 20)) == (90, 90, 90)
    assert marked.getpixel((80, 20)) == RED


def test_a_mark_is_never_enlarged_beyond_its_own_pixels(mark: Watermark) -> None:
    marked = watermarked(Image.new("RGB", (4000, 2000)), replace(mark, scale=1.0, position="top-left"))
    assert red_box(marked) == (100, 100, 200, 140)


def test_a_variant_smaller_than_the_mark_gets_a_smaller_mark(mark: Watermark) -> None:
    left, top, right, bottom = red_box(watermarked(Image.new("RGB", (40, 8)), replace(mark, scale=1.0)))
    assert (right - left) / (bottom - top) == pytest.approx(2.5, rel=0.15)
    assert right <= 40
    assert bottom <= 8


@given(
    size=sizes,
    mode=st.sampled_from(["RGB", "RGBA"]),
    scale=st.floats(0.01, 1),
    margin=st.floats(0, 0.499),
    position=st.sampled_from(["bottom-right", "bottom-left", "top-right", "top-left", "center"]),
)
@example(size=(1, 1), mode="RGB", scale=1.0, margin=0.499, position="bottom-right")
def test_any_variant_takes_the_mark_within_its_margins(
    kept_mark: Path, size: tuple[int, int], mode: str, scale: float, margin: float, position: Any
) -> None:
    mark = Watermark(kept_mark, opacity=1.0, scale=scale, margin=margin, position=position)
    image = Image.new(mode, size)
    marked = watermarked(image, mark)
    assert (marked.mode, marked.size) == (mode, size)
    box = red_box(marked)
    assert box is not None
    edge = min(round(margin * min(size)), (min(size) - 1) // 2)
    assert min(box[0], box[1], size[0] - box[2], size[1] - box[3]) >= edge


def test_on_transparent_ground_the_mark_shows_and_the_rest_stays_transparent(mark: Watermark) -> None:
    image = Image.new("RGBA", (400, 200), (0, 0, 0, 0))
    image.paste((0, 0, 200, 255), (0, 0, 200, 200))
    marked = watermarked(image, replace(mark, opacity=0.5, position="top-right"))
    assert marked.mode == "RGBA"
    assert marked.getpixel((380, 15)) == pytest.approx((255, 0, 0, 128), abs=1)
    assert marked.getpixel((300, 100))[3] == 0
    over_picture = watermarked(image, replace(mark, opacity=0.5, position="top-left"))
    assert over_picture.getpixel((15, 15)) == pytest.approx((128, 0, 100, 255), abs=1)


def test_the_digest_names_the_bytes_and_the_settings_but_not_the_place(mark: Watermark) -> None:
    moved = mark.image.with_name("moved.png")
    moved.write_bytes(mark.image.read_bytes())
    assert replace(mark, image=moved).digest() == mark.digest()
    Image.new("RGB", (100, 40), (254, 0, 0)).save(moved)
    digests = {
        mark.digest(),
        replace(mark, image=moved).digest(),
        replace(mark, opacity=0.9).digest(),
        replace(mark, scale=0.3).digest(),
        replace(mark, margin=0.06).digest(),
        replace(mark, position="center").digest(),
    }
    assert len(digests) == 6


def test_a_replaced_file_is_seen_by_the_same_process(mark: Watermark) -> None:
    watermarked(Image.new("RGB", (400, 200)), mark)
    Image.new("RGB", (100, 40), (0, 255, 0)).save(mark.image)
    os.utime(mark.image, (1, 1))
    assert watermarked(Image.new("RGB", (400, 200)), mark).getpixel((370, 180)) == (0, 255, 0)


def test_a_pinned_mark_is_refused_once_its_file_holds_something_else(mark: Watermark) -> None:
    pinned, ground = mark.pinned(), Image.new("RGB", (100, 100))
    assert watermarked(ground, pinned).tobytes() == watermarked(ground, mark).tobytes()
    assert pinned.digest() == mark.digest()
    Image.new("RGB", (9, 9), "blue").save(mark.image)
    watermarked(ground, mark)
    for use in (pinned.digest, partial(watermarked, ground, pinned)):
        with pytest.raises(ConfigurationError, match="replaced during the run"):
            use()


def test_a_mark_travels_to_a_worker(mark: Watermark) -> None:
    assert pickle.loads(pickle.dumps(mark)) == mark


def test_a_mark_of_any_photo_format_will_do(mark: Watermark) -> None:
    jpeg = mark.image.with_suffix(".jpg")
    Image.new("RGB", (100, 40), RED).save(jpeg, quality=95)
    assert red_box(watermarked(Image.new("RGB", (400, 200)), replace(mark, image=jpeg))) is not None


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "cut off", "huge"])
def test_a_file_that_is_no_mark_is_a_configuration_error_that_names_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "logo.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("a logo")
    elif kind == "cut off":
        Image.effect_noise((80, 80), 50).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "huge":
        Image.new("1", (4000, 1001)).save(path)
    mark = Watermark(path)
    for use in (mark.digest, lambda: watermarked(Image.new("RGB", (40, 40)), mark)):
        with pytest.raises(ConfigurationError, match=r"logo\.png") as caught:
            use()
        assert caught.value.cause
        assert "PNG" in caught.value.fix


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("opacity", 0.0),
        ("opacity", 1.01),
        ("opacity", float("nan")),
        ("scale", 0.0),
        ("scale", 1.5),
        ("margin", -0.1),
        ("margin", 0.5),
        ("position", "middle"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(setting: str, value: Any) -> None:
    settings: dict[str, Any] = {setting: value}
    with pytest.raises(ConfigurationError, match=f"watermark.{setting}"):
        Watermark(Path("logo.png"), **settings)
