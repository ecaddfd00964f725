from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageChops, ImageStat

from photo_pipeline.core.imaging.decode import decode
from photo_pipeline.core.imaging.encode import Encode, encoder, flattened, keeps_alpha
from photo_pipeline.core.imaging.header import read_header
from photo_pipeline.core.imaging.recipe import Effort, ImageFormat

formats = pytest.mark.parametrize("format", list(ImageFormat))


def encoding(format: ImageFormat, effort: Effort = Effort.BALANCED) -> Encode:
    return encoder(format, effort).encode


def reopened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.load()
    return image


@formats
def test_a_picture_survives_encoding(painting: Image.Image, format: ImageFormat) -> None:
    data = encoding(format)(painting, 85)
    again = reopened(data)
    assert again.format == format.name
    assert max(ImageStat.Stat(ImageChops.difference(again.convert("RGB"), painting)).mean) < 6


@formats
def test_equal_pixels_give_equal_bytes(painting: Image.Image, format: ImageFormat) -> None:
    encode = encoding(format)
    assert encode(painting, 60) == encode(painting.copy(), 60)
    assert encode(painting, 60) != encode(painting, 40)


@formats
def test_metadata_on_the_image_does_not_reach_the_file(painting: Image.Image, format: ImageFormat) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Spy"
    clean = encoding(format)(painting, 60)
    painting.info = {"exif": exif.tobytes(), "xmp": b"<x/>", "icc_profile": b"p" * 200, "comment": b"hello"}
    assert encoding(format)(painting, 60) == clean


@formats
def test_every_tiny_or_thin_size_can_be_encoded(painting: Image.Image, format: ImageFormat) -> None:
    for size in ((1, 1), (1, 40), (40, 1), (3, 3), (15, 17), (16, 16), (17, 33)):
        assert reopened(encoding(format)(painting.resize(size), 50)).size == size


@formats
def test_noise_at_the_highest_qualities_overflows_no_buffer(format: ImageFormat) -> None:
    noise = Image.merge("RGB", [Image.effect_noise((300, 300), 200) for _ in range(3)])
    for quality in (85, 94, 100):
        assert len(encoding(format)(noise, quality)) > 50_000


@formats
def test_transparency_is_kept_where_the_format_can_and_flattened_where_not(format: ImageFormat) -> None:
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (20, 0, 40, 40))
    again = reopened(encoding(format)(flattened(image, format, (10, 200, 30)), 85))
    if keeps_alpha(format):
        assert again.mode == "RGBA"
        assert again.getpixel((5, 20))[3] < 8
        assert again.getpixel((35, 20))[3] > 247
    else:
        red, green, blue = again.getpixel((5, 20))
        assert (abs(red - 10) < 12, abs(green - 200) < 12, abs(blue - 30) < 12) == (True, True, True)


def test_jpegs_are_progressive_with_halved_chroma(painting: Image.Image) -> None:
    image = reopened(encoding(ImageFormat.JPEG)(painting, 60))
    assert image.info["progressive"] == 1
    assert [(layer[1], layer[2]) for layer in image.layer] == [(2, 2), (1, 1), (1, 1)]


def test_avif_has_more_levels_than_libavif_and_sizes_grow_with_quality(photos: Path) -> None:
    """libavif alone has 42 levels for these 66 qualities."""
    source = photos / "real" / "kodak_05.png"
    picture = decode(source, read_header(source, max_pixels=1_000_000), size=(384, 256))
    encode = encoding(ImageFormat.AVIF, Effort.SPEED)
    files = [encode(picture, quality) for quality in range(20, 86)]
    steps = np.diff(np.log([len(file) for file in files]))
    assert len(set(files)) > 55
    assert steps.min() > -0.02


def test_avif_keeps_the_full_resolution_of_colours(painting: Image.Image) -> None:
    # Stripes of one pixel and equal brightness: halved colours would be one grey.
    painting.putdata([(200, 90, 90) if n % 2 else (70, 140, 130) for n in range(96 * 64)])
    reds = reopened(encoding(ImageFormat.AVIF)(painting, 90)).getchannel("R")
    assert reds.getpixel((41, 30)) - reds.getpixel((40, 30)) > 80
