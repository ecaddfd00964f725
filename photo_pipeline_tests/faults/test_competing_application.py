"""An application that edits, inserts and deletes rows all the while: no edit lost, every conflict reported.

The application is a process of its own that logs each edit it has committed. At the end its log and the
ledger together must explain every value that any row ever had: what one of them wrote was replaced by the
other knowingly, or stands there still.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.migration.row_change import NewRow, RowChanges, by_column
from photo_pipeline.core.migration.row_rewrite import RowRewriter
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import rewritten, rolled_back, uploaded
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.faults.test_storage_faults import tiny_photos
from photo_pipeline_tests.sites import Site

FILES, ROUNDS = 12, 2
BATCHES = "SELECT DISTINCT batch FROM pp_rewrite WHERE outcome = 'applied' ORDER BY batch"


@contextmanager
def application_at_work(site: Site, seed: int) -> Iterator[Path]:
    """Let the application work meanwhile; the log is complete when the block has ended."""
    log = site.home / f"application-{seed}.jsonl"
    program = [sys.executable, "-m", "photo_pipeline_tests.faults.competing_application"]
    process = subprocess.Popen(
        [*program, site.url, str(seed), str(FILES), str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "working\n"
    try:
        yield log
    finally:
        process.communicate()
    assert process.returncode == 0


def edits_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def assert_every_value_is_accounted_for(site: Site, initial: dict[str, str], log: Path) -> None:
    """Whatever came to stand in a row was replaced by somebody who had read it, or still stands there.

    A value that was overwritten unread is one that came once more often than it went.
    """
    balance: Counter[tuple[str, str]] = Counter({(key, value): 1 for key, value in initial.items()})

    def replaced(key: str, before: str | None, after: str | None) -> None:
        if before is not None:
            balance[key, before] -= 1
        if after is not None:
            balance[key, after] += 1

    for edit in edits_of(log):
        replaced(edit["key"], edit["before"], edit["after"])
    entries = site.execute(
        "SELECT r.row_key, r.before, r.after, r.outcome, p.value FROM pp_rewrite r "
        "JOIN pp_photo p ON p.id = r.photo_id WHERE r.\"column\" = 'original_url'"
    )
    for entry in entries:
        (key,) = json.loads(entry.row_key)
        if entry.outcome in ("applied", "rolled_back", "rollback_conflict"):
            assert entry.before == entry.value, "a value was rewritten that is not the photo's"
            replaced(key, entry.before, entry.after)
        if entry.outcome == "rolled_back":
            replaced(key, entry.after, entry.before)
    present = {(row.id, row.original_url): 1 for row in site.execute("SELECT * FROM item_photos")}
    assert {each: count for each, count in balance.items() if count} == present


def assert_every_conflict_is_reported(site: Site, counted: int) -> None:
    """Each conflict that was met is in the ledger with its reason; none was met without being counted."""
    noted = site.execute("SELECT reason FROM pp_rewrite WHERE outcome = 'conflict'")
    assert counted == len(noted)
    assert all(row.reason for row in noted)
    trouble = site.execute("SELECT error_type, error_detail FROM pp_photo WHERE state = 'conflict'")
    assert all(row.error_type == "conflict" and row.error_detail for row in trouble)


def assert_survives(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=0, rows=[], database=database, batch_size=20, rewrite={"rows_per_transaction": 5})
    tiny_photos(site, FILES)
    initial = {row.id: row.original_url for row in site.execute("SELECT * FROM item_photos")}
    conflicts = migrated = 0
    with application_at_work(site, seed=7) as log:
        for _ in range(ROUNDS):
            for batch in uploaded(site):
                outcome = rewritten(site, batch)
                conflicts, migrated = conflicts + outcome.conflicts, migrated + outcome.rewritten
        assert_every_conflict_is_reported(site, conflicts)
        back = [rolled_back(site, row.batch) for row in site.execute(BATCHES)]
    print(f"\n{len(edits_of(log))} edits, {migrated} rewritten, {conflicts} conflicts")
    assert min(conflicts, migrated, len(edits_of(log))) > 0
    assert_every_value_is_accounted_for(site, initial, log)
    # Rows edited since are reported by the rollback, too.
    left = site.execute(
        "SELECT reason FROM pp_rewrite WHERE outcome = 'rollback_conflict' AND photo_id IS NOT NULL"
    )
    assert sum(each.conflicts for each in back) == len(left)
    assert all(row.reason for row in left)
    assert all(each.failed == 0 for each in back)


@pytest.mark.slow
@MOSTLY_SQLITE
def test_no_edit_of_a_busy_application_is_lost_and_every_conflict_is_reported(
    make_site: MakeSite, database: str
) -> None:
    assert_survives(make_site, database)


def blindly(
    self: RowChanges, address: RowAddress, good: list[Photo], primary: Photo | None, _before: Any
) -> NewRow:
    """Return the row's new cells as if each held nothing but its photo's old URL."""
    values = self._row_values(address)
    spelled = {photo.id: values.field_value(photo, primary) for photo in good}
    cells = {column: spelled[photos[-1].id] for column, photos in by_column(good).items()}
    return NewRow({**cells}, spelled)


@pytest.mark.slow
def test_without_its_defence_a_busy_application_finds_the_pipeline_out(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rewrite whatever the row says by now.
    monkeypatch.setattr(RowRewriter, "_unedited", lambda _self, _connection, _address, photos, *_: photos)
    monkeypatch.setattr(RowChanges, "_new_cells", blindly)
    with pytest.raises(AssertionError):
        assert_survives(make_site, "sqlite")
