"""The whole migration on small real photos, on both databases, seen from the application's rows."""

from pathlib import Path

import urllib3

from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.sites import item_photo, photo


@MOSTLY_SQLITE
def test_rows_point_to_urls_that_deliver_the_picture(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=4, database=database, batch_size=2)
    outcomes = site.migrate()
    assert [outcome.state for outcome in outcomes] == ["completed", "completed"]
    for url, size, mime in site.execute("SELECT original_url, file_size, mime_type FROM item_photos"):
        answer = urllib3.request("GET", url)
        assert (answer.status, len(answer.data)) == (200, size)
        assert answer.headers["Content-Type"] == mime == "image/jpeg"


@DATABASES
def test_a_rollback_leaves_the_application_byte_identical(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=5, database=database, batch_size=2)
    before = site.dump()
    site.migrate()
    assert site.dump() != before
    results = site.roll_back()
    assert sum(result.rolled_back for result in results) == 5
    assert site.dump() == before


@MOSTLY_SQLITE
def test_a_second_run_sends_nothing_and_changes_nothing(
    make_site: MakeSite, database: str, s3_access_log: Path
) -> None:
    site = make_site(photos=3, database=database)
    site.migrate()
    after_first, puts = site.dump(), len(site.puts(s3_access_log))
    assert puts == 3 * 7
    assert site.migrate() == []
    assert site.dump() == after_first
    assert len(site.puts(s3_access_log)) == puts


def test_a_batch_run_again_by_name_sends_nothing_and_changes_nothing(
    make_site: MakeSite, s3_access_log: Path
) -> None:
    from photo_pipeline.core.migration.run import migrate_batch, new_run_id

    site = make_site(photos=3)
    site.migrate()
    after_first, puts = site.dump(), len(site.puts(s3_access_log))
    with site.project() as project:
        outcome = migrate_batch(project, "batch-000001", run=new_run_id())
    assert (outcome.rewritten.rewritten, outcome.rewritten.already_done) == (0, 3)
    assert site.dump() == after_first
    assert len(site.puts(s3_access_log)) == puts


def test_equal_photos_share_one_set_of_objects(make_site: MakeSite, s3_access_log: Path) -> None:
    site = make_site(photos=1, rows=[item_photo(n, f"/uploads/items/{n}.jpg") for n in range(3)])
    for copy in (1, 2):
        (site.uploads / f"items/{copy}.jpg").write_bytes((site.uploads / "items/0.jpg").read_bytes())
    site.migrate()
    assert len(site.puts(s3_access_log)) == 7
    assert len({row[0] for row in site.execute("SELECT original_url FROM item_photos")}) == 1


def test_a_bad_photo_costs_only_itself(make_site: MakeSite) -> None:
    site = make_site(photos=3)
    (site.uploads / "items/1.jpg").write_bytes((site.uploads / "items/1.jpg").read_bytes()[:2000])
    (outcome,) = site.migrate()
    assert outcome.processed.quarantined == 1
    assert site.states() == {"migrated": 2, "quarantined": 1}
    ((url, error),) = site.execute(
        "SELECT value, error_type FROM pp_photo WHERE state = 'quarantined' AND source IS NOT NULL"
    )
    assert (url, error) == ("/uploads/items/1.jpg", "corrupt")
    assert ("/uploads/items/1.jpg",) in site.execute("SELECT original_url FROM item_photos")


def test_a_mended_photo_is_migrated_on_request(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    whole = (site.uploads / "items/1.jpg").read_bytes()
    (site.uploads / "items/1.jpg").write_bytes(whole[:2000])
    site.migrate()
    (site.uploads / "items/1.jpg").write_bytes(whole)
    site.migrate(retry_failed=True)
    assert site.states() == {"migrated": 2}


def test_a_resized_copy_gets_the_thumb_of_its_rows_primary_photo(make_site: MakeSite) -> None:
    site = make_site(photos=1, rows=[item_photo(0, "/uploads/items/0.jpg", "/uploads/thumbs/0.jpg")])
    photo(site.uploads / "thumbs/0.jpg", width=100, height=100, seed=9)
    before = site.dump()
    site.migrate()
    ((full, thumb),) = site.execute("SELECT original_url, thumbnail_url FROM item_photos")
    assert full.endswith("/full.jpg")
    assert thumb == full.replace("/full.jpg", "/thumb.jpg")
    site.roll_back()
    assert site.dump() == before


def test_photos_that_appear_later_go_to_a_new_batch(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    site.migrate()
    photo(site.uploads / "items/late.jpg", seed=77)
    site.execute(
        "INSERT INTO item_photos (id, item_id, original_url) VALUES ('late', 9, '/uploads/items/late.jpg')"
    )
    (outcome,) = site.migrate()
    assert (outcome.batch, outcome.rewritten.rewritten) == ("batch-000002", 1)
