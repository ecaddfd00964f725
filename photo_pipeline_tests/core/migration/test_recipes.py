"""Which recipe a photo gets: its source's preset, its `images` settings, and its own focal point."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.imaging.recipe import Effort, Recipe
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import batch_photos
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site

WITH_FOCUS = ITEM_PHOTOS | {"focal_point": {"x": "width", "y": "height"}, "rewrite": {"mode": "url"}}
UNCROPPED = {"default": {"full": {"fit": "inside", "width": 1200, "height": 1200}}}


def recipe_of(site: Site) -> Recipe:
    """The recipe of the site's one photo, as an inventory leaves it."""
    with site.project() as project:
        site.inventory(project)
        (photo,) = batch_photos(project.database, "batch-000001")
        return ObjectNaming(project.config, project.database).recipe(photo)


def focused(site: Site, x: object, y: object) -> Recipe:
    site.execute("UPDATE item_photos SET width = :x, height = :y", x=x, y=y)
    return recipe_of(site)


def test_a_focal_point_makes_another_recipe_and_the_same_point_the_same(make_site: MakeSite) -> None:
    site = make_site(photos=1, sources=[WITH_FOCUS])
    plain, left, right = recipe_of(site), focused(site, 0, 1), focused(site, 1, 1)
    assert (plain.focal_point, left.focal_point, right.focal_point) == (None, (0.0, 1.0), (1.0, 1.0))
    assert len({plain.digest, left.digest, right.digest}) == 3
    # As SQLite keeps a text in the place of a number.
    assert focused(site, "0.001", "0.999").digest == left.digest
    assert focused(site, None, None).digest == plain.digest


def test_a_preset_that_crops_nothing_has_one_recipe_whatever_the_focal_point(make_site: MakeSite) -> None:
    site = make_site(photos=1, sources=[_whole(WITH_FOCUS)], variants=UNCROPPED)
    plain = recipe_of(site)
    assert focused(site, 0, 1) == plain


def test_the_images_of_its_preset_shape_a_photos_recipe(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    plain = recipe_of(site)
    assert (plain.effort, plain.sharpen, plain.background, plain.watermark, plain.animation) == (
        *(Effort.BALANCED, False, (255, 255, 255), None, "first_frame"),
    )
    settings = {"effort": "speed", "sharpen": True, "background": "#ff8000", "animation": "keep"}
    site.configure(images={"default": settings})
    shaped = recipe_of(site)
    assert (shaped.effort, shaped.sharpen, shaped.background, shaped.watermark, shaped.animation) == (
        *(Effort.SPEED, True, (255, 128, 0), None, "keep"),
    )
    assert shaped.digest != plain.digest


def test_the_images_of_another_preset_do_not_count(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    plain = recipe_of(site)
    site.configure(images={"original": {"effort": "speed", "sharpen": True}})
    assert recipe_of(site) == plain


def test_gps_is_for_the_catalog_and_shapes_no_recipe(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    plain = recipe_of(site)
    site.configure(images={"default": {"gps": True}})
    assert recipe_of(site).digest == plain.digest


def test_where_a_variant_is_cropped_is_part_of_the_recipe(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    found = recipe_of(site)
    thumb = {"fit": "cover", "width": 150, "height": 150, "crop": "center"}
    full = {"fit": "inside", "width": 1200, "height": 1200, "max_bytes": "100 KB"}
    site.configure(variants={"default": {"full": full, "thumb": thumb}})
    middle = recipe_of(site)
    assert [spec.crop for spec in middle.variants] == ["attention", "center"]
    assert middle.digest != found.digest


def test_a_watermark_is_found_beside_the_configuration_and_named_by_its_content(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    plain = recipe_of(site)
    _mark(site.home / "brand/mark.png", "red")
    site.configure(images={"default": {"watermark": {"image": "brand/mark.png", "scale": 0.3}}})
    red = recipe_of(site)
    assert red.watermark is not None
    assert (red.watermark.image, red.watermark.scale) == (site.home / "brand/mark.png", 0.3)
    digests = {plain.digest, red.digest}
    _mark(site.home / "brand/other.png", "blue")
    site.configure(images={"default": {"watermark": {"image": "brand/other.png", "scale": 0.3}}})
    assert recipe_of(site).digest not in digests


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_watermark_that_is_no_picture_is_refused_before_any_photo_is_touched(
    make_site: MakeSite, content: bytes | None
) -> None:
    site = make_site(photos=1)
    if content:
        (site.home / "mark.png").write_bytes(content)
    site.configure(images={"default": {"watermark": {"image": "mark.png"}}})
    with pytest.raises(ConfigurationError, match=r"mark\.png"):
        site.migrate()
    assert site.states() == {"pending": 1}
    assert not (site.home / "staging").exists()


def _whole(source: dict[str, Any]) -> dict[str, Any]:
    """The source without its thumbnail field."""
    return source | {"fields": source["fields"][:1]}


def _mark(path: Path, colour: str) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGBA", (20, 10), colour).save(path)
