"""What a row receives in each rewrite mode, and that the way back from each restores it exactly."""

from typing import Any

import pytest
from pydantic import ValidationError

from photo_pipeline.core.catalog.inventory import take_inventory
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration.invariants import every_rewritten_row_is_backed
from photo_pipeline.core.migration.selection import batches_to_migrate
from photo_pipeline.core.migration.validate import validate_batch
from photo_pipeline.core.sources.mapping import Rewrite, Source
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated, rolled_back
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import Site, photo

BATCH = "batch-000001"


def source(**changes: Any) -> dict[str, Any]:
    return {
        "name": "files",
        "table": "files",
        "key": ["id"],
        "fields": [{"kind": "path", "column": "path", "root": "uploads"}],
        "rewrite": {"mode": "columns", "set": {"disk": "s3"}},
    } | changes


def files_site(make_site: MakeSite, database: str, **changes: Any) -> Site:
    site = make_site(photos=2, rows=[], sources=[source(**changes)], database=database)
    site.execute(
        "CREATE TABLE files (id INTEGER PRIMARY KEY, path VARCHAR(40), disk VARCHAR(20), remote BOOLEAN,"
        " priority INTEGER, size BIGINT, saved INTEGER, share INTEGER)"
    )
    for number in range(2):
        site.execute(
            "INSERT INTO files VALUES (:n, :path, 'local', :no, 5, NULL, NULL, NULL)",
            n=number,
            path=f"items/{number}.jpg",
            no=False,
        )
    return site


@MOSTLY_SQLITE
def test_declared_columns_say_where_the_photo_is_and_its_own_column_stays(
    make_site: MakeSite, database: str
) -> None:
    wanted = {"disk": "s3", "remote": True, "priority": 1}
    site = files_site(make_site, database, rewrite={"mode": "columns", "set": wanted})
    before = site.dump()

    assert migrated(site).rewritten == 2

    rows = site.execute("SELECT path, disk, remote, priority FROM files ORDER BY id")
    assert [tuple(row) for row in rows] == [("items/0.jpg", "s3", 1, 1), ("items/1.jpg", "s3", 1, 1)]
    assert rolled_back(site).rolled_back == 2
    assert site.dump() == before
    assert site.states() == {"rolled_back": 2}


@MOSTLY_SQLITE
def test_an_inventory_after_that_finds_nothing_new(make_site: MakeSite, database: str) -> None:
    site = files_site(make_site, database, where=[{"column": "disk", "op": "eq", "value": "local"}])
    migrated(site)
    with site.project() as project:
        inventory, _ = site.inventory(project)
        assert inventory.by_class["already_migrated"] == 2
        assert batches_to_migrate(project.database) == []
    assert site.states() == {"migrated": 2}
    rolled_back(site)
    assert site.execute("SELECT DISTINCT disk FROM files") == [("local",)]


@MOSTLY_SQLITE
def test_a_column_that_says_so_already_can_still_be_taken_back_or_reported(
    make_site: MakeSite, database: str
) -> None:
    site = files_site(make_site, database)
    site.execute("UPDATE files SET disk = 's3' WHERE id = 0")
    before = site.dump()
    migrated(site)
    assert rolled_back(site).rolled_back == 2
    assert site.dump() == before


def test_a_marker_that_the_application_changed_is_left_and_reported(make_site: MakeSite) -> None:
    site = files_site(make_site, "sqlite")
    migrated(site)
    site.execute("UPDATE files SET disk = 'tape' WHERE id = 1")
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.conflicts) == (1, 1)
    assert site.execute("SELECT disk FROM files ORDER BY id") == [("local",), ("tape",)]


def test_validation_looks_at_the_columns_that_were_set(make_site: MakeSite) -> None:
    """And its control: once one of them says something else, the photo fails."""
    site = files_site(make_site, "sqlite", rewrite={"mode": "columns", "set": {"disk": "s3", "remote": True}})
    site.migrate()
    with site.project() as project:
        good = validate_batch(project.database, project.config, project.cdn, BATCH, run="x")
        site.execute("UPDATE files SET remote = 0 WHERE id = 1")
        bad = validate_batch(project.database, project.config, project.cdn, BATCH, run="y")
    assert (good.passed, good.failed) == (2, 0)
    assert (bad.passed, bad.failed) == (1, 1)
    assert "remote says 0, not 1" in bad.findings[0].problems[0]


def test_the_framework_finds_the_untouched_file_under_its_own_key(make_site: MakeSite) -> None:
    site = files_site(
        make_site,
        "sqlite",
        rewrite={"mode": "columns", "set": {"disk": "s3"}, "key_template": "disk-s3/{path}"},
    )
    migrated(site)
    with site.project() as project:
        stored = project.store.read("disk-s3/items/0.jpg", size=10_000)
        assert stored == (site.uploads / "items/0.jpg").read_bytes()
        assert every_rewritten_row_is_backed(project.database, project.config, BATCH).holds
        # The control: the row is not backed any more once that object is not proven.
        site.execute("UPDATE pp_object SET verified_at = NULL WHERE \"key\" = 'disk-s3/items/0.jpg'")
        assert every_rewritten_row_is_backed(project.database, project.config, BATCH).violations == 1


@MOSTLY_SQLITE
def test_mode_none_stores_and_proves_and_touches_no_row(make_site: MakeSite, database: str) -> None:
    site = files_site(make_site, database, rewrite={"mode": "none"})
    before = site.dump()

    (outcome,) = site.migrate()

    assert (outcome.rewritten.stored, outcome.rewritten.rewritten, outcome.rewritten.rows) == (2, 0, 0)
    assert (outcome.state, outcome.validated.passed) == ("completed", 2)
    assert site.dump() == before
    assert site.states() == {"stored": 2}
    assert site.migrate() == []
    assert rolled_back(site).photos == 0
    assert site.dump() == before


def test_a_stored_photo_whose_file_changes_is_stored_anew(make_site: MakeSite) -> None:
    site = files_site(make_site, "sqlite", rewrite={"mode": "none"})
    migrated(site)
    photo(site.uploads / "items/0.jpg", seed=77)
    with site.project() as project:
        site.inventory(project)
    assert site.states() == {"pending": 1, "stored": 1}


@MOSTLY_SQLITE
def test_savings_are_written_back(make_site: MakeSite, database: str) -> None:
    back = {"size": "original_bytes", "saved": "saved_bytes", "share": "saved_percent"}
    site = files_site(make_site, database, rewrite={"mode": "columns", "write_back": back})
    before = site.dump()
    migrated(site)
    original = (site.uploads / "items/0.jpg").stat().st_size
    ((size, saved, share),) = site.execute("SELECT size, saved, share FROM files WHERE id = 0")
    assert size == original
    assert 0 < saved < original
    assert share == round(100 * saved / original)
    rolled_back(site)
    assert site.dump() == before


@pytest.mark.parametrize(
    ("rewrite", "reason"),
    [
        ({"mode": "none", "set": {"disk": "s3"}}, "mode none touches no row"),
        ({"mode": "columns"}, "at least one column"),
        ({"mode": "url", "key_template": "{path}"}, "goes with mode columns"),
        ({"mode": "columns", "set": {"disk": "s3"}, "key_template": "{user}"}, "must be made of"),
        ({"mode": "columns", "set": {"disk": "s3"}, "key_template": "fixed"}, "must be made of"),
        ({"mode": "columns", "set": {"disk": "s3"}, "key_template": "{path.__class__}"}, "must be made of"),
    ],
)
def test_a_mode_that_cannot_work_is_refused_with_the_reason(rewrite: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Rewrite.model_validate(rewrite)


def test_a_table_without_a_key_is_refused_with_its_name_and_what_to_do() -> None:
    with pytest.raises(ValidationError, match=r"table 'files': .*add a primary key"):
        Source.model_validate(source(key=[]))


@MOSTLY_SQLITE
def test_rows_that_no_column_tells_apart_are_refused(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=1, rows=[], sources=[source(key=["album"])], database=database)
    site.execute("CREATE TABLE files (album INTEGER, path VARCHAR(40), disk VARCHAR(20))")
    for _ in range(2):
        site.execute("INSERT INTO files VALUES (7, 'items/0.jpg', 'local')")
    with (
        site.project() as project,
        pytest.raises(ConfigurationError, match=r"table 'files'.*more than once.*add a primary key"),
    ):
        take_inventory(project.database, project.config)


@MOSTLY_SQLITE
def test_a_table_without_a_primary_key_works_by_declared_columns(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=2, rows=[], sources=[source(key=["album", "place"])], database=database)
    site.execute("CREATE TABLE files (album INTEGER, place INTEGER, path VARCHAR(40), disk VARCHAR(20))")
    for place in range(2):
        site.execute("INSERT INTO files VALUES (7, :n, :p, 'local')", n=place, p=f"items/{place}.jpg")
    before = site.dump()
    assert migrated(site).rewritten == 2
    assert rolled_back(site).rolled_back == 2
    assert site.dump() == before


@MOSTLY_SQLITE
def test_two_photos_of_a_row_share_the_columns_that_were_set(make_site: MakeSite, database: str) -> None:
    fields = [
        {"kind": "path", "column": "path", "root": "uploads"},
        {"kind": "path", "column": "back", "root": "uploads", "role": "duplicate"},
    ]
    site = make_site(photos=2, rows=[], sources=[source(fields=fields)], database=database)
    site.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT, back TEXT, disk TEXT)")
    site.execute("INSERT INTO files VALUES (1, 'items/0.jpg', 'items/1.jpg', 'local')")
    before = site.dump()
    assert migrated(site).rewritten == 2
    assert rolled_back(site).rolled_back == 2
    assert site.states() == {"rolled_back": 2}
    assert site.dump() == before


def test_in_mode_key_what_is_written_back_as_a_url_is_a_url(make_site: MakeSite) -> None:
    rewrite = {"mode": "key", "write_back": {"link": "url.thumb"}}
    site = make_site(photos=1, rows=[], sources=[source(rewrite=rewrite)])
    site.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT, link TEXT)")
    site.execute("INSERT INTO files VALUES (1, 'items/0.jpg', NULL)")
    before = site.dump()

    assert migrated(site).rewritten == 1

    ((path, link),) = site.execute("SELECT path, link FROM files")
    assert path.endswith("/full.jpg")
    assert "//" not in path, "a key"
    with site.project() as project:
        address = project.config.cdn.base_url
    assert link == f"{address}/{path.removesuffix('full.jpg')}thumb.jpg"
    assert rolled_back(site).rolled_back == 1
    assert site.dump() == before
