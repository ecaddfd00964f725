"""A rollback rehearsed on real rows: it tells the truth, and leaves no trace."""

import pytest
from sqlalchemy import Connection

from photo_pipeline.core.migration.rehearsal import Rehearsed, rehearse_rollback
from photo_pipeline.core.migration.row_parts import RowPart
from photo_pipeline.core.migration.row_rollback import RowRollback
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated, rewritten, rolled_back, uploaded
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import Site, item_photo

BATCH = "batch-000001"
TABLES = ("pp_photo", "pp_rewrite", "pp_rewrite_photo", "pp_batch", "pp_object")


def rehearsed(site: Site, *, rows: int = 20) -> Rehearsed:
    with site.project() as project:
        return rehearse_rollback(project.database, project.config, BATCH, rows=rows, run="rehearsal")


def everything(site: Site) -> list[str]:
    return site.dump() + [str(row) for table in TABLES for row in site.execute(f"SELECT * FROM {table}")]


def thumbnails(count: int) -> list[dict[str, object]]:
    return [item_photo(n, f"/uploads/items/{n}.jpg", f"/uploads/items/{n}.jpg") for n in range(count)]


@MOSTLY_SQLITE
@pytest.mark.parametrize("stage", ["before", "uploaded", "after"])
def test_rows_come_back_exactly_and_nothing_is_left_of_it(
    make_site: MakeSite, database: str, stage: str
) -> None:
    site = make_site(photos=3, rows=thumbnails(3), database=database)
    if stage == "before":
        with site.project() as project:
            site.inventory(project)
    else:
        uploaded(site)
    if stage == "after":
        rewritten(site)
    before = everything(site)
    outcome = rehearsed(site)
    assert (outcome.rows, outcome.exact, outcome.holds) == (3, 3, True), outcome
    assert everything(site) == before
    assert rehearsed(site, rows=2).rows == 2
    entries = site.execute("SELECT subject FROM pp_audit WHERE action = 'rehearsal' ORDER BY seq")
    assert entries[0] == ("3 of 3 rows came back exactly",)


@MOSTLY_SQLITE
def test_a_trigger_that_would_spoil_the_rollback_is_found_out(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=2, database=database)
    migrated(site)
    if database == "sqlite":
        site.execute(
            "CREATE TRIGGER spoil AFTER UPDATE OF original_url ON item_photos BEGIN "
            "UPDATE item_photos SET alt = 'spoiled' WHERE id = NEW.id; END"
        )
    else:
        site.execute(
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.alt := 'spoiled'; RETURN NEW; END $$"
        )
        site.execute(
            "CREATE TRIGGER spoil BEFORE UPDATE ON item_photos FOR EACH ROW EXECUTE FUNCTION spoil()"
        )
    before = everything(site)
    outcome = rehearsed(site)
    assert not outcome.holds
    assert [line.rpartition(": ")[2] for line in outcome.differing] == ["alt", "alt"]
    assert everything(site) == before


def test_an_edited_row_is_counted_and_is_no_failure(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    migrated(site)
    site.execute("UPDATE item_photos SET original_url = '/uploads/newer.jpg' WHERE alt = 'photo 1'")
    outcome = rehearsed(site)
    assert (outcome.exact, outcome.edited, outcome.holds) == (1, 1, True)


def test_a_row_that_cannot_be_rewritten_is_named_with_its_reason(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    uploaded(site)
    site.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON item_photos BEGIN SELECT RAISE(ABORT, 'no entry'); END"
    )
    outcome = rehearsed(site)
    assert not outcome.holds
    assert "no entry" in outcome.refused[0]


def test_without_the_rollback_the_rehearsal_fails(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a rollback that sets back all but one column must not pass."""
    site = make_site(photos=1)
    migrated(site)
    roll_back = RowRollback.roll_back

    def forgetful(self: RowRollback, connection: Connection, part: RowPart) -> object:
        kept = [entry for entry in part.entries if entry.column != "mime_type"]
        return roll_back(self, connection, RowPart(kept, part.photos))

    monkeypatch.setattr(RowRollback, "roll_back", forgetful)
    assert rehearsed(site).differing[0].endswith(": mime_type")
    monkeypatch.setattr(RowRollback, "roll_back", roll_back)
    assert rolled_back(site).rolled_back == 1
