"""The audit of rewrites and rollbacks: one entry per chunk, and no ledger row can be changed unseen."""

import json
from typing import Any

import pytest

from photo_pipeline.core import audit
from photo_pipeline.core.errors import DatabaseError
from photo_pipeline.core.migration.ledger_audit import LedgerVerdict, verify_ledger
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import again, migrated, rewritten, rolled_back, uploaded
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, photo

CHUNKS = {"rewrite": {"rows_per_transaction": 2}}


def proven(site: Site) -> LedgerVerdict:
    with site.project() as project, project.database.read() as connection:
        assert audit.verify(connection).holds
        return verify_ledger(connection)


def entries(site: Site, action: str) -> list[dict[str, Any]]:
    rows = site.execute("SELECT details FROM pp_audit WHERE action = :a ORDER BY seq", a=action)
    return [json.loads(row[0]) for row in rows]


@MOSTLY_SQLITE
def test_each_chunk_of_a_rewrite_and_a_rollback_has_its_entry(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=5, database=database, **CHUNKS)
    migrated(site)
    written = [(each["rows"], each["entries"]) for each in entries(site, "rewrite")]
    assert written == [(2, 12), (2, 12), (1, 6)]
    assert proven(site) == LedgerVerdict(30, 0)
    (site.uploads / "items/0.jpg").unlink()
    rolled_back(site)
    assert [each["rolled_back"] for each in entries(site, "rollback")] == [2, 2, 1]
    assert [each["files_restored"] for each in entries(site, "rollback")] == [[], [], ["uploads/items/0.jpg"]]
    assert proven(site) == LedgerVerdict(30, 0)


TAMPERED = [
    ("UPDATE pp_rewrite SET \"before\" = '/uploads/other.jpg' WHERE id = 3", "as they were written"),
    ("UPDATE pp_rewrite SET \"after\" = 'x' WHERE id = 1", "as they were written"),
    ("UPDATE pp_rewrite SET row_key = '[1]' WHERE id = 1", "as they were written"),
    ("DELETE FROM pp_rewrite WHERE id = 9", "are gone"),
    ("UPDATE pp_rewrite SET outcome = 'applied' WHERE id = 2", "as they were written"),
]


@pytest.mark.parametrize(("change", "reason"), TAMPERED)
def test_a_changed_or_removed_ledger_row_is_found(make_site: MakeSite, change: str, reason: str) -> None:
    site = make_site(photos=2, **CHUNKS)
    migrated(site)
    rolled_back(site)
    assert proven(site).holds
    site.execute(change)
    verdict = proven(site)
    assert not verdict.holds
    assert reason in str(verdict.reason)


def test_a_row_that_was_slipped_in_is_counted(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrated(site)
    names = 'batch, source, row_id, row_key, "column", run, outcome'
    site.execute(f"INSERT INTO pp_rewrite ({names}) VALUES ('b', 's', 'r', 'k', 'c', 'x', 'applied')")
    assert proven(site).unaudited == 1


def test_a_chunk_without_its_entry_does_not_commit(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=2)
    uploaded(site)
    before = site.dump()
    site.execute("DELETE FROM pp_audit_head")
    with pytest.raises(DatabaseError, match="audit log"):
        again(site, "batch-000001")
    assert (site.dump(), site.states()) == (before, {"uploaded": 2})


def test_the_release_of_quarantined_photos_is_audited(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    (site.uploads / "items/1.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    site.migrate()
    assert site.states() == {"migrated": 1, "quarantined": 1}
    assert entries(site, "release") == []
    site.migrate(retry_failed=True)
    assert entries(site, "release") == [{"photos": 1, "state": "quarantined"}]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_value_that_waits_for_a_later_batch_comes_back_and_no_ledger_row_was_edited(
    make_site: MakeSite, order: tuple[int, int]
) -> None:
    fields = [
        {"kind": "url", "column": name, "root": "uploads"} for name in ("original_url", "thumbnail_url")
    ]
    rewrite = {"mode": "url", "touch": ["updated_at"]}
    site = make_site(photos=1, sources=[ITEM_PHOTOS | {"fields": fields, "rewrite": rewrite}])
    photo(site.uploads / "t.jpg", seed=9, width=32, height=24)
    site.execute("UPDATE item_photos SET updated_at = '2024-05-01 10:00:00.123456'")
    migrated(site)
    site.execute("UPDATE item_photos SET thumbnail_url = '/uploads/t.jpg'")
    (second,) = uploaded(site)
    assert second == "batch-000002"
    assert rewritten(site, second).rewritten == 1
    assert proven(site) == LedgerVerdict(4, 0)
    for number in order:
        assert rolled_back(site, f"batch-00000{number}").kept_columns == 0
        assert proven(site) == LedgerVerdict(4, 0)
    columns = "original_url, thumbnail_url, updated_at"
    assert site.execute(f"SELECT {columns} FROM item_photos") == [
        ("/uploads/items/0.jpg", "/uploads/t.jpg", "2024-05-01 10:00:00.123456")
    ]
    assert site.execute("SELECT DISTINCT outcome FROM pp_rewrite") == [("rolled_back",)]
    assert sum(each["entries"] for each in entries(site, "rollback")) == 4
