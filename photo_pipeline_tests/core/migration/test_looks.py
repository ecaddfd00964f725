"""What a page shows before a photo has arrived can be written into the photo's row."""

from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import LOOK, migrated, rewritten, rolled_back, uploaded
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site

LOOKS = {"placeholder": "placeholder", "thumbhash": "thumbhash", "colour": "dominant_colour"}


def site_with_looks(make_site: MakeSite, database: str) -> Site:
    rewrite = {"mode": "url", "write_back": LOOKS}
    site = make_site(photos=2, database=database, sources=[ITEM_PHOTOS | {"rewrite": rewrite}])
    for column in LOOKS:
        site.execute(f"ALTER TABLE item_photos ADD COLUMN {column} TEXT")
    return site


def looks(site: Site) -> list[tuple[str | None, ...]]:
    rows = site.execute("SELECT placeholder, thumbhash, colour FROM item_photos ORDER BY id")
    return [tuple(row) for row in rows]


@MOSTLY_SQLITE
def test_placeholders_are_written_back_and_taken_back(make_site: MakeSite, database: str) -> None:
    site = site_with_looks(make_site, database)
    before = site.dump()
    migrated(site)
    kept = site.execute(
        "SELECT placeholder, thumbhash, dominant_colour FROM pp_picture JOIN pp_photo USING (sha256)"
        " WHERE source IS NOT NULL ORDER BY row_key"
    )
    assert looks(site) == [tuple(row) for row in kept]
    assert kept[0].dominant_colour == LOOK.dominant_colour
    rolled_back(site)
    assert site.dump() == before


def test_a_look_that_is_not_known_any_more_leaves_its_column_alone(make_site: MakeSite) -> None:
    """As after `rebuild`, which cannot make it again from the bucket."""
    site = site_with_looks(make_site, "sqlite")
    (batch,) = uploaded(site)
    site.execute("DELETE FROM pp_picture")
    site.execute("UPDATE item_photos SET placeholder = 'mine'")
    assert rewritten(site, batch).rewritten == 2
    assert looks(site) == [("mine", None, None)] * 2
