"""The way back: rows byte-identical, edits left alone, files restored; on both databases."""

import copy
import hashlib
import os
import shutil
from pathlib import Path

import pytest

from photo_pipeline.core.migration.selection import locate_photos
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import again, migrated, rolled_back, uploaded
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo

# PostgreSQL as well in `make test-all`: what these tests show differs little between the databases.


def url_of(site: Site, number: int) -> str:
    ((url,),) = site.execute("SELECT original_url FROM item_photos WHERE alt = :a", a=f"photo {number}")
    return str(url)


def batch_state(site: Site) -> tuple[str, str | None]:
    (row,) = site.execute("SELECT state, error FROM pp_batch")
    return row[0], row[1]


@DATABASES
def test_every_column_is_byte_identical_again(make_site: MakeSite, database: str) -> None:
    rows = [item_photo(n, f"/uploads/items/{n}.jpg", f"/uploads/items/{n}.jpg") for n in range(3)]
    rows[1] |= {"file_size": 123, "mime_type": "image/x-old", "width": 0, "updated_at": None}
    rows[2] |= {"updated_at": "2024-05-01T10:00:00.123Z"}
    site = make_site(photos=3, rows=rows, database=database)
    before = site.dump()
    migrated(site)
    assert site.dump() != before
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.rows, outcome.conflicts, outcome.kept_columns) == (6, 3, 0, 0)
    assert site.dump() == before
    assert batch_state(site) == ("rolled_back", None)


@MOSTLY_SQLITE
def test_a_row_edited_since_is_reported_and_left(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=3, database=database)
    migrated(site)
    site.execute("UPDATE item_photos SET original_url = '/uploads/newer.jpg' WHERE alt = 'photo 1'")
    (edited,) = site.execute("SELECT * FROM item_photos WHERE alt = 'photo 1'")
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.conflicts) == (2, 1)
    assert site.execute("SELECT * FROM item_photos WHERE alt = 'photo 1'") == [edited]
    assert site.states() == {"rolled_back": 2, "conflict": 1}
    ((detail,),) = site.execute("SELECT error_detail FROM pp_photo WHERE state = 'conflict'")
    assert "the application changed the value since; it was left as it is" in detail


@MOSTLY_SQLITE
def test_a_row_deleted_since_is_reported_and_stays_deleted(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=2, database=database)
    migrated(site)
    site.execute("DELETE FROM item_photos WHERE alt = 'photo 0'")
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.conflicts) == (1, 1)
    assert site.execute("SELECT COUNT(*) FROM item_photos") == [(1,)]


@MOSTLY_SQLITE
def test_a_side_column_that_the_application_changed_is_kept_and_counted(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=2, database=database)
    migrated(site)
    site.execute("UPDATE item_photos SET updated_at = '2031-01-01', width = 7 WHERE alt = 'photo 1'")
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.kept_columns, outcome.conflicts) == (2, 2, 0)
    assert site.execute(
        "SELECT original_url, updated_at, width, height FROM item_photos WHERE alt = 'photo 1'"
    ) == [("/uploads/items/1.jpg", "2031-01-01", 7, None)]


@MOSTLY_SQLITE
def test_one_photo_can_go_back_alone(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=3, database=database)
    migrated(site)
    ((photo,),) = site.execute("SELECT id FROM pp_photo WHERE value = '/uploads/items/1.jpg'")
    with site.project() as project:
        assert locate_photos(project.database, [photo]) == {"batch-000001": [photo]}
    assert rolled_back(site, only_photos=[photo]).rolled_back == 1
    assert [url_of(site, n).startswith("/") for n in range(3)] == [False, True, False]
    assert site.states() == {"migrated": 2, "rolled_back": 1}
    assert batch_state(site)[0] == "completed"


@MOSTLY_SQLITE
def test_local_files_that_are_gone_come_back_from_their_originals(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=3, database=database)
    before = site.dump()
    files = {path: (digest(path), path.stat().st_mtime_ns) for path in site.uploads.rglob("*.jpg")}
    migrated(site)
    shutil.rmtree(site.uploads)
    site.uploads.mkdir()  # a root that is missing as a whole would look like an unmounted disk
    outcome = rolled_back(site)
    assert outcome.files_restored == 3
    assert site.dump() == before
    assert {path: (digest(path), path.stat().st_mtime_ns) for path in files} == files
    assert sorted(site.uploads.rglob("*")) == sorted([site.uploads / "items", *files])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@MOSTLY_SQLITE
def test_a_row_whose_file_is_gone_for_good_stays_on_the_cdn_and_is_reported(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=2, database=database)
    migrated(site)
    (site.uploads / "items/1.jpg").unlink()
    ((key,),) = site.execute(
        "SELECT o.key FROM pp_object o JOIN pp_photo p ON p.sha256 = o.source_sha256 "
        "WHERE o.variant = 'original' AND p.value = '/uploads/items/1.jpg'"
    )
    with site.project() as project:
        project.store.delete(key)
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.failed) == (1, 1)
    assert url_of(site, 0) == "/uploads/items/0.jpg"
    assert url_of(site, 1).startswith("http")
    ((detail,),) = site.execute("SELECT error_detail FROM pp_photo WHERE error_type = 'rollback_failed'")
    assert "1.jpg" in detail
    assert "no proven original" in detail
    assert batch_state(site)[1] == "1 photos were not rolled back"


def test_an_original_with_other_bytes_is_never_restored(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrated(site)
    (site.uploads / "items/0.jpg").unlink()
    ((key,),) = site.execute("SELECT key FROM pp_object WHERE variant = 'original'")
    with site.project() as project:
        project.store.delete(key)
        project.store.put_new(key, b"something else", content_type="image/jpeg")
    assert rolled_back(site).failed == 1
    assert not (site.uploads / "items/0.jpg").exists()
    assert url_of(site, 0).startswith("http")


def test_a_place_where_no_file_can_be_restored_costs_only_its_rows(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    (site.uploads / "items/1.jpg").rename(site.uploads / "1.jpg")
    site.execute("UPDATE item_photos SET original_url = '/uploads/1.jpg' WHERE alt = 'photo 1'")
    migrated(site)
    shutil.rmtree(site.uploads / "items")
    (site.uploads / "items").write_text("a file where the folder was")
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.failed) == (1, 1)
    assert url_of(site, 0).startswith("http")
    assert url_of(site, 1) == "/uploads/1.jpg"


REFUSING = {
    "sqlite": [
        "CREATE TRIGGER no BEFORE UPDATE ON item_photos WHEN OLD.alt = 'photo 1' "
        "BEGIN SELECT RAISE(ABORT, 'this one is frozen'); END"
    ],
    "postgres": [
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'this one is frozen'; END $$",
        "CREATE TRIGGER no BEFORE UPDATE ON item_photos FOR EACH ROW "
        "WHEN (OLD.alt = 'photo 1') EXECUTE FUNCTION no()",
    ],
}


@DATABASES
def test_a_row_that_a_trigger_keeps_costs_only_itself(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=3, database=database)
    migrated(site)
    for statement in REFUSING[database]:
        site.execute(statement)
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.failed) == (2, 1)
    assert url_of(site, 1).startswith("http")
    ((detail,),) = site.execute("SELECT error_detail FROM pp_photo WHERE error_type = 'rollback_failed'")
    assert "this one is frozen" in detail


@MOSTLY_SQLITE
def test_a_second_rollback_changes_nothing(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=2, database=database)
    migrated(site)
    rolled_back(site)
    rows, entries = site.dump(), site.execute("SELECT * FROM pp_rewrite ORDER BY id")
    outcome = rolled_back(site)
    assert (outcome.photos, outcome.rolled_back, outcome.conflicts) == (0, 0, 0)
    assert (site.dump(), site.execute("SELECT * FROM pp_rewrite ORDER BY id")) == (rows, entries)


@MOSTLY_SQLITE
def test_a_batch_goes_forward_again_only_by_name(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=2, database=database)
    before = site.dump()
    migrated(site)
    rolled_back(site)
    assert uploaded(site) == []
    assert site.dump() == before
    assert again(site, "batch-000001").rewritten == 2
    assert url_of(site, 0).startswith("http")
    rolled_back(site)
    assert site.dump() == before


def test_a_rollback_reads_the_ledger_the_same_under_other_server_settings(make_site: MakeSite) -> None:
    site = make_site(photos=1, database="postgres")
    site.execute(
        "ALTER TABLE item_photos DROP COLUMN updated_at, ADD updated_at TIMESTAMPTZ, ADD took FLOAT8"
    )
    site.execute("UPDATE item_photos SET updated_at = '2024-05-01 10:00:00.25+00', took = 1::float8 / 3")
    (name,) = site.execute("SELECT current_database()")[0]
    before = site.dump()
    site.execute(f"ALTER DATABASE {name} SET TimeZone = 'Asia/Kolkata'")
    site.execute(f"ALTER DATABASE {name} SET DateStyle = 'SQL, DMY'")
    migrated(site)
    site.execute(f"ALTER DATABASE {name} SET TimeZone = 'UTC'")
    site.execute(f"ALTER DATABASE {name} SET DateStyle = 'German'")
    assert rolled_back(site).kept_columns == 0
    site.execute(f"ALTER DATABASE {name} RESET ALL")
    assert site.dump() == before


@MOSTLY_SQLITE
def test_a_row_that_the_application_took_back_itself_is_migrated_and_rolled_back_once(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=1, database=database)
    before = site.dump()
    migrated(site)
    site.execute("UPDATE item_photos SET original_url = '/uploads/items/0.jpg'")
    uploaded(site)
    again(site, "batch-000001")
    assert url_of(site, 0).startswith("http")
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.conflicts) == (1, 0)
    assert url_of(site, 0) == "/uploads/items/0.jpg"
    assert before != []


@MOSTLY_SQLITE
def test_rows_from_before_a_change_of_the_cdn_address_can_still_go_back(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=1, database=database)
    before = site.dump()
    migrated(site)
    site.configure(cdn={"base_url": "https://new-cdn.example"})
    assert uploaded(site) == []
    assert site.states() == {"migrated": 1}
    shutil.rmtree(site.uploads)
    site.uploads.mkdir()  # a root that is missing as a whole would look like an unmounted disk
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.files_restored) == (1, 1)
    assert site.dump() == before


def test_a_field_that_is_declared_no_more_goes_back_as_a_whole_value(make_site: MakeSite) -> None:
    rows = [item_photo(n, f"/uploads/items/{n}.jpg", f"/uploads/items/{n}.jpg") for n in range(2)]
    site = make_site(photos=2, rows=rows)
    before = site.dump()
    migrated(site)
    source = copy.deepcopy(ITEM_PHOTOS)
    source["fields"] = source["fields"][:1]
    site.configure(sources=[source])
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.conflicts, outcome.failed) == (4, 0, 0)
    assert site.dump() == before


def test_a_rollback_after_an_inventory_restores_the_same_rows(make_site: MakeSite) -> None:
    site = make_site(photos=2, sources=[ITEM_PHOTOS])
    before = site.dump()
    migrated(site)
    uploaded(site)
    rolled_back(site)
    assert site.dump() == before


@MOSTLY_SQLITE
@pytest.mark.parametrize("same_size", [True, False])
def test_another_file_in_the_old_one_s_place_is_not_trusted(
    make_site: MakeSite, database: str, same_size: bool
) -> None:
    site = make_site(photos=2, database=database)
    before = site.dump()
    migrated(site)
    path = site.uploads / "items/1.jpg"
    old = path.read_bytes()
    path.write_bytes(old[:-1] + (b"?" if same_size else b"??"))
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.failed) == (1, 1)
    assert url_of(site, 1).startswith("http")
    ((detail,),) = site.execute("SELECT error_detail FROM pp_photo WHERE error_type = 'rollback_failed'")
    assert "another file is there now" in detail
    path.unlink()
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.files_restored) == (1, 1)
    assert site.dump() == before
    assert path.read_bytes() == old


def test_an_edited_row_is_a_conflict_whatever_became_of_its_file(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrated(site)
    (site.uploads / "items/0.jpg").write_bytes(b"another picture")
    site.execute("UPDATE item_photos SET original_url = '/uploads/newer.jpg'")
    outcome = rolled_back(site)
    assert (outcome.conflicts, outcome.failed) == (1, 0)


def test_a_restored_file_and_its_folders_reach_the_disk_before_the_row_points_to_it(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=1)
    migrated(site)
    shutil.rmtree(site.uploads / "items")
    synced, fsync = [], os.fsync

    def watched(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        assert url_of(site, 0).startswith("http")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    assert rolled_back(site).files_restored == 1
    assert synced == [site.uploads / "items/.0.jpg.partial", site.uploads / "items", site.uploads]
