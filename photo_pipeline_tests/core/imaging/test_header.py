from pathlib import Path
from time import perf_counter

import pytest
from PIL import ExifTags, Image

from photo_pipeline.core.errors import (
    CorruptPhotoError,
    PhotoChangedError,
    PhotoTooLargeError,
    UnsupportedFormatError,
)
from photo_pipeline.core.imaging.header import describe_content, is_supported, read_header, sniff

MAX_PIXELS = 100_000_000


@pytest.mark.parametrize(
    ("suffix", "family"),
    [(".jpg", "JPEG"), (".png", "PNG"), (".webp", "WEBP"), (".avif", "AVIF"), (".gif", "GIF"),
     (".tif", "TIFF"), (".bmp", "BMP")],
)  # fmt: skip
def test_the_format_is_decided_by_content_whatever_the_extension_says(
    painting: Image.Image, tmp_path: Path, suffix: str, family: str
) -> None:
    painting.save(tmp_path / f"honest{suffix}")
    path = (tmp_path / f"honest{suffix}").rename(tmp_path / "lying.txt")
    assert sniff(path) == family
    assert read_header(path, max_pixels=MAX_PIXELS).format == family


@pytest.mark.parametrize(
    ("head", "family"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", None),
        (b"BMW is a car, not a bitmap, whatever it begins with", None),
        (b"%PDF-1.7\n", None),
        (b"", None),
    ],
)
def test_signatures_that_begin_alike_are_told_apart(tmp_path: Path, head: bytes, family: str | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(head)
    assert sniff(path) == family


def test_content_that_is_no_photo_is_named_for_the_message() -> None:
    assert "Adobe" in describe_content(b"%PDF-1.7\n%abc")
    assert describe_content("Grüße aus Köln, dies ist kein Foto".encode()) == "text"
    assert describe_content(bytes(range(200, 256))) == "unknown data"
    assert describe_content(b"") == "an empty file"


def test_a_heic_photo_is_named_and_says_what_to_install(tmp_path: Path) -> None:
    if is_supported("HEIC"):
        pytest.skip("pillow-heif is installed")
    path = tmp_path / "phone.jpg"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(UnsupportedFormatError, match="pillow-heif"):
        read_header(path, max_pixels=MAX_PIXELS)


def test_sizes_are_as_displayed_and_camera_and_time_are_read(painting: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Canon\0"
    exif[ExifTags.Base.Model] = "Canon EOS 20D"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:05:06 07:08:09"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.OffsetTimeOriginal] = "+02:00"
    painting.save(tmp_path / "a.jpg", exif=exif)
    info = read_header(tmp_path / "a.jpg", max_pixels=MAX_PIXELS)
    assert (info.width, info.height, info.orientation) == (64, 96, 6)
    assert info.camera.name == "Canon EOS 20D"
    assert info.camera.taken_at == "2024-05-06T07:08:09+02:00"
    assert (info.mode, info.mime, info.has_alpha, info.frames) == ("RGB", "image/jpeg", False, 1)


@pytest.mark.parametrize("name", ["orient99.jpg", "badexif.jpg"])
def test_bogus_orientation_and_broken_exif_mean_upright(photos: Path, name: str) -> None:
    info = read_header(photos / "hostile" / name, max_pixels=MAX_PIXELS)
    assert (info.orientation, info.width, info.height) == (1, 600, 400)


@pytest.mark.parametrize("name", ["bomb144MP.png", "bomb256MP.jpg", "bomb400MP.png"])
def test_bombs_are_refused_from_their_header_within_a_second(photos: Path, name: str) -> None:
    start = perf_counter()
    with pytest.raises(PhotoTooLargeError, match=name):
        read_header(photos / "hostile" / name, max_pixels=MAX_PIXELS)
    assert perf_counter() - start < 1


def test_a_webp_bomb_is_refused_before_its_plugin_reserves_two_canvases(tmp_path: Path) -> None:
    path = tmp_path / "bomb.webp"
    side = (16_383).to_bytes(3, "little")
    path.write_bytes(b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + side + side + bytes(40))
    with pytest.raises(PhotoTooLargeError, match="16384x16384"):
        read_header(path, max_pixels=MAX_PIXELS)


def test_the_pixel_limit_is_the_recipes(painting: Image.Image, tmp_path: Path) -> None:
    painting.save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png", max_pixels=96 * 64).width == 96
    with pytest.raises(PhotoTooLargeError):
        read_header(tmp_path / "a.png", max_pixels=96 * 64 - 1)


@pytest.mark.parametrize("kind", ["lossy", "lossless", "alpha"])
def test_the_size_in_a_webp_signature_is_the_size_of_the_picture(tmp_path: Path, kind: str) -> None:
    mode = "RGBA" if kind == "alpha" else "RGB"
    Image.new(mode, (301, 97), 7).save(tmp_path / "a.webp", lossless=kind == "lossless")
    assert read_header(tmp_path / "a.webp", max_pixels=301 * 97).height == 97
    with pytest.raises(PhotoTooLargeError, match="301x97"):
        read_header(tmp_path / "a.webp", max_pixels=301 * 97 - 1)


def test_empty_and_missing_files_are_told_apart_from_broken_ones(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(CorruptPhotoError, match="empty"):
        read_header(tmp_path / "empty.jpg", max_pixels=MAX_PIXELS)
    with pytest.raises(PhotoChangedError, match="gone"):
        read_header(tmp_path / "missing.jpg", max_pixels=MAX_PIXELS)
