from dataclasses import replace

import pytest

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.imaging import recipe as recipe_module
from photo_pipeline.core.imaging.recipe import ImageFormat, Recipe, VariantSpec
from photo_pipeline_tests.core.imaging.conftest import FULL, THUMB


def test_equal_recipes_have_equal_digests_of_twelve_hex_digits(recipe: Recipe) -> None:
    assert recipe.digest == Recipe(variants=(FULL, THUMB)).digest
    assert len(recipe.digest) == 12
    assert set(recipe.digest) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "change",
    [
        {"variants": (THUMB,)},
        {"variants": (replace(FULL, max_bytes=100_000), THUMB)},
        {"variants": (replace(FULL, width=1201), THUMB)},
        {"formats": (ImageFormat.JPEG,)},
        {"quality_min": 21},
        {"quality_max": 84},
        {"background": (0, 0, 0)},
    ],
)
def test_whatever_shapes_the_bytes_changes_the_digest(recipe: Recipe, change: dict[str, object]) -> None:
    assert replace(recipe, **change).digest != recipe.digest


def test_another_engine_or_library_version_changes_the_digest(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recipe.digest
    monkeypatch.setattr("PIL.__version__", "99.0")
    after_library = replace(recipe).digest
    monkeypatch.setattr(recipe_module, "ENGINE_VERSION", 999)
    after_engine = replace(recipe).digest
    monkeypatch.setattr(recipe_module, "model_digest", lambda: "another")
    assert len({before, after_library, after_engine, replace(recipe).digest}) == 4


def test_a_limit_that_only_refuses_photos_keeps_the_digest(recipe: Recipe) -> None:
    assert replace(recipe, max_pixels=50_000_000).digest == recipe.digest


def test_formats_know_their_extension_and_media_type() -> None:
    assert [format.extension for format in ImageFormat] == ["avif", "webp", "jpg"]
    assert [format.mime for format in ImageFormat] == ["image/avif", "image/webp", "image/jpeg"]


def test_impossible_recipes_are_refused_where_they_are_written(recipe: Recipe) -> None:
    with pytest.raises(ConfigurationError):
        VariantSpec(name="none", fit="inside", width=0, height=10, max_bytes=None)
    with pytest.raises(ConfigurationError):
        replace(FULL, max_bytes=0)
    with pytest.raises(ConfigurationError):
        replace(recipe, quality_min=90)
    with pytest.raises(ConfigurationError):
        replace(recipe, max_pixels=10**9)
    with pytest.raises(ConfigurationError):
        replace(recipe, variants=())
