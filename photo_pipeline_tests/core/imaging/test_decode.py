from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageChops, ImageOps, ImageStat

from photo_pipeline.core.errors import CorruptPhotoError
from photo_pipeline.core.imaging.decode import decode, fitting
from photo_pipeline.core.imaging.encode import encode_lossless_webp
from photo_pipeline.core.imaging.header import read_header
from photo_pipeline.core.imaging.quality import measure
from photo_pipeline_tests.core.imaging.profiles import ADOBE_RGB, DISPLAY_P3, red_cyan_press, rgb_profile

# EXIF 2.32: for each orientation, the visual side of the first row and of the first column.
_SIDES = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


def decoded(path: Path, scale: float = 1.0) -> Image.Image:
    info = read_header(path, max_pixels=100_000_000)
    return decode(path, info, size=fitting(info, scale))


def distance(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return max(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean)


def stored_as(upright: Image.Image, orientation: int) -> Image.Image:
    pixels = np.asarray(upright)
    row, column = _SIDES[orientation]
    if row in ("left", "right"):
        pixels = pixels.transpose(1, 0, 2)
    pixels = pixels[::-1] if row in ("bottom", "right") else pixels
    pixels = pixels[:, ::-1] if column in ("right", "bottom") else pixels
    return Image.fromarray(np.ascontiguousarray(pixels))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_every_orientation_gives_the_same_upright_picture(
    painting: Image.Image, tmp_path: Path, orientation: int, suffix: str
) -> None:
    path = tmp_path / f"turned{suffix}"
    stored = stored_as(painting, orientation)
    if suffix == ".tif":
        stored.save(path, tiffinfo={ExifTags.Base.Orientation: orientation})
    else:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        stored.save(path, exif=exif, quality=95)
    assert distance(decoded(path), painting) < 3


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_real_orientation_tags_are_obeyed_as_pillow_does(photos: Path, orientation: int) -> None:
    path = photos / "hostile" / f"orient{orientation}.jpg"
    with Image.open(path) as image:
        assert distance(decoded(path), ImageOps.exif_transpose(image)) == 0


def test_a_bogus_orientation_means_upright(photos: Path) -> None:
    bogus, upright = (decoded(photos / "hostile" / f"orient{n}.jpg") for n in (99, 1))
    assert distance(bogus, upright) < 3


def test_an_orientation_in_xmp_is_ignored_as_browsers_do(painting: Image.Image, tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    painting.save(tmp_path / "a.jpg", xmp=xmp)
    assert decoded(tmp_path / "a.jpg").size == painting.size


def test_wide_gamut_colours_are_converted_before_the_profile_is_dropped(tmp_path: Path) -> None:
    p3, adobe = rgb_profile("Display P3", DISPLAY_P3), rgb_profile("Adobe RGB", ADOBE_RGB)
    Image.new("RGB", (16, 16), (200, 100, 100)).save(tmp_path / "p3.png", icc_profile=p3)
    Image.new("RGB", (16, 16), (120, 200, 120)).save(tmp_path / "adobe.png", icc_profile=adobe)
    red = decoded(tmp_path / "p3.png")
    green = decoded(tmp_path / "adobe.png")
    # sRGB must ask for more red and less green to show P3's red, and for far less red for Adobe's green.
    assert red.getpixel((8, 8))[0] > 206
    assert red.getpixel((8, 8))[1] < 97
    assert green.getpixel((8, 8))[0] < 100
    assert "icc_profile" not in red.info


def test_a_profile_is_known_as_srgb_by_what_it_does_and_not_by_its_name(photos: Path, tmp_path: Path) -> None:
    # The camera's own profile is called "sRGB" and has a plain gamma of 2.2, which darkens shadows.
    with Image.open(photos / "real" / "drewnoakes_Minolta_DiMAGE_S304.jpg") as photo:
        misnamed = photo.info["icc_profile"]
    for name, profile in (("camera", misnamed), ("p3", rgb_profile("sRGB", DISPLAY_P3))):
        Image.new("RGB", (16, 16), (200, 32, 32)).save(tmp_path / f"{name}.png", icc_profile=profile)
    red, green, _ = decoded(tmp_path / "camera.png").getpixel((8, 8))
    assert abs(red - 201) <= 1
    assert abs(green - 26) <= 1
    assert decoded(tmp_path / "p3.png").getpixel((8, 8))[0] > 210


def test_neutral_grey_stays_neutral_through_a_profile(tmp_path: Path) -> None:
    profile = rgb_profile("Display P3", DISPLAY_P3)
    Image.new("RGB", (16, 16), (128, 128, 128)).save(tmp_path / "a.png", icc_profile=profile)
    pixel = decoded(tmp_path / "a.png").getpixel((8, 8))
    assert max(pixel) - min(pixel) <= 2


def test_a_profile_is_applied_below_transparency(tmp_path: Path) -> None:
    profile = rgb_profile("Display P3", DISPLAY_P3)
    Image.new("RGBA", (16, 16), (200, 100, 100, 77)).save(tmp_path / "a.png", icc_profile=profile)
    pixel = decoded(tmp_path / "a.png").getpixel((8, 8))
    assert pixel[0] > 206
    assert pixel[3] == 77


@pytest.mark.parametrize("profile", [b"broken", b"\0" * 200, red_cyan_press()])
def test_a_broken_or_alien_profile_is_ignored(painting: Image.Image, tmp_path: Path, profile: bytes) -> None:
    painting.save(tmp_path / "a.png", icc_profile=profile)
    assert distance(decoded(tmp_path / "a.png"), painting) == 0


def test_cmyk_goes_through_its_profile_and_without_one_through_the_plain_formula(tmp_path: Path) -> None:
    cyan = Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    cyan.save(tmp_path / "plain.jpg", quality=95)
    cyan.save(tmp_path / "press.jpg", quality=95, icc_profile=red_cyan_press())
    plain = decoded(tmp_path / "plain.jpg").getpixel((16, 16))
    press = decoded(tmp_path / "press.jpg").getpixel((16, 16))
    assert plain[0] < 10
    assert plain[2] > 245
    assert press[0] > press[2] + 80


def test_sixteen_bit_grey_is_scaled_not_clipped(photos: Path, tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65_535, 256).astype("uint16"), (8, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    row = np.asarray(decoded(tmp_path / "ramp.png"))[0, :, 0].astype(int)
    assert np.abs(row - np.arange(256)).max() <= 1
    assert 80 < ImageStat.Stat(decoded(photos / "hostile" / "gray16.png")).mean[0] < 150


@pytest.mark.parametrize("kind", ["int32", "float32"])
def test_deep_grey_tiffs_are_scaled_to_their_white(tmp_path: Path, kind: str) -> None:
    ramp = np.tile(np.linspace(0, 1, 256), (8, 1)) * (65_535 if kind == "int32" else 1)
    Image.fromarray(ramp.astype(kind)).save(tmp_path / "ramp.tif")
    row = np.asarray(decoded(tmp_path / "ramp.tif"))[0, :, 0].astype(int)
    assert np.abs(row - np.arange(256)).max() <= 1


@pytest.mark.parametrize(
    ("mode", "colour", "options", "pixel"),
    [
        ("1", 1, {}, (255, 255, 255)),
        ("1", 1, {"transparency": 1}, (255, 255, 255, 0)),
        ("L", 7, {}, (7, 7, 7)),
        ("L", 7, {"transparency": 7}, (7, 7, 7, 0)),
        ("LA", (100, 20), {}, (100, 100, 100, 20)),
        ("RGB", (7, 8, 9), {"transparency": (7, 8, 9)}, (7, 8, 9, 0)),
        ("RGBA", (1, 2, 3, 4), {}, (1, 2, 3, 4)),
        ("RGBA", (1, 2, 3, 255), {}, (1, 2, 3)),
    ],
)
def test_every_layout_becomes_rgb_and_keeps_alpha_only_where_it_shows(
    tmp_path: Path, mode: str, colour: int, options: dict[str, object], pixel: tuple[int, ...]
) -> None:
    Image.new(mode, (9, 5), colour).save(tmp_path / "a.png", **options)
    assert decoded(tmp_path / "a.png").getpixel((4, 2)) == pixel


def test_a_palette_with_transparency_becomes_rgba(photos: Path) -> None:
    assert decoded(photos / "hostile" / "pal_trns.png").mode == "RGBA"


def test_only_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    for suffix in (".gif", ".png", ".webp", ".avif", ".tif", ".mpo"):
        path = tmp_path / f"film{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
        assert read_header(path, max_pixels=10_000).frames == 3
        assert distance(decoded(path), frames[0]) < 3


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".gif", ".bmp"])
def test_a_file_that_is_cut_off_is_corrupt(photos: Path, tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    with Image.open(photos / "hostile" / "ok.jpg") as image:
        image.resize((300, 200)).save(whole)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.raises(CorruptPhotoError, match=cut.name):
        decoded(cut)


def test_a_photo_comes_at_the_size_that_is_asked_for_and_never_larger_than_itself(photos: Path) -> None:
    assert decoded(photos / "hostile" / "flat81MP.jpg", scale=0.1).size == (900, 900)
    assert (
        decoded(photos / "hostile" / "ok.png", scale=2.0).size
        == Image.open(photos / "hostile" / "ok.png").size
    )
    turned = decoded(photos / "hostile" / "orient6.jpg", scale=0.5)
    whole = decoded(photos / "hostile" / "orient6.jpg")
    assert turned.size == (round(whole.width / 2), round(whole.height / 2))


def test_the_decoders_own_shrinking_costs_no_visible_detail(photos: Path) -> None:
    """A plain Lanczos resize of the full decode is the measure (ssimulacra2, 100 is identical)."""
    path = photos / "real" / "immich-app_handwritten-notes.jpg"
    plain = decoded(path).resize((1200, 800), Image.Resampling.LANCZOS)
    ours = decode(path, read_header(path, max_pixels=100_000_000), size=(1200, 800))
    assert measure(plain, encode_lossless_webp(ours)) > 99
