"""Rows whose photos' own columns stay (mode columns, computed fields): restored, and moved elsewhere."""

import shutil
from typing import Any

import pytest

from photo_pipeline.core.migration import ledger
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated, rolled_back
from photo_pipeline_tests.core.migration.test_repoint import (
    repointed,
    to_another_domain,
    to_another_prefix,
)
from photo_pipeline_tests.core.migration.test_restore import (
    applied,
    lose_the_state_tables,
    restored,
    without_ledger_copies,
)
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import Site

PATH = {"kind": "path", "column": "path", "root": "uploads"}
COMPUTED = {"kind": "computed", "template": "items/{{ stem }}.jpg", "root": "uploads", "name": "file"}
MARKED: dict[str, Any] = {
    "mode": "columns",
    "set": {"disk": "s3", "remote": True},
    "write_back": {"url": "url.full", "formats": "formats_json", "size": "bytes", "width": "width"},
    "touch": ["changed"],
}
WITHOUT_ADDRESSES = {"mode": "columns", "set": {"disk": "s3"}, "write_back": {"size": "bytes"}}
NARROW = {
    "full": {"fit": "inside", "width": 640, "height": 640},
    "thumb": {"fit": "cover", "width": 100, "height": 100},
}


def files_site(
    make_site: MakeSite,
    database: str = "sqlite",
    rewrite: dict[str, Any] = MARKED,
    field: dict[str, Any] = PATH,
) -> Site:
    """Two rows about photos in a table that says on which disk they are."""
    source = {"name": "files", "table": "files", "key": ["id"], "fields": [field], "rewrite": rewrite}
    site = make_site(photos=2, rows=[], sources=[source], database=database)
    formats = "JSONB" if database == "postgres" else "TEXT"
    site.execute(
        "CREATE TABLE files (id INTEGER PRIMARY KEY, path VARCHAR(200), stem VARCHAR(9), disk VARCHAR(20),"
        f" remote BOOLEAN, url TEXT, formats {formats}, size BIGINT, width INTEGER, changed VARCHAR(40))"
    )
    for number in range(2):
        site.execute(
            "INSERT INTO files (id, path, stem, disk, remote, changed)"
            " VALUES (:n, :path, :stem, 'local', :no, '2024-05-01 10:00:00')",
            n=number,
            path=f"items/{number}.jpg",
            stem=str(number),
            no=False,
        )
    return site


def column(site: Site, name: str) -> list[Any]:
    return [each for (each,) in site.execute(f"SELECT {name} FROM files ORDER BY id")]


@MOSTLY_SQLITE
@pytest.mark.parametrize("field", [PATH, COMPUTED], ids=["path", "computed"])
def test_they_are_restored_byte_for_byte_with_the_state_tables_lost(
    make_site: MakeSite, database: str, field: dict[str, Any]
) -> None:
    site = files_site(make_site, database, field=field)
    before = site.dump()
    migrated(site)
    assert column(site, "disk") == ["s3", "s3"]
    lose_the_state_tables(site)
    assert applied(site).rows_restored == 2
    assert site.dump() == before


@MOSTLY_SQLITE
@pytest.mark.parametrize("field", [PATH, COMPUTED], ids=["path", "computed"])
def test_where_the_state_tables_stand_their_photos_count_as_rolled_back(
    make_site: MakeSite, database: str, field: dict[str, Any]
) -> None:
    site = files_site(make_site, database, field=field)
    before = site.dump()
    migrated(site)
    applied(site)
    assert site.dump() == before
    assert site.states() == {"rolled_back": 2}
    assert site.execute("SELECT state FROM pp_batch") == [("rolled_back",)]
    assert rolled_back(site).rows == 0


def test_a_row_whose_marker_was_changed_since_is_left_as_a_whole(make_site: MakeSite) -> None:
    """As a rollback leaves it: what describes another state of the row is not ours to change."""
    site = files_site(make_site)
    migrated(site)
    site.execute("UPDATE files SET disk = 'tape', remote = NULL WHERE id = 1")
    (edited,) = site.execute("SELECT * FROM files WHERE id = 1")
    outcome = applied(site)
    assert outcome.rows_restored == 1
    assert {change.row_key for change in outcome.left} == {"[1]"}
    assert site.execute("SELECT * FROM files WHERE id = 1") == [edited]
    assert column(site, "disk") == ["local", "tape"]


def test_without_a_copied_ledger_a_marker_is_unproven_and_goes_back_by_force(make_site: MakeSite) -> None:
    """The application may have written it itself: nothing but a copied ledger tells."""
    site = files_site(make_site, rewrite={"mode": "columns", "set": {"disk": "s3"}})
    before = site.dump()
    migrated(site)
    without_ledger_copies(site)
    lose_the_state_tables(site)
    assert restored(site).cells["unproven"] == 2
    assert applied(site, force=True).rows_restored == 2
    assert site.dump() == before


@MOSTLY_SQLITE
@pytest.mark.parametrize("move", [to_another_domain, to_another_prefix])
def test_the_addresses_written_back_move_and_go_back_to_the_very_first_value(
    make_site: MakeSite, database: str, move: Any
) -> None:
    site = files_site(make_site, database)
    before = site.dump()
    migrated(site)
    old = column(site, "url")
    assert repointed(site).already_there == 2
    address = move(site)
    outcome = repointed(site)
    assert (outcome.repointed, outcome.rows, outcome.conflicts, outcome.failed) == (2, 2, 0, 0)
    assert set(column(site, "url")).isdisjoint(old)
    assert all(url.startswith(f"{address}/") for url in column(site, "url"))
    assert all(address in str(formats) for formats in column(site, "formats"))
    assert column(site, "disk") == ["s3", "s3"]
    moved = site.dump()
    second = repointed(site)
    assert (second.repointed, second.already_there, site.dump()) == (0, 2, moved)
    assert rolled_back(site).rolled_back == 2
    assert site.dump() == before
    assert site.states() == {"rolled_back": 2}


@MOSTLY_SQLITE
def test_facts_of_the_present_recipe_are_written_back(make_site: MakeSite, database: str) -> None:
    site = files_site(make_site, database, field=COMPUTED)
    before = site.dump()
    migrated(site)
    site.configure(variants={"default": NARROW})
    assert repointed(site).already_there == 2
    shutil.rmtree(site.uploads / "items")
    assert repointed(site, present_recipe=True).repointed == 2
    assert column(site, "width") == [640, 640]
    assert repointed(site, present_recipe=True).already_there == 2
    assert rolled_back(site).files_restored == 2
    assert site.dump() == before


@pytest.mark.parametrize("rewrite", [WITHOUT_ADDRESSES, {"mode": "columns", "set": {"disk": "s3"}}])
def test_a_row_that_names_no_address_has_nowhere_to_move(
    make_site: MakeSite, rewrite: dict[str, Any]
) -> None:
    site = files_site(make_site, rewrite=rewrite)
    before = site.dump()
    migrated(site)
    after = site.dump()
    to_another_domain(site)
    outcome = repointed(site)
    assert (outcome.repointed, outcome.already_there, site.dump()) == (0, 2, after)
    rolled_back(site)
    assert site.dump() == before


@MOSTLY_SQLITE
def test_in_mode_key_addresses_that_were_written_back_move_though_the_key_stays(
    make_site: MakeSite, database: str
) -> None:
    site = files_site(make_site, database, rewrite={"mode": "key", "write_back": {"formats": "formats_json"}})
    site.execute("UPDATE files SET path = NULL WHERE id = 1")
    before = site.dump()
    migrated(site)
    key = column(site, "path")
    address = to_another_domain(site)
    assert repointed(site).repointed == 1
    assert column(site, "path") == key
    assert address in str(column(site, "formats")[0])
    assert repointed(site).already_there == 1
    rolled_back(site)
    assert site.dump() == before


def test_an_interrupted_restore_is_continued(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = files_site(make_site)
    site.configure(rewrite={"rows_per_transaction": 1})
    before = site.dump()
    migrated(site)
    swap, calls = ledger.swap, []

    def interrupt(*arguments: Any, **options: Any) -> bool:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return swap(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "swap", interrupt)
        with pytest.raises(KeyboardInterrupt):
            applied(site)
    assert column(site, "disk") == ["local", "s3"]
    assert applied(site).rows_restored == 1
    assert site.dump() == before
