"""The audit log: each entry is chained to all before it, and whatever is done to one of them is found."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.audit import GENESIS, AuditVerdict
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import audit_head_table, audit_table
from photo_pipeline.core.errors import DatabaseError


def opened(url: str) -> Database:
    database = Database.open(url)
    ensure_schema(database)
    return database


def sqlite_at(folder: Path) -> str:
    (folder / "app.db").touch()
    return f"sqlite:///{folder / 'app.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "postgres":
        url = str(request.getfixturevalue("postgres").new_database())
    else:
        url = sqlite_at(tmp_path)
    yield (made := opened(url))
    made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One database for all examples of a property; each begins by emptying the log."""
    yield (made := opened(sqlite_at(tmp_path_factory.mktemp("audit"))))
    made.close()


def note(connection: Connection, subject: str, **values: Any) -> None:
    audit.record(connection, **{"action": "pause", "subject": subject, "details": {}, "run": "r"} | values)


def noted(database: Database, *subjects: str, **values: Any) -> None:
    for subject in subjects:
        with database.write() as connection:
            note(connection, subject, **values)


def verdict(database: Database, **options: str) -> AuditVerdict:
    with database.read() as connection:
        return audit.verify(connection, **options)


def test_an_empty_log_is_unbroken(database: Database) -> None:
    assert verdict(database) == AuditVerdict(0, GENESIS)


def test_entries_are_numbered_chained_and_shown_as_they_were_recorded(database: Database) -> None:
    noted(database, "the migration", actor="anna", details={"reason": "déploiement \x00", "n": [1, None]})
    noted(database, "batch-000001", "batch-000002", batch="batch-000001")
    with database.read() as connection:
        first, second, third = audit.entries(connection, last=50)
        assert audit.entries(connection, last=1, batch="batch-000001") == [third]
    assert (first.seq, first.actor, first.details) == (
        1,
        "anna",
        {"reason": "déploiement \x00", "n": [1, None]},
    )
    assert "@" in second.actor, "without a name, it is the account on this machine"
    assert verdict(database) == AuditVerdict(3, third.hash)
    assert verdict(database, known_head=first.hash).holds


def test_an_act_that_is_undone_leaves_no_entry(database: Database) -> None:
    def act_and_fail() -> None:
        with database.write() as connection:
            note(connection, "undone")
            raise RuntimeError

    noted(database, "a")
    with pytest.raises(RuntimeError):
        act_and_fail()
    noted(database, "b")
    with database.read() as connection:
        assert [entry.subject for entry in audit.entries(connection, last=9)] == ["a", "b"]
    assert verdict(database).holds


def test_writers_at_the_same_time_make_one_chain(database: Database) -> None:
    start = threading.Barrier(6)

    def write(name: str) -> None:
        start.wait()
        noted(database, *(f"{name} {number}" for number in range(10)))

    writers = [threading.Thread(target=write, args=(str(number),)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert verdict(database).count == 60
    assert verdict(database).holds


def test_a_log_that_was_rewritten_as_a_whole_lacks_the_hash_that_was_noted_elsewhere(
    database: Database,
) -> None:
    noted(database, "a", "b")
    published = verdict(database).head
    with database.write() as connection:
        emptied(connection)
        note(connection, "a")
        note(connection, "b, as I would have it")
    assert verdict(database).holds
    assert not verdict(database, known_head=published).holds


def test_without_its_head_nothing_is_appended(database: Database) -> None:
    noted(database, "a")
    with database.write() as connection:
        connection.execute(sa.delete(audit_head_table))
    with pytest.raises(DatabaseError, match="pp_audit_head"):
        noted(database, "b")
    assert verdict(database).broken_seq == 2


# --- whatever is done to the table, the place is named


def emptied(connection: Connection) -> None:
    connection.execute(sa.delete(audit_table))
    connection.execute(sa.update(audit_head_table).values(seq=0, hash=GENESIS))


def row_of(connection: Connection, seq: int) -> dict[str, Any]:
    return dict(connection.execute(sa.select(audit_table).where(audit_table.c.seq == seq)).mappings().one())


def changed(connection: Connection, at_seq: int, /, **values: Any) -> None:
    connection.execute(sa.update(audit_table).where(audit_table.c.seq == at_seq).values(values))


def other(value: Any) -> Any:
    if isinstance(value, str | None):
        return f"{value or ''}x"
    return value + timedelta(microseconds=1)


def change(connection: Connection, seq: int, length: int, column: str) -> int:
    changed(connection, seq, **{column: other(row_of(connection, seq)[column])})
    return seq


def delete(connection: Connection, seq: int, length: int, column: str) -> int:
    connection.execute(sa.delete(audit_table).where(audit_table.c.seq == seq))
    return seq


def close_ranks(connection: Connection, seq: int, length: int, column: str) -> int:
    """Delete one, and number those after it anew."""
    delete(connection, seq, length, column)
    for later in range(seq + 1, length + 1):
        changed(connection, later, seq=later - 1)
    return seq


def insert(connection: Connection, seq: int, length: int, column: str) -> int:
    """Put a well-made entry after this one, and number those after it anew."""
    forged = row_of(connection, seq)
    for later in range(length, seq, -1):
        changed(connection, later, seq=later + 1)
    forged |= {"seq": seq + 1, "previous_hash": forged["hash"], "subject": "forged"}
    forged["hash"] = audit._digest(forged)
    connection.execute(sa.insert(audit_table), forged)
    # It could be real; what cannot follow it is the next one (or the head).
    return seq + 2 if seq < length else seq + 1


def swap(connection: Connection, seq: int, length: int, column: str) -> int | None:
    if seq == length:
        return None
    first, second = row_of(connection, seq), row_of(connection, seq + 1)
    changed(connection, seq, **second | {"seq": 0})
    changed(connection, seq + 1, **first | {"seq": seq + 1})
    changed(connection, 0, seq=seq)
    return seq


Tamper = Callable[[Connection, int, int, str], int | None]
TAMPERS: list[Tamper] = [change, delete, close_ranks, insert, swap]
COLUMNS = sorted(column.name for column in audit_table.columns if column.name != "seq")


@settings(deadline=None)
@given(data=st.data(), subjects=st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=6))
def test_a_changed_deleted_inserted_or_swapped_entry_is_named(
    shared: Database, data: st.DataObject, subjects: list[str]
) -> None:
    with shared.write() as connection:
        emptied(connection)
        for subject in subjects:
            note(connection, subject, batch=data.draw(st.none() | st.just("batch-000001")))
    assert verdict(shared).holds, "nothing was done to it yet"
    tamper, length = data.draw(st.sampled_from(TAMPERS)), len(subjects)
    seq, column = data.draw(st.integers(1, length)), data.draw(st.sampled_from(COLUMNS))
    with shared.write() as connection:
        place = tamper(connection, seq, length, column)
    assert verdict(shared).broken_seq == place
