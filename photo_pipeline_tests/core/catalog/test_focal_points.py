"""The inventory keeps each row's focal point with its photos, and follows it until they are migrated."""

from typing import Any

from photo_pipeline_tests.core.catalog.conftest import MakeSmallSite
from photo_pipeline_tests.core.catalog.small_site import put
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo

WITH_FOCUS = ITEM_PHOTOS | {"focal_point": {"x": "width", "y": "height"}, "rewrite": {"mode": "url"}}


def site_with_focus(make_small_site: MakeSmallSite, database: str = "sqlite", **row: Any) -> Site:
    """One row with a photo and its thumbnail; the columns of its focal point hold whole numbers."""
    rows = [item_photo(0, "/uploads/a.jpg", "/uploads/t.jpg") | row]
    site = make_small_site(database=database, rows=rows, sources=[WITH_FOCUS])
    put(site, "a.jpg")
    put(site, "t.jpg")
    return site


def focal_points(site: Site) -> list[Any]:
    with site.project() as project:
        site.inventory(project)
    return site.execute("SELECT focal_x, focal_y FROM pp_photo WHERE source IS NOT NULL ORDER BY field")


@MOSTLY_SQLITE
def test_every_photo_of_a_row_has_the_rows_focal_point(make_small_site: MakeSmallSite, database: str) -> None:
    site = site_with_focus(make_small_site, database, width=0, height=1)
    assert focal_points(site) == [(0.0, 1.0), (0.0, 1.0)]


@DATABASES
def test_a_focal_point_is_followed_from_inventory_to_inventory(
    make_small_site: MakeSmallSite, database: str
) -> None:
    site = site_with_focus(make_small_site, database)
    assert focal_points(site) == [(None, None)] * 2
    site.execute("UPDATE item_photos SET width = 1, height = 0")
    assert focal_points(site) == [(1.0, 0.0)] * 2
    site.execute("UPDATE item_photos SET width = 50")
    assert focal_points(site) == [(None, None)] * 2


def test_a_file_that_no_row_names_has_no_focal_point(make_small_site: MakeSmallSite) -> None:
    site = site_with_focus(make_small_site, width=1, height=1)
    put(site, "alone.jpg")
    focal_points(site)
    assert site.execute("SELECT focal_x, focal_y FROM pp_photo WHERE source IS NULL") == [(None, None)]
