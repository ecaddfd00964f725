"""Photos that are not plain: each kind gets the treatment that docs/images.md declares."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageSequence, ImageStat

from photo_pipeline.core.errors import PhotoTooLargeError
from photo_pipeline.core.imaging.best_file import LOSSLESS_QUALITY
from photo_pipeline.core.imaging.finish import Watermark
from photo_pipeline.core.imaging.recipe import Effort, ImageFormat, Recipe, VariantSpec
from photo_pipeline.core.imaging.variants import MadePhoto, MadeVariant, make_variants
from photo_pipeline_tests.core.imaging.conftest import FULL, THUMB, everything

HEIC = (
    "bigcat88_pug.heic",
    pytest.param("drewnoakes_IMG_1034.heic", marks=pytest.mark.slow),
    pytest.param("drewnoakes_IMG_2929.HEIC", marks=pytest.mark.slow),
    "immich-app_IMG_2682.heic",
)


def made(source: Path, folder: Path, recipe: Recipe) -> MadePhoto:
    return make_variants(
        source, recipe, everything(recipe), lambda name, format: folder / f"{name}.{format.extension}"
    )


def only(recipe: Recipe, *formats: ImageFormat) -> Recipe:
    """The recipe without the formats that a test does not look at: an AVIF takes most of a photo's time."""
    return replace(recipe, formats=formats)


def variant(photo: MadePhoto, name: str, format: ImageFormat) -> MadeVariant:
    (found,) = (each for each in photo.variants if (each.variant, each.format) == (name, format))
    return found


def difference(one: Image.Image, other: Image.Image) -> float:
    return max(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean)


@pytest.mark.parametrize("name", ["anim.gif", "anim.png", "anim.webp"])
def test_an_animation_is_its_first_frame_unless_it_is_declared(
    photos: Path, tmp_path: Path, name: str
) -> None:
    # Each frame is encoded, so with few pixels.
    recipe = Recipe(variants=(replace(FULL, width=120, height=120), replace(THUMB, width=40, height=40)))
    still = made(photos / "hostile" / name, tmp_path / "still", recipe)
    assert still.info.frames > 1
    for each in still.variants:
        assert getattr(Image.open(each.path), "n_frames", 1) == 1
    moving = made(photos / "hostile" / name, tmp_path / "moving", replace(recipe, animation="keep"))
    for each in moving.variants:
        frames = getattr(Image.open(each.path), "n_frames", 1)
        assert frames == (1 if each.format is ImageFormat.JPEG else still.info.frames), each


def test_a_kept_animation_shows_the_same_frames_as_long(photos: Path, tmp_path: Path, recipe: Recipe) -> None:
    source = photos / "hostile" / "anim.gif"
    photo = made(source, tmp_path, replace(recipe, animation="keep"))
    with Image.open(source) as before, Image.open(variant(photo, "full", ImageFormat.WEBP).path) as after:
        shown = [(frame.info["duration"], frame.convert("RGB")) for frame in ImageSequence.Iterator(before)]
        for (duration, frame), again in zip(shown, ImageSequence.Iterator(after), strict=True):
            again.load()
            assert again.info["duration"] == duration
            assert difference(again, frame) < 12


def test_an_animation_of_too_many_pixels_is_refused_with_the_way_out(
    photos: Path, tmp_path: Path, recipe: Recipe
) -> None:
    with Image.open(photos / "hostile" / "anim.gif") as image:
        one_frame = image.width * image.height
    narrow = replace(recipe, animation="keep", max_pixels=2 * one_frame)
    with pytest.raises(PhotoTooLargeError, match="first_frame"):
        made(photos / "hostile" / "anim.gif", tmp_path, narrow)
    made(photos / "hostile" / "anim.gif", tmp_path, replace(narrow, animation="first_frame"))


def test_a_drawing_is_kept_without_loss_in_webp(tmp_path: Path, recipe: Recipe) -> None:
    image = Image.new("RGB", (900, 500), "white")
    draw = ImageDraw.Draw(image)
    for step in range(40):
        draw.line((step * 20, 0, 900 - step * 20, 500), fill=(step * 6, 20, 255 - step * 6), width=2)
    image.save(tmp_path / "drawing.png")
    photo = made(tmp_path / "drawing.png", tmp_path / "made", only(recipe, ImageFormat.WEBP))
    webp = variant(photo, "full", ImageFormat.WEBP)
    assert webp.quality == LOSSLESS_QUALITY
    assert difference(Image.open(webp.path), image) == 0


def test_a_photograph_in_png_is_no_drawing(photos: Path, tmp_path: Path, recipe: Recipe) -> None:
    photo = made(photos / "real" / "kodak_05.png", tmp_path, only(recipe, ImageFormat.WEBP))
    assert variant(photo, "full", ImageFormat.WEBP).quality < LOSSLESS_QUALITY


@pytest.mark.parametrize("name", HEIC)
def test_heic_is_decoded_upright(photos: Path, tmp_path: Path, recipe: Recipe, name: str) -> None:
    pytest.importorskip("pillow_heif", reason="HEIC is an extra")
    photo = made(photos / "real" / name, tmp_path, only(recipe, ImageFormat.JPEG))
    full = variant(photo, "full", ImageFormat.JPEG)
    assert max(full.width, full.height) == min(1200, max(photo.info.width, photo.info.height))
    assert (full.width > full.height) == (photo.info.width > photo.info.height)


def test_tiny_and_extreme_photos_keep_their_pixels(photos: Path, tmp_path: Path, recipe: Recipe) -> None:
    tiny = made(photos / "hostile" / "1x1.png", tmp_path / "tiny", recipe)
    assert {(each.width, each.height, each.met_target) for each in tiny.variants} == {(1, 1, True)}
    thin = made(photos / "hostile" / "20000x10.jpg", tmp_path / "thin", recipe)
    assert {(each.width, each.height) for each in thin.variants} == {(1200, 1), (10, 10)}


@pytest.fixture
def subject_left(tmp_path: Path) -> Path:
    """A wide grey wall with something to look at far left."""
    image = Image.new("RGB", (1200, 300), (128, 128, 128))
    draw = ImageDraw.Draw(image)
    for ring in range(60, 0, -6):
        draw.ellipse((100 - ring, 150 - ring, 100 + ring, 150 + ring), fill=(250 - ring * 2, ring * 2, 40))
    image.save(tmp_path / "wall.png")
    return tmp_path / "wall.png"


def redness(path: Path) -> float:
    red, green, _ = Image.open(path).convert("RGB").split()
    return ImageStat.Stat(ImageChops.subtract(red, green)).mean[0]


def test_a_cover_variant_shows_the_subject(subject_left: Path, tmp_path: Path) -> None:
    smart = made(subject_left, tmp_path / "smart", only(Recipe(variants=(FULL, THUMB)), ImageFormat.JPEG))
    in_the_middle = Recipe(variants=(FULL, replace(THUMB, crop="center")))
    center = made(subject_left, tmp_path / "center", only(in_the_middle, ImageFormat.JPEG))
    seen = redness(variant(smart, "thumb", ImageFormat.JPEG).path)
    assert seen > 5 + redness(variant(center, "thumb", ImageFormat.JPEG).path)


def test_a_focal_point_overrides_the_subject_and_names_other_objects(
    subject_left: Path, tmp_path: Path, recipe: Recipe
) -> None:
    right = replace(recipe, focal_point=(0.9, 0.5))
    photo = made(subject_left, tmp_path, right)
    assert redness(variant(photo, "thumb", ImageFormat.JPEG).path) < 1
    assert right.digest != recipe.digest


def test_a_watermark_and_sharpening_change_variants_and_digest(
    photos: Path, tmp_path: Path, recipe: Recipe
) -> None:
    recipe = only(recipe, ImageFormat.JPEG)
    Image.new("RGBA", (80, 40), (255, 0, 0, 255)).save(tmp_path / "mark.png")
    mark = Watermark(image=tmp_path / "mark.png", opacity=1.0, scale=1.0)
    source = photos / "real" / "drewnoakes_Nikon_D40.jpg"
    plain = made(source, tmp_path / "plain", recipe)
    marked = made(source, tmp_path / "marked", replace(recipe, watermark=mark))
    corner = Image.open(variant(marked, "full", ImageFormat.JPEG).path).convert("RGB")
    red, green, _ = corner.getpixel((corner.width - 40, corner.height - 25))  # type: ignore[misc]
    assert red > 200
    assert green < 60
    sharp = made(source, tmp_path / "sharp", replace(recipe, sharpen=True))
    assert variant(sharp, "full", ImageFormat.JPEG).sha256 != variant(plain, "full", ImageFormat.JPEG).sha256
    assert (
        variant(sharp, "thumb", ImageFormat.JPEG).sha256 == variant(plain, "thumb", ImageFormat.JPEG).sha256
    )
    digests = {recipe.digest, replace(recipe, watermark=mark).digest, replace(recipe, sharpen=True).digest}
    assert len(digests) == 3


def test_each_effort_makes_another_avif_and_the_same_other_files(photos: Path, tmp_path: Path) -> None:
    small = VariantSpec(name="full", fit="inside", width=400, height=400, max_bytes=15_000)
    photographs = {
        effort: made(
            photos / "real" / "kodak_05.png", tmp_path / effort, Recipe(variants=(small,), effort=effort)
        )
        for effort in Effort
    }
    avif = {variant(photo, "full", ImageFormat.AVIF).sha256 for photo in photographs.values()}
    jpeg = {variant(photo, "full", ImageFormat.JPEG).sha256 for photo in photographs.values()}
    assert (len(avif), len(jpeg)) == (3, 1)


def test_every_photo_gets_stand_ins_and_a_fingerprint(photos: Path, tmp_path: Path, recipe: Recipe) -> None:
    recipe = only(recipe, ImageFormat.JPEG)
    photo = made(photos / "real" / "kodak_05.png", tmp_path, recipe)
    assert photo.placeholder.data_uri.startswith("data:image/webp;base64,")
    assert len(photo.perceptual_hash) == 16
    again = made(photos / "real" / "kodak_08.png", tmp_path / "other", recipe)
    assert again.placeholder.thumbhash != photo.placeholder.thumbhash


def test_transparency_survives_a_kept_animation(tmp_path: Path, recipe: Recipe) -> None:
    frames = [Image.new("RGBA", (64, 64), (255, 0, 0, 0)) for _ in range(3)]
    for at, frame in enumerate(frames):
        ImageDraw.Draw(frame).rectangle((at * 20, 0, at * 20 + 15, 63), fill=(0, 0, 255, 255))
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=50, lossless=True)
    photo = made(tmp_path / "a.webp", tmp_path / "made", replace(recipe, animation="keep"))
    for format in (ImageFormat.WEBP, ImageFormat.AVIF):
        with Image.open(io.BytesIO(variant(photo, "full", format).path.read_bytes())) as image:
            image.seek(1)
            pixels = image.convert("RGBA")
        assert pixels.getpixel((60, 30))[3] < 30  # type: ignore[index]
        assert pixels.getpixel((27, 30))[3] > 225  # type: ignore[index]
