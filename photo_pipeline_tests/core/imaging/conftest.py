"""Photos for the imaging tests: real ones, hostile ones, and small ones painted here."""

import os
from pathlib import Path

import pytest
from PIL import Image

from photo_pipeline.core.imaging.recipe import ImageFormat, Recipe, VariantSpec

_REPOSITORY = Path(__file__).resolve().parents[3]

FULL = VariantSpec(name="full", fit="inside", width=1200, height=1200, max_bytes=102_400)
THUMB = VariantSpec(name="thumb", fit="cover", width=150, height=150, max_bytes=None)
SMALL = VariantSpec(name="small", fit="inside", width=300, height=300, max_bytes=20_000)


def everything(recipe: Recipe) -> tuple[tuple[VariantSpec, ImageFormat], ...]:
    return tuple((spec, format) for spec in recipe.variants for format in recipe.formats)


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder with real/ and hostile/; photographs are too large for the repository."""
    default = _REPOSITORY.parent / "shared" / "photos"
    folder = Path(os.environ.get("PHOTO_PIPELINE_TEST_PHOTOS", default))
    if not (folder / "real").is_dir():
        pytest.skip(f"no photographs in {folder}: set PHOTO_PIPELINE_TEST_PHOTOS")
    return folder


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(variants=(FULL, THUMB))


@pytest.fixture
def painting() -> Image.Image:
    """A picture of 96x64 px that looks different from each side, with detail to compress."""
    image = Image.merge("RGB", [Image.linear_gradient("L").resize((96, 64)) for _ in range(3)])
    image.paste((220, 30, 30), (0, 0, 40, 20))
    image.paste((30, 200, 40), (70, 0, 96, 12))
    image.paste((40, 60, 220), (0, 50, 20, 64))
    return image
