"""A row that says where its photo's middle is gets a thumb of its own, cropped around that point."""

import io
from typing import Any

import urllib3
from PIL import Image, ImageStat

from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.process import process_batch
from photo_pipeline.core.migration.run import migrate_batch, new_run_id
from photo_pipeline.core.migration.validate import Validated, validate_batch
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo

BATCH = "batch-000001"
WITH_FOCUS = ITEM_PHOTOS | {"focal_point": {"x": "focus_x", "y": "focus_y"}}
LEFT, RIGHT = (0.1, 0.5), (0.9, 0.5)
# Grey level between the thumbs around them: 80 and 124.
BETWEEN = 102


def site_with_focus(
    make_site: MakeSite, *points: tuple[float, float] | None, database: str = "sqlite"
) -> Site:
    """One file, dark on its left and bright on its right, and a row with a thumbnail for each point."""
    names = ("/uploads/items/0.jpg", "/uploads/thumbs/0.jpg")
    rows = [item_photo(number, *names) for number in range(len(points))]
    site = make_site(photos=1, rows=rows, database=database)
    photo(site.uploads / "thumbs/0.jpg", width=100, height=75, seed=9)
    for column in ("focus_x", "focus_y"):
        site.execute(f"ALTER TABLE item_photos ADD COLUMN {column} DOUBLE PRECISION")
    for number, point in enumerate(points):
        choose(site, number, point)
    site.configure(sources=[WITH_FOCUS])
    return site


def choose(site: Site, number: int, point: tuple[float, float] | None) -> None:
    x, y = point or (None, None)
    statement = "UPDATE item_photos SET focus_x = :x, focus_y = :y WHERE id = :id"
    site.execute(statement, x=x, y=y, id=item_photo(number, None)["id"])


def thumbs(site: Site) -> list[str]:
    rows = site.execute("SELECT original_url, thumbnail_url FROM item_photos ORDER BY id")
    for full, thumb in rows:
        assert thumb == full.replace("/full.jpg", "/thumb.jpg")
    return [thumb for _, thumb in rows]


def brightness(url: str) -> float:
    answer = urllib3.request("GET", url)
    assert answer.status == 200
    with Image.open(io.BytesIO(answer.data)) as picture:
        assert picture.size == (150, 150)
        return float(ImageStat.Stat(picture.convert("L")).mean[0])


def validated(site: Site) -> Validated:
    with site.project() as project:
        run = new_run_id()
        return validate_batch(project.database, project.config, project.cdn, BATCH, run=run)


def recipes(site: Site) -> list[Any]:
    rows = site.execute("SELECT recipe FROM pp_photo WHERE role = 'primary' ORDER BY row_key")
    return [row[0] for row in rows]


@MOSTLY_SQLITE
def test_rows_that_show_one_file_get_thumbs_cropped_around_their_own_points(
    make_site: MakeSite, database: str, s3_access_log: Any
) -> None:
    site = site_with_focus(make_site, LEFT, RIGHT, None, LEFT, database=database)
    (outcome,) = site.migrate()
    left, right, found, again = thumbs(site)
    assert brightness(left) < BETWEEN < brightness(right)
    assert brightness(found)
    assert again == left
    assert len({left, right, found}) == 3
    assert len(set(recipes(site))) == 3
    # Photos and their copies; three sets of six variants, and the two untouched files once each.
    assert (outcome.rewritten.rewritten, outcome.validated.passed, outcome.validated.failed) == (8, 8, 0)
    assert len(site.puts(s3_access_log)) == 3 * 6 + 2


@MOSTLY_SQLITE
def test_a_rollback_of_photos_with_focal_points_leaves_the_application_byte_identical(
    make_site: MakeSite, database: str
) -> None:
    site = site_with_focus(make_site, LEFT, RIGHT, database=database)
    before = site.dump()
    site.migrate()
    (result,) = site.roll_back()
    assert (result.rolled_back, result.conflicts) == (4, 0)
    assert site.dump() == before


@MOSTLY_SQLITE
def test_a_point_that_is_moved_later_leaves_migrated_rows_as_they_are(
    make_site: MakeSite, database: str, s3_access_log: Any
) -> None:
    site = site_with_focus(make_site, LEFT, None, database=database)
    before = site.dump()
    site.migrate()
    kept, puts = (thumbs(site), recipes(site)), len(site.puts(s3_access_log))
    choose(site, 0, RIGHT)
    choose(site, 1, LEFT)
    assert site.migrate() == []
    assert (thumbs(site), recipes(site)) == kept
    assert len(site.puts(s3_access_log)) == puts
    after = validated(site)
    assert (after.checked, after.passed, after.failed) == (4, 4, 0)
    site.roll_back()
    choose(site, 0, LEFT)
    choose(site, 1, None)
    assert site.dump() == before


def test_a_row_that_was_rolled_back_is_migrated_again_with_its_present_point(make_site: MakeSite) -> None:
    site = site_with_focus(make_site, LEFT)
    site.migrate()
    (left,) = thumbs(site)
    site.roll_back()
    choose(site, 0, RIGHT)
    with site.project() as project:
        site.inventory(project)
        migrate_batch(project, BATCH, run=new_run_id())
    (right,) = thumbs(site)
    assert brightness(left) < BETWEEN < brightness(right)


def test_a_point_that_is_moved_before_the_upload_is_the_one_that_counts(make_site: MakeSite) -> None:
    site = site_with_focus(make_site, LEFT)
    with site.project() as project:
        site.inventory(project)
        with BatchLease(project.database, BATCH, run=new_run_id()) as lease:
            process_batch(project.database, project.config, lease, project.workers)
    choose(site, 0, RIGHT)
    (outcome,) = site.migrate()
    assert outcome.validated.passed == 2
    assert brightness(thumbs(site)[0]) > BETWEEN


def test_a_point_that_is_none_counts_as_not_chosen(make_site: MakeSite) -> None:
    site = site_with_focus(make_site, (50, 50), None)
    site.migrate()
    odd, plain = thumbs(site)
    assert odd == plain
    assert site.execute("SELECT DISTINCT focal_x, focal_y FROM pp_photo") == [(None, None)]
