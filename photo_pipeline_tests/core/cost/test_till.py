"""What a killed process had counted ahead is given back once, to the ledger and the month that it is of."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cost import ledger, till
from photo_pipeline.core.cost.meter import BLOCKS, Meter
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline_tests.databases import MOSTLY_SQLITE

NOW = datetime(2026, 11, 15, tzinfo=UTC)
CONTEXT = multiprocessing.get_context("forkserver")


def die(url: str, tills: Path, puts: int, at: datetime) -> None:
    """Count so many PUTs, and be killed."""
    with closing(Database.open(url)) as database:
        meter = Meter(database, clock=lambda: at, tills=tills)
        for _ in range(puts):
            meter.count(Unit.PUTS)
        os.kill(os.getpid(), signal.SIGKILL)


def let_die(url: str, tills: Path, puts: int, at: datetime = NOW) -> None:
    process = CONTEXT.Process(target=die, args=(url, tills, puts, at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def used(database: Database, at: datetime = NOW) -> int:
    with database.read() as connection:
        return ledger.used_in(connection, month_of(at)).get(Unit.PUTS, 0)


def count_one_delete(database: Database, tills: Path, at: datetime = NOW) -> None:
    with closing(Meter(database, clock=lambda: at, tills=tills)) as meter:
        meter.count(Unit.DELETES)


@MOSTLY_SQLITE
def test_the_next_process_gives_back_what_a_killed_one_had_left_and_nobody_does_twice(
    database: str, tmp_path: Path, new_url: Callable[[str], str]
) -> None:
    url, tills = new_url(database), tmp_path / "tills"
    with closing(Database.open(url)) as opened:
        let_die(url, tills, 5)
        assert 5 < used(opened) <= BLOCKS[Unit.PUTS]
        count_one_delete(opened, tills)
        assert used(opened) == 5
        count_one_delete(opened, tills)
        assert used(opened) == 5
    assert list(tills.rglob("*.till1")) == []


def test_the_living_keep_theirs_and_a_month_that_has_ended_gets_its_own(
    tmp_path: Path, new_url: Callable[[str], str]
) -> None:
    url, tills, later = new_url("sqlite"), tmp_path / "tills", datetime(2026, 12, 1, tzinfo=UTC)
    with closing(Database.open(url)) as opened:
        living = Meter(opened, clock=lambda: NOW, tills=tills)
        living.count(Unit.PUTS)
        for _ in range(4):
            living.count(Unit.PUTS)
        held = used(opened)
        let_die(url, tills, 5)
        count_one_delete(opened, tills, later)
        assert held > 5
        assert (used(opened), used(opened, later)) == (held + 5, 0)
        living.close()
        assert used(opened) == 5 + 5


def test_nothing_is_given_back_to_another_ledger_or_after_the_machine_has_started_again(
    tmp_path: Path, new_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, tills = new_url("sqlite"), tmp_path / "tills"
    with closing(Database.open(url)) as opened:
        let_die(url, tills, 5)
        (kept,) = tills.rglob("*.till1")
        with opened.write() as connection:  # as after `rebuild`: new tables at the same place
            connection.exec_driver_sql("UPDATE pp_breaker SET ledger_id = NULL")
            connection.exec_driver_sql("DELETE FROM pp_usage")
        count_one_delete(opened, tills)
        assert used(opened) == 0
        assert kept.exists()
        let_die(url, tills, 7)
        monkeypatch.setattr(till, "_this_boot", lambda: f"{till._machine()}-{'0' * 16}")
        count_one_delete(opened, tills)
        # What the machine's crash may have forgotten is thrown away, and stays counted.
        assert used(opened) > 7
        assert list(tills.rglob("*.till1")) == [kept]


def test_counting_goes_on_where_no_file_can_be_made(tmp_path: Path, new_url: Callable[[str], str]) -> None:
    (tmp_path / "tills").write_text("a file where the folder should be", encoding="utf-8")
    with closing(Database.open(new_url("sqlite"))) as opened:
        with closing(Meter(opened, clock=lambda: NOW, tills=tmp_path / "tills")) as meter:
            meter.count(Unit.PUTS)
        assert used(opened) == 1


def test_a_fork_leaves_its_parents_file_alone(tmp_path: Path, new_url: Callable[[str], str]) -> None:
    url, tills = new_url("sqlite"), tmp_path / "tills"
    with closing(Database.open(url)) as opened:
        parent = Meter(opened, clock=lambda: NOW, tills=tills)
        for _ in range(5):
            parent.count(Unit.PUTS)
        held = used(opened)
        forked = os.fork()
        if forked == 0:
            try:
                parent._begin_month()  # what every count begins with
            finally:
                os._exit(0 if parent._till is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
        count_one_delete(opened, tills)
        assert used(opened) == held > 5
        parent.close()
        assert used(opened) == 5
