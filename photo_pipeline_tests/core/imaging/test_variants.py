import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import ExifTags, Image, ImageStat

from photo_pipeline.core.errors import InfrastructureError, PhotoError, PhotoTooLargeError
from photo_pipeline.core.imaging.pool import ImageWorkers, PhotoTask
from photo_pipeline.core.imaging.recipe import ImageFormat, Recipe, VariantSpec
from photo_pipeline.core.imaging.variants import STAGES, MadePhoto, make_variants
from photo_pipeline.core.imaging.writing import verify_variant
from photo_pipeline_tests.core.imaging.conftest import FULL, SMALL, THUMB, everything
from photo_pipeline_tests.core.imaging.profiles import DISPLAY_P3, rgb_profile


def made_in(folder: Path, source: Path, recipe: Recipe) -> MadePhoto:
    return make_variants(
        source, recipe, everything(recipe), lambda name, format: folder / f"{name}.{format.extension}"
    )


@pytest.fixture(scope="module", params=[9, pytest.param(3, marks=pytest.mark.slow)])
def made_real(
    photos: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> list[tuple[PhotoTask, MadePhoto]]:
    """Every ninth real photograph through the default recipe, of which each takes 1.5 s; or every third."""
    recipe = Recipe(variants=(FULL, THUMB))
    folder = tmp_path_factory.mktemp("made")
    sources = [p for p in sorted((photos / "real").iterdir()) if p.suffix.lower() != ".heic"]
    sources = sources[:: request.param]
    tasks = [
        PhotoTask(
            id=source.name,
            source=source,
            recipe=recipe,
            wanted=everything(recipe),
            staging={(v.name, f): folder / source.name / f"{v.name}.{f}" for v, f in everything(recipe)},
        )
        for source in sources
    ]
    with ImageWorkers(2, timeout_s=120) as workers:
        results = list(workers.process(tasks))
    assert [result for _, result in results if isinstance(result, PhotoError)] == []
    return [(task, result) for task, result in results if isinstance(result, MadePhoto)]


def test_no_real_photo_exceeds_its_byte_target(made_real: list[tuple[PhotoTask, MadePhoto]]) -> None:
    full = [each for _, made in made_real for each in made.variants if each.variant == "full"]
    assert len(full) >= 3 * 6
    assert [each for each in full if each.bytes > 102_400 or not each.met_target] == []


def test_the_target_is_filled_where_quality_had_to_give(
    made_real: list[tuple[PhotoTask, MadePhoto]],
) -> None:
    lowered = [
        each.bytes
        for task, made in made_real
        for each in made.variants
        if each.variant == "full" and each.quality < 85 and task.source.stat().st_size > 102_400
    ]
    assert sum(lowered) / len(lowered) > 0.9 * 102_400


def test_no_real_photo_is_enlarged_or_distorted(made_real: list[tuple[PhotoTask, MadePhoto]]) -> None:
    for _, made in made_real:
        for each in made.variants:
            assert each.width <= made.info.width
            assert each.height <= made.info.height
            if each.variant == "full":
                assert abs(each.width * made.info.height - each.height * made.info.width) <= max(
                    made.info.width, made.info.height
                )


def test_no_variant_is_larger_than_its_source_at_the_same_dimensions(
    made_real: list[tuple[PhotoTask, MadePhoto]],
) -> None:
    same = [
        (task.source.stat().st_size, each.bytes)
        for task, made in made_real
        for each in made.variants
        if (each.width, each.height) == (made.info.width, made.info.height)
    ]
    assert same
    assert [pair for pair in same if pair[1] > pair[0]] == []


def test_the_report_agrees_with_the_files(made_real: list[tuple[PhotoTask, MadePhoto]]) -> None:
    for task, made in made_real:
        assert [(each.variant, each.format) for each in made.variants] == [
            (spec.name, format) for spec, format in task.wanted
        ]
        assert set(made.timings) == set(STAGES)
        for each in made.variants:
            data = each.path.read_bytes()
            assert each.path == task.staging[each.variant, each.format]
            assert (len(data), hashlib.sha256(data).hexdigest()) == (each.bytes, each.sha256)
            with Image.open(each.path) as image:
                image.load()
                assert (image.size, image.format) == ((each.width, each.height), each.format.name)


def test_no_metadata_of_real_photos_survives(made_real: list[tuple[PhotoTask, MadePhoto]]) -> None:
    for _, made in made_real:
        for each in made.variants:
            data = each.path.read_bytes()
            assert not [
                mark for mark in (b"Exif", b"http://ns.adobe", b"ICC_PROFILE", b"8BIM") if mark in data
            ]


def test_every_kind_of_metadata_is_stripped_in_every_format(
    painting: Image.Image, tmp_path: Path, recipe: Recipe
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "SecretCamera"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    options = {"exif": exif, "xmp": b"<secret/>", "icc_profile": rgb_profile("Display P3", DISPLAY_P3)}
    for suffix in (".jpg", ".webp", ".png", ".avif"):
        source = tmp_path / f"source{suffix}"
        painting.resize((400, 300)).save(source, **options, comment=b"SecretComment")
        for each in made_in(tmp_path / "out", source, recipe).variants:
            data = each.path.read_bytes()
            with Image.open(each.path) as image:
                assert not set(image.info) & {"exif", "xmp", "icc_profile", "comment"}
                assert not image.getexif()
            assert not [m for m in (b"Exif", b"ecret", b"ICC_PROFILE", b"Display P3") if m in data]


def test_making_a_photo_twice_gives_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    recipe = Recipe(variants=(SMALL, THUMB))
    source = photos / "real" / "immich-app_denali.webp"
    first, second = (made_in(tmp_path / name, source, recipe) for name in ("one", "two"))
    assert [each.sha256 for each in first.variants] == [each.sha256 for each in second.variants]


def test_a_variant_made_alone_has_the_bytes_that_it_has_among_all(photos: Path, tmp_path: Path) -> None:
    recipe = Recipe(variants=(SMALL, replace(THUMB, width=60, height=60)))
    source = photos / "hostile" / "ok.jpg"
    together = {(e.variant, e.format): e.sha256 for e in made_in(tmp_path, source, recipe).variants}
    for pair in everything(recipe):
        alone = make_variants(source, recipe, [pair], lambda name, format: tmp_path / f"{name}-{format}")
        assert alone.variants[0].sha256 == together[pair[0].name, pair[1]]


def test_transparency_shows_the_background_in_jpeg_only(tmp_path: Path) -> None:
    source = tmp_path / "logo.png"
    Image.new("RGBA", (200, 200), (255, 0, 0, 0)).save(source)
    recipe = Recipe(variants=(SMALL,), background=(0, 0, 255))
    pixels = {}
    for each in made_in(tmp_path, source, recipe).variants:
        with Image.open(each.path) as image:
            pixels[each.format] = (image.mode, image.getpixel((100, 100)))
    assert pixels[ImageFormat.AVIF][0] == pixels[ImageFormat.WEBP][0] == "RGBA"
    assert pixels[ImageFormat.AVIF][1][3] == pixels[ImageFormat.WEBP][1][3] == 0
    red, _, blue = pixels[ImageFormat.JPEG][1]
    assert red < 20
    assert blue > 235


def test_the_pixel_size_steps_down_when_no_quality_fits(tmp_path: Path) -> None:
    source = tmp_path / "noise.png"
    Image.merge("RGB", [Image.effect_noise((600, 600), 120) for _ in range(3)]).save(source)
    spec = VariantSpec(name="tight", fit="inside", width=600, height=600, max_bytes=20_000)
    made = made_in(tmp_path, source, Recipe(variants=(spec,), formats=(ImageFormat.JPEG,))).variants[0]
    assert made.met_target
    assert made.bytes <= 20_000
    assert 200 < made.width == made.height < 600


def test_a_target_that_cannot_be_met_is_recorded_and_the_smallest_file_kept(tmp_path: Path) -> None:
    source = tmp_path / "noise.png"
    Image.effect_noise((300, 300), 120).convert("RGB").save(source)
    spec = VariantSpec(name="absurd", fit="inside", width=300, height=300, max_bytes=100)
    for made in made_in(tmp_path, source, Recipe(variants=(spec,))).variants:
        assert not made.met_target
        assert made.bytes > 100
        assert made.width < 100


def test_quality_and_then_size_give_way_before_a_variant_outweighs_its_source(
    painting: Image.Image, tmp_path: Path
) -> None:
    source = tmp_path / "tight.jpg"
    painting.resize((400, 300)).save(source, quality=15, optimize=True)
    limit = source.stat().st_size
    made = {each.format: each for each in made_in(tmp_path, source, Recipe(variants=(FULL,))).variants}
    for format in (ImageFormat.AVIF, ImageFormat.WEBP):
        assert (made[format].width, made[format].height) == (400, 300)
        assert made[format].bytes <= limit
    # The lowest quality is above the source's, so that no JPEG of its size can be smaller.
    assert (made[ImageFormat.JPEG].width, made[ImageFormat.JPEG].height) == (340, 255)
    assert all(each.met_target for each in made.values())


def test_a_wide_gamut_photo_keeps_its_colours_in_every_format(tmp_path: Path) -> None:
    source = tmp_path / "p3.png"
    profile = rgb_profile("Display P3", DISPLAY_P3)
    Image.new("RGB", (64, 64), (200, 100, 100)).save(source, icc_profile=profile)
    for each in made_in(tmp_path, source, Recipe(variants=(THUMB,))).variants:
        with Image.open(each.path) as image:
            mean = ImageStat.Stat(image.convert("RGB")).mean
        assert mean[0] > 204
        assert mean[1] < 98


def test_a_refused_photo_leaves_no_files(photos: Path, tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(PhotoTooLargeError):
        made_in(tmp_path / "out", photos / "hostile" / "bomb400MP.png", recipe)
    assert not (tmp_path / "out").exists()


def test_only_whole_files_under_their_final_names_are_left(
    painting: Image.Image, tmp_path: Path, recipe: Recipe
) -> None:
    painting.save(tmp_path / "a.png")
    made = made_in(tmp_path / "out", tmp_path / "a.png", recipe)
    assert set((tmp_path / "out").iterdir()) == {each.path for each in made.variants}


def test_a_folder_that_cannot_be_written_is_no_photos_fault(
    painting: Image.Image, tmp_path: Path, recipe: Recipe
) -> None:
    painting.save(tmp_path / "a.png")
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(InfrastructureError, match="out"):
        made_in(tmp_path / "out", tmp_path / "a.png", recipe)


def test_verification_refuses_a_leak_another_size_and_another_format(
    painting: Image.Image, tmp_path: Path
) -> None:
    painting.save(tmp_path / "leak.jpg", comment=b"hello")
    painting.save(tmp_path / "clean.jpg")
    verify_variant(tmp_path / "clean.jpg", format=ImageFormat.JPEG, size=(96, 64))
    with pytest.raises(PhotoError, match="comment"):
        verify_variant(tmp_path / "leak.jpg", format=ImageFormat.JPEG, size=(96, 64))
    with pytest.raises(PhotoError, match="96"):
        verify_variant(tmp_path / "clean.jpg", format=ImageFormat.JPEG, size=(96, 65))
    with pytest.raises(OSError, match="cannot identify"):
        verify_variant(tmp_path / "clean.jpg", format=ImageFormat.WEBP, size=(96, 64))
