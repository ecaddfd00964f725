"""The demo's sample photos: what each file is, and that the same seed gives the same bytes."""

import hashlib
import io
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from photo_pipeline.demo import photos as photos_module
from photo_pipeline.demo.photos import DemoPhoto, DemoPhotos, make_photos
from photo_pipeline.demo.scenes import SCENES, take_photo

LONGEST_SIDE_PX = 400


@pytest.fixture(scope="session", params=["smaller", pytest.param("as they are", marks=pytest.mark.slow)])
def photos(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> DemoPhotos:
    """All photos; the quick tests have the large ones in smaller sizes, since their pixels take 13 s."""
    shots = photos_module._SHOTS
    if request.param == "smaller":
        shots = tuple(map(_smaller, shots))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photos_module, "_SHOTS", shots)
        return make_photos(tmp_path_factory.mktemp("demo"))


def _smaller(shot: photos_module._Shot) -> photos_module._Shot:
    factor = -(-max(shot.width, shot.height) // LONGEST_SIDE_PX)
    return replace(shot, width=shot.width // factor, height=shot.height // factor)


def _open(photos: DemoPhotos, path: str) -> Image.Image:
    image = Image.open(photos.uploads / path)
    image.load()
    return image


def _named(photos: DemoPhotos, name: str) -> DemoPhoto:
    return next(photo for photo in photos.good if Path(photo.path).name == name)


def test_every_file_of_the_folder_has_a_role_and_every_role_its_file(photos: DemoPhotos) -> None:
    found = {p.relative_to(photos.uploads).as_posix() for p in photos.uploads.rglob("*") if p.is_file()}
    assert found == set(photos.on_disk)
    assert len(found) == len(photos.on_disk)
    assert photos.missing not in found


def test_every_good_photo_opens_whole_in_the_size_and_format_that_it_declares(photos: DemoPhotos) -> None:
    for photo in photos.good:
        image = _open(photos, photo.path)
        assert Image.MIME[image.format or ""] == photo.mime_type
        assert ImageOps.exif_transpose(image).size == (photo.width, photo.height)
        assert (photos.uploads / photo.path).stat().st_size == photo.size_bytes


def test_photos_come_in_several_formats_many_sizes_and_at_most_three_large(photos: DemoPhotos) -> None:
    assert {"image/jpeg", "image/png", "image/webp"} <= {photo.mime_type for photo in photos.good}
    pixels = [shot.width * shot.height for shot in photos_module._SHOTS]
    assert min(pixels) <= 400 * 300
    assert max(pixels) == 4000 * 3000
    assert sum(count > 4_000_000 for count in pixels) <= 3


def test_photos_have_the_exif_that_they_declare(photos: DemoPhotos) -> None:
    for photo in photos.good:
        exif = _open(photos, photo.path).getexif()
        taken_at = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
        assert (ExifTags.Base.Make in exif and taken_at is not None) == photo.has_exif, photo.path
        latitude = exif.get_ifd(ExifTags.IFD.GPSInfo).get(ExifTags.GPS.GPSLatitude)
        assert (latitude is not None) == photo.has_gps, photo.path


def test_most_jpegs_say_where_they_were_taken(photos: DemoPhotos) -> None:
    jpegs = [photo for photo in photos.good if photo.mime_type == "image/jpeg"]
    assert sum(photo.has_gps for photo in jpegs) > len(jpegs) / 2


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_photo_is_stored_turned_as_its_orientation_says(photos: DemoPhotos, orientation: int) -> None:
    photo = next(photo for photo in photos.good if photo.orientation == orientation)
    image = _open(photos, photo.path)
    assert image.getexif()[ExifTags.Base.Orientation] == orientation
    assert (image.size == (photo.width, photo.height)) == (orientation == 3)


@pytest.mark.parametrize("name", ["upside-down-dunes.jpg", "waterfall.jpg"])
def test_a_turned_photo_displays_upright(photos: DemoPhotos, name: str) -> None:
    shown = ImageOps.exif_transpose(_open(photos, _named(photos, name).path)).resize((30, 40))
    light = np.asarray(shown.convert("L"), dtype=float)
    # The sky and the bright top of the cliff are above, the dark foreground below.
    assert light[:16].mean() > light[-8:].mean()


def test_duplicates_have_the_same_bytes_under_another_name(photos: DemoPhotos) -> None:
    assert len(photos.duplicates) == 2
    for copy, original in photos.duplicates:
        assert copy != original
        assert (photos.uploads / copy).read_bytes() == (photos.uploads / original).read_bytes()


def test_photos_that_are_no_declared_duplicates_differ(photos: DemoPhotos) -> None:
    digests = {hashlib.sha256((photos.uploads / photo.path).read_bytes()).digest() for photo in photos.good}
    assert len(digests) == len(photos.good)


def test_the_corrupt_jpeg_has_a_valid_header_and_does_not_decode(photos: DemoPhotos) -> None:
    with Image.open(photos.uploads / photos.corrupt) as image:
        assert image.format == "JPEG"
        with pytest.raises(OSError, match="truncated"):
            image.load()


def test_mislabelled_files_are_what_their_roles_say(photos: DemoPhotos) -> None:
    assert photos.mislabelled.endswith(".jpg")
    assert _open(photos, photos.mislabelled).format == "PNG"
    assert photos.not_an_image.endswith(".jpg")
    with pytest.raises(UnidentifiedImageError):
        Image.open(photos.uploads / photos.not_an_image)
    assert (photos.uploads / photos.empty).stat().st_size == 0


def test_unreferenced_files_are_whole_photos(photos: DemoPhotos) -> None:
    for path in photos.unreferenced:
        assert min(_open(photos, path).size) > 100


def test_names_hold_spaces_percent_signs_and_both_unicode_forms(photos: DemoPhotos) -> None:
    names = [photo.path for photo in photos.items]
    assert any(" " in name for name in names)
    assert any("%20" in name for name in names)
    assert any("% " in name for name in names)
    accented = [name for name in names if not name.isascii()]
    assert any(unicodedata.is_normalized("NFC", name) for name in accented)
    assert any(not unicodedata.is_normalized("NFC", name) for name in accented)


def test_one_photo_is_grey_one_transparent_and_one_in_a_wide_gamut(photos: DemoPhotos) -> None:
    assert _open(photos, _named(photos, "grey-fruit.jpg").path).mode == "L"
    cutout = _open(photos, _named(photos, "vase-cutout.png").path)
    assert cutout.getchannel("A").getextrema() == (0, 255)
    profile = _open(photos, _named(photos, "wide-gamut-flower.jpg").path).info["icc_profile"]
    opened = ImageCms.getOpenProfile(io.BytesIO(profile))
    assert "wide gamut" in ImageCms.getProfileDescription(opened)
    # sRGB's reddest red lies at x = 0.436 in this space; Display P3 reaches further.
    assert opened.profile.red_colorant is not None
    assert opened.profile.red_colorant[0][0] == pytest.approx(0.515, abs=0.001)


def test_thumbnails_are_small_jpegs_of_their_photos(photos: DemoPhotos) -> None:
    with_thumbnail = [photo for photo in photos.good if photo.thumbnail]
    assert len(with_thumbnail) >= 5
    for photo in with_thumbnail:
        thumbnail = _open(photos, str(photo.thumbnail))
        assert thumbnail.format == "JPEG"
        assert max(thumbnail.size) == 150


@pytest.mark.parametrize("scene", sorted(SCENES))
def test_the_same_seed_gives_the_same_picture_and_another_seed_another(scene: str) -> None:
    first, again, other = (take_photo(scene, width=120, height=90, seed=seed).tobytes() for seed in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.fixture(scope="session")
def photos_again(tmp_path_factory: pytest.TempPathFactory, photos: DemoPhotos) -> DemoPhotos:
    """All but the large photos once more, in a folder where the missing photo has come back."""
    folder = tmp_path_factory.mktemp("again")
    (folder / "uploads/items").mkdir(parents=True)
    (folder / "uploads" / photos.missing).write_bytes(b"back")
    small = [shot for shot in photos_module._SHOTS if shot.width * shot.height < 4_000_000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photos_module, "_SHOTS", small)
        return make_photos(folder)


@pytest.mark.slow
@pytest.mark.parametrize("photos", ["as they are"], indirect=True)
def test_making_the_photos_again_gives_the_same_bytes(photos: DemoPhotos, photos_again: DemoPhotos) -> None:
    assert len(photos_again.good) == len(photos.good) - 3
    assert set(photos_again.good) < set(photos.good)
    for path in photos_again.on_disk:
        assert (photos_again.uploads / path).read_bytes() == (photos.uploads / path).read_bytes(), path


@pytest.mark.slow
@pytest.mark.parametrize("photos", ["as they are"], indirect=True)
def test_the_missing_photo_is_missing_even_if_it_had_come_back(photos_again: DemoPhotos) -> None:
    assert not (photos_again.uploads / photos_again.missing).exists()
