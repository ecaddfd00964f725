"""No row is rewritten without a backup of it, whatever the application does meanwhile."""

from typing import Any

import pytest

from photo_pipeline.core.migration import backup
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import rewritten, uploaded
from photo_pipeline_tests.core.migration.test_restore import applied, lose_the_state_tables
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import Site


def gone_while_rows_are_read(site: Site, monkeypatch: pytest.MonkeyPatch, number: int) -> dict[str, Any]:
    """Take the row away before the next backup reads it; return it."""
    (row,) = site.execute("SELECT * FROM item_photos WHERE alt = :a", a=f"photo {number}")
    found, real = dict(row._mapping), backup.read_cells

    def read(*arguments: Any) -> Any:
        site.execute("DELETE FROM item_photos WHERE id = :id", id=found["id"])
        return real(*arguments)

    monkeypatch.setattr(backup, "read_cells", read)
    return found


@MOSTLY_SQLITE
def test_a_row_that_is_gone_while_it_is_backed_up_and_there_again_waits_for_the_next_run(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """The application replaces it by DELETE and INSERT, in two transactions."""
    site = make_site(photos=2, database=database)
    before = site.dump()
    uploaded(site)
    with monkeypatch.context() as patched:
        row = gone_while_rows_are_read(site, patched, 1)
        real = backup.back_up_rows

        def back_up_rows(*arguments: Any) -> Any:
            safe = real(*arguments)
            site.execute(f"INSERT INTO item_photos VALUES ({', '.join(f':{name}' for name in row)})", **row)
            return safe

        patched.setattr("photo_pipeline.core.migration.rewrite.back_up_rows", back_up_rows)
        outcome = rewritten(site)
    assert (outcome.rewritten, outcome.not_ready, outcome.conflicts) == (1, 1, 0)
    assert site.execute("SELECT original_url FROM item_photos WHERE alt = 'photo 1'") == [
        (row["original_url"],)
    ]
    assert rewritten(site).rewritten == 1
    lose_the_state_tables(site)
    assert applied(site).rows_restored == 2
    assert site.dump() == before


def test_one_that_stays_away_is_reported_as_deleted(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=2)
    uploaded(site)
    with monkeypatch.context() as patched:
        gone_while_rows_are_read(site, patched, 1)
        outcome = rewritten(site)
    assert (outcome.rewritten, outcome.not_ready, outcome.conflicts) == (1, 0, 1)
    ((detail,),) = site.execute("SELECT error_detail FROM pp_photo WHERE state = 'conflict'")
    assert "the row was deleted" in detail
