"""What the scores mean, and that nothing that is measured can break more than its own measurement."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from photo_pipeline.core.errors import CorruptPhotoError, PhotoError, PhotoTooLargeError
from photo_pipeline.core.imaging import quality
from photo_pipeline.core.imaging.finish import Watermark, sharpened, watermarked
from photo_pipeline.core.imaging.quality import (
    QualityTask,
    QualityWorkers,
    Score,
    VariantFile,
    make_reference,
    measure,
    measure_task,
    metric_version,
)
from photo_pipeline_tests.sites import photo

WHITE = (255, 255, 255)


def encoded(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def lossless(image: Image.Image) -> bytes:
    return encoded(image, "WEBP", lossless=True, exact=True)


def reference_of(
    source: Path, size: tuple[int, int], background: tuple[int, int, int] = WHITE
) -> Image.Image:
    return make_reference(source, [size], background=background, max_pixels=10_000_000)[size]


@pytest.fixture
def grain(tmp_path: Path) -> Image.Image:
    """A picture of 320x240 px that compresses like a photograph."""
    return Image.open(photo(tmp_path / "grain.png", width=320, height=240)).convert("RGB")


def test_identical_pixels_have_100_points(grain: Image.Image) -> None:
    assert measure(grain, lossless(grain)) == 100


def test_the_more_quality_the_more_points(grain: Image.Image) -> None:
    scores = [measure(grain, encoded(grain, quality=each)) for each in (5, 20, 40, 60, 80, 95)]
    assert scores == sorted(scores)
    assert scores[0] < 30
    assert scores[-1] > 80


def test_another_picture_is_far_below_any_floor(grain: Image.Image, painting: Image.Image) -> None:
    assert measure(grain, lossless(painting.resize(grain.size))) < 0


@pytest.mark.parametrize("size", [(160, 120), (120, 80), (60, 40), (24, 16), (224, 400)])
def test_a_small_picture_is_judged_like_a_large_one(photos: Path, size: tuple[int, int]) -> None:
    """The metric itself gives a JPEG of quality 95 and 120x80 px less than 0 points."""
    small = reference_of(photos / "real/kodak_05.png", size)
    assert 20 < measure(small, encoded(small, quality=30)) < 65
    assert 75 < measure(small, encoded(small, quality=95)) < 95


@pytest.mark.parametrize("size", [(7, 300), (300, 7), (1, 1)])
def test_a_picture_that_the_metric_cannot_see_is_refused_with_the_reason(size: tuple[int, int]) -> None:
    tiny = Image.new("RGB", size, "teal")
    with pytest.raises(PhotoError, match=rf"{size[0]}x{size[1]} px are too few for ssimulacra2"):
        measure(tiny, lossless(tiny))


@settings(max_examples=12, deadline=None)
@given(st.integers(8, 300), st.integers(8, 300), st.integers(1, 95), st.integers(0, 2**32 - 1))
def test_whatever_the_size_a_score_is_a_number_up_to_100(
    width: int, height: int, jpeg_quality: int, seed: int
) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    assert measure(picture, lossless(picture)) == 100
    assert -10_000 < measure(picture, encoded(picture, quality=jpeg_quality)) < 100


def test_a_large_picture_is_judged_by_its_middle(grain: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "MAX_PIXELS", 160 * 120)
    at_the_edge, in_the_middle = grain.copy(), grain.copy()
    at_the_edge.paste("red", (0, 0, 320, 50))
    in_the_middle.paste("red", (140, 100, 180, 140))
    assert measure(grain, lossless(at_the_edge)) == 100
    assert measure(grain, lossless(in_the_middle)) < 50


def test_transparent_pixels_are_judged_on_the_background(grain: Image.Image, tmp_path: Path) -> None:
    grain.putalpha(Image.linear_gradient("L").resize(grain.size))
    grain.save(tmp_path / "veil.png")
    variant = lossless(grain)
    black, white = (reference_of(tmp_path / "veil.png", grain.size, (c, c, c)) for c in (0, 255))
    assert measure(black, variant, background=(0, 0, 0)) == 100
    assert measure(white, variant, background=WHITE) == 100
    assert measure(white, variant, background=(0, 0, 0)) < 50


def test_a_variant_of_another_size_is_refused(grain: Image.Image) -> None:
    with pytest.raises(PhotoError, match="it has 160x120 px and not 320x240"):
        measure(grain, encoded(grain.resize((160, 120))))


@pytest.mark.parametrize("data", [b"", b"no picture", encoded(Image.new("RGB", (64, 64)), "PNG")])
def test_what_is_no_variant_of_ours_is_refused(grain: Image.Image, data: bytes) -> None:
    with pytest.raises(PhotoError, match="it cannot be decoded"):
        measure(grain, data)


def test_a_damaged_variant_is_refused(grain: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "full.jpg").write_bytes(encoded(grain)[:1_000])
    with pytest.raises(PhotoError, match=r"^full.jpg: it cannot be decoded"):
        measure(grain, tmp_path / "full.jpg")


def test_the_reference_is_the_whole_picture_upright_in_srgb(painting: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    painting.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png", exif=exif, icc_profile=profile)
    shown = reference_of(tmp_path / "lying.png", painting.size)
    assert (shown.mode, shown.size) == ("RGB", painting.size)
    assert shown.tobytes() == painting.tobytes()


def test_one_photo_has_a_reference_for_each_of_its_sizes(painting: Image.Image, tmp_path: Path) -> None:
    painting.save(tmp_path / "a.png")
    sizes = [(48, 32), (41, 27), (96, 64)]
    shown = make_reference(tmp_path / "a.png", sizes, background=WHITE, max_pixels=10_000)
    assert {size: image.size for size, image in shown.items()} == {size: size for size in sizes}
    assert shown[96, 64].tobytes() == painting.tobytes()


def test_a_photo_beyond_the_pixel_limit_has_no_reference(painting: Image.Image, tmp_path: Path) -> None:
    painting.save(tmp_path / "a.png")
    with pytest.raises(PhotoTooLargeError):
        make_reference(tmp_path / "a.png", [(8, 8)], background=WHITE, max_pixels=100)


def test_a_watermark_is_no_loss_and_sharpening_is(grain: Image.Image, tmp_path: Path) -> None:
    grain.save(tmp_path / "a.png")
    Image.new("RGBA", (64, 16), (255, 0, 0, 200)).save(tmp_path / "mark.png")
    mark = Watermark(tmp_path / "mark.png")
    size = grain.size
    (plain,) = make_reference(tmp_path / "a.png", [size], background=WHITE, max_pixels=10**6).values()
    (marked,) = make_reference(
        tmp_path / "a.png", [size], background=WHITE, max_pixels=10**6, watermark=mark
    ).values()
    variant = lossless(watermarked(grain, mark))
    assert measure(marked, variant) == 100
    assert measure(plain, variant) < 90
    assert measure(plain, lossless(sharpened(grain))) < 95


def test_the_metric_is_named_with_its_version() -> None:
    assert metric_version() == "ssimulacra2 0.3.0"


def task_of(source: Path, *variants: VariantFile) -> QualityTask:
    return QualityTask(source.name, source, variants, background=WHITE, max_pixels=10_000_000)


def test_a_variant_that_cannot_be_measured_leaves_the_others_their_scores(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.jpg", width=64, height=48)
    (tmp_path / "broken.webp").write_bytes(b"RIFF")
    variants = (
        VariantFile("whole", source, (64, 48)),
        VariantFile("broken", tmp_path / "broken.webp", (64, 48)),
        VariantFile("gone", tmp_path / "gone.avif", (64, 48)),
    )
    whole, broken, gone = measure_task(task_of(source, *variants))
    assert whole == Score("whole", 100.0)
    assert (broken.points, gone.points) == (None, None)
    assert "cannot be decoded" in (broken.reason or "")
    assert "No such file" in (gone.reason or "")


def test_a_hostile_photo_costs_only_its_own_measurement(photos: Path, tmp_path: Path) -> None:
    good = photo(tmp_path / "good.jpg", width=64, height=48)
    same = VariantFile("v", good, (64, 48))
    names = ("trunc50.jpg", "bomb144MP.png", "text.jpg", "empty.jpg")
    hostile = [photos / "hostile" / name for name in names]
    with QualityWorkers(1) as workers:
        tasks = [task_of(source, same) for source in (*hostile, good)]
        results = {task.id: result for task, result in workers.measure(tasks)}
    assert results.pop("good.jpg") == (Score("v", 100.0),)
    assert len(results) == 4
    assert all(isinstance(result, PhotoError) for result in results.values())
    assert isinstance(results["trunc50.jpg"], CorruptPhotoError)


def test_the_memory_limit_is_enough_for_the_largest_measurement(tmp_path: Path) -> None:
    # 99.99 % of MAX_PIXELS, so that nothing is cropped away.
    noise = np.random.default_rng(0).integers(0, 256, (1060, 1415, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg")
    task = task_of(tmp_path / "large.jpg", VariantFile("v", tmp_path / "large.jpg", (1415, 1060)))
    with QualityWorkers(1) as workers:
        ((_, result),) = workers.measure([task])
    assert result == (Score("v", 100.0),)
