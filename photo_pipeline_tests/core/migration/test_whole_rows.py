"""Rows about which other columns say where their photos are: they speak of the row's photos, all of them, and
of no others.
"""

import hashlib
from typing import Any

import pytest

from photo_pipeline.core.migration.restore import CellOutcome
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated, rewritten, rolled_back, uploaded
from photo_pipeline_tests.core.migration.test_restore import applied, lose_the_state_tables
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import Site

PATH = {"kind": "path", "column": "name", "root": "uploads"}
SECOND = {"kind": "path", "column": "second", "root": "uploads", "role": "duplicate"}
COMPUTED = {"kind": "computed", "template": "items/{{ name }}", "root": "uploads", "name": "file"}
MARKED = {"mode": "columns", "set": {"disk": "s3"}}


def media(
    make_site: MakeSite,
    name: str,
    second: str | None = None,
    *,
    fields: list[dict[str, Any]],
    rewrite: dict[str, Any] = MARKED,
    **settings: Any,
) -> Site:
    """One row in a table that says on which disk its photos are."""
    source = {"name": "media", "table": "media", "key": ["id"], "fields": fields, "rewrite": rewrite}
    site = make_site(photos=4, rows=[], sources=[source], **settings)
    site.execute(
        "CREATE TABLE media (id INTEGER PRIMARY KEY, name VARCHAR(90), second VARCHAR(90),"
        " disk VARCHAR(20), url TEXT)"
    )
    site.execute("INSERT INTO media VALUES (1, :name, :second, 'local', NULL)", name=name, second=second)
    return site


def disk(site: Site) -> str:
    ((found,),) = site.execute("SELECT disk FROM media")
    return str(found)


def digest(site: Site, number: int) -> str:
    return hashlib.sha256((site.uploads / f"items/{number}.jpg").read_bytes()).hexdigest()


def reasons(site: Site) -> list[tuple[str, str]]:
    return [
        (row[0], row[1])
        for row in site.execute(
            "SELECT state, error_detail FROM pp_photo WHERE error_type = 'row_not_ready' ORDER BY id"
        )
    ]


@MOSTLY_SQLITE
def test_a_row_with_a_photo_that_cannot_be_stored_does_not_say_that_its_photos_are(
    make_site: MakeSite, database: str
) -> None:
    site = media(make_site, "items/0.jpg", "items/drawing.svg", fields=[PATH, SECOND], database=database)
    (site.uploads / "items/drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")

    outcome = migrated(site)

    assert (outcome.rewritten, outcome.failed, disk(site)) == (0, 1, "local")
    ((state, reason),) = reasons(site)
    assert state == "quarantined"
    assert "its second names 'items/drawing.svg', which is not in the store" in reason
    assert site.execute("SELECT count(*) FROM pp_rewrite") == [(0,)]
    # Replaced by one that can be: what waited for it is proven already.
    site.execute("UPDATE media SET second = 'items/1.jpg'")
    (batch,) = uploaded(site)
    assert (rewritten(site, batch).rewritten, disk(site)) == (1, "s3")


def test_a_photo_that_was_added_meanwhile_is_waited_for(make_site: MakeSite) -> None:
    site = media(make_site, "items/0.jpg", fields=[PATH, SECOND])
    (batch,) = uploaded(site)
    site.execute("UPDATE media SET second = 'items/1.jpg'")

    outcome = rewritten(site, batch)

    assert (outcome.rewritten, outcome.not_ready, outcome.conflicts, disk(site)) == (0, 1, 0, "local")
    ((state, reason),) = reasons(site)
    assert state == "uploaded"
    assert "no inventory has seen it yet" in reason
    assert uploaded(site) == [batch]
    assert rewritten(site, batch).rewritten == 2
    assert (disk(site), site.states(), reasons(site)) == ("s3", {"migrated": 2}, [])


def test_what_counts_of_the_other_photo_is_that_its_objects_are_proven(make_site: MakeSite) -> None:
    site = media(make_site, "items/0.jpg", "items/nothing.jpg", fields=[PATH, SECOND])
    migrated(site)
    site.execute("UPDATE media SET second = 'items/1.jpg'")
    (batch,) = uploaded(site)
    lost = f"%{digest(site, 0)}%"
    site.execute('UPDATE pp_object SET verified_at = NULL WHERE "key" LIKE :k', k=lost)
    assert (rewritten(site, batch).failed, disk(site)) == (1, "local")


@pytest.mark.parametrize(
    "second", ["https://elsewhere.example/a/b.jpg", "//elsewhere.example/b.jpg", "data:image/png;base64,AA=="]
)
def test_an_address_of_another_place_is_nothing_to_wait_for(make_site: MakeSite, second: str) -> None:
    site = media(make_site, "items/0.jpg", second, fields=[PATH, SECOND])
    assert (migrated(site).rewritten, disk(site)) == (1, "s3")


@MOSTLY_SQLITE
@pytest.mark.parametrize(
    "rewrite", [MARKED, {"mode": "url", "write_back": {"url": "url.full"}}], ids=["columns", "url"]
)
def test_a_row_that_computes_another_name_by_now_is_a_conflict(
    make_site: MakeSite, database: str, rewrite: dict[str, Any]
) -> None:
    site = media(make_site, "0.jpg", fields=[COMPUTED], rewrite=rewrite, database=database)
    (batch,) = uploaded(site)
    site.execute("UPDATE media SET name = '1.jpg'")
    before = site.dump()
    outcome = rewritten(site, batch)
    assert (outcome.rewritten, outcome.conflicts, site.dump()) == (0, 1, before)
    assert site.states() == {"conflict": 1}
    # The control: the name that it computes now is migrated.
    (batch,) = uploaded(site)
    assert rewritten(site, batch).rewritten == 1
    assert site.dump() != before


def renamed(site: Site) -> None:
    site.execute("UPDATE media SET name = 'items/only-in-the-store.jpg'")


def renamed_by_parts(site: Site) -> None:
    site.execute("UPDATE media SET name = 'only-in-the-store.jpg'")


def replaced(site: Site) -> None:
    """The row is deleted, and its id is given to another one."""
    site.execute("DELETE FROM media")
    site.execute("INSERT INTO media VALUES (1, 'items/new.jpg', NULL, 's3', NULL)")


EDITS = pytest.mark.parametrize(
    ("field", "name", "edit"),
    [
        (PATH, "items/0.jpg", renamed),
        (PATH, "items/0.jpg", replaced),
        (COMPUTED, "0.jpg", renamed_by_parts),
    ],
    ids=["renamed", "replaced", "computed"],
)


@MOSTLY_SQLITE
@EDITS
def test_what_is_said_of_another_photo_by_now_is_not_rolled_back(
    make_site: MakeSite, database: str, field: dict[str, Any], name: str, edit: Any
) -> None:
    site = media(make_site, name, fields=[field], database=database)
    migrated(site)
    edit(site)
    edited = site.dump()
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.conflicts, site.dump()) == (0, 1, edited)
    ((reason,),) = site.execute("SELECT error_detail FROM pp_photo WHERE state = 'conflict'")
    assert "does not name that photo any more" in reason


def test_a_row_that_computes_its_name_of_the_marker_too_goes_back(make_site: MakeSite) -> None:
    field = COMPUTED | {"template": "items/{{ name }}{{ disk | replace('local', '.jpg') }}"}
    site = media(make_site, "0", fields=[field])
    before = site.dump()
    assert (migrated(site).rewritten, disk(site)) == (1, "s3")
    assert rolled_back(site).rolled_back == 1
    assert site.dump() == before


@MOSTLY_SQLITE
@EDITS
def test_what_is_said_of_another_photo_by_now_is_not_restored(
    make_site: MakeSite, database: str, field: dict[str, Any], name: str, edit: Any
) -> None:
    site = media(make_site, name, fields=[field], database=database)
    migrated(site)
    edit(site)
    edited = site.dump()
    lose_the_state_tables(site)
    outcome = applied(site)
    assert (outcome.rows_restored, site.dump()) == (0, edited)
    assert [(change.column, change.outcome) for change in outcome.left] == [("disk", CellOutcome.EDITED)]


def test_what_the_row_is_told_of_a_computed_photo_goes_back_only_with_its_name(make_site: MakeSite) -> None:
    rewrite = {"mode": "url", "write_back": {"url": "url.full"}}
    site = media(make_site, "0.jpg", fields=[COMPUTED], rewrite=rewrite)
    before = site.dump()
    migrated(site)
    site.execute("UPDATE media SET name = 'only-in-the-store.jpg'")
    edited = site.dump()
    assert (applied(site).rows_restored, site.dump()) == (0, edited)
    site.execute("UPDATE media SET name = '0.jpg'")
    assert (applied(site).rows_restored, site.dump()) == (1, before)
