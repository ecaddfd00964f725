"""What the database does to a rewrite or a rollback: no photo is blamed for it, and a run goes on from there.

A connection that is cut and a server that is killed are in `faults/`.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.errors import DatabaseBusyError, DatabaseError
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.rewrite import Rewritten, rewrite_batch
from photo_pipeline.core.migration.run import roll_back_batch
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import rewritten, rolled_back, uploaded
from photo_pipeline_tests.sites import Site

BATCH = "batch-000001"


def name_of(site: Site) -> str:
    return str(sa.make_url(site.url).database)


def set_for_new_sessions(site: Site, setting: str, value: str) -> None:
    site.execute(f"ALTER DATABASE {name_of(site)} SET {setting} = '{value}'")


@contextmanager
def read_only(site: Site) -> Iterator[None]:
    """The server takes no writes, as a replica after a failover."""
    set_for_new_sessions(site, "default_transaction_read_only", "on")
    yield
    with site.engine().connect() as connection:
        connection.execute(sa.text("SET TRANSACTION READ WRITE"))
        connection.execute(sa.text(f"ALTER DATABASE {name_of(site)} RESET default_transaction_read_only"))
        connection.commit()


def test_a_read_only_server_stops_the_run_and_quarantines_nothing(make_site: MakeSite) -> None:
    site = make_site(photos=2, database="postgres")
    uploaded(site)
    before = site.dump()
    with read_only(site), pytest.raises(DatabaseError, match=r"read-only transaction.*Write to the primary"):
        rewritten(site)
    assert (site.dump(), site.states()) == (before, {"uploaded": 2})
    assert rewritten(site).rewritten == 2


class _ReadOnlyMidway:
    """Makes the transaction read-only before its first change of an application row, as an operator might."""

    def __init__(self, database: Database) -> None:
        event.listen(database.engine, "before_cursor_execute", self._before)

    def _before(self, connection: object, cursor: sqlite3.Cursor, statement: str, *_: object) -> None:
        if "UPDATE item_photos" in statement:
            cursor.execute("SET TRANSACTION READ ONLY")


def test_a_transaction_that_becomes_read_only_at_a_row_does_not_cost_the_row(make_site: MakeSite) -> None:
    site = make_site(photos=2, database="postgres")
    uploaded(site)
    with site.project() as project, BatchLease(project.database, BATCH, run="r") as lease:
        _ReadOnlyMidway(project.database)
        with pytest.raises(DatabaseError, match="read-only transaction"):
            rewrite_batch(project.database, project.config, lease, project.store, project.cdn)
    assert site.states() == {"uploaded": 2}
    assert rewritten(site).rewritten == 2
    before = site.dump()
    with site.project() as project:
        _ReadOnlyMidway(project.database)
        with pytest.raises(DatabaseError, match="read-only transaction"):
            roll_back_batch(project, BATCH, run="r")
    assert (site.dump(), site.states()) == (before, {"migrated": 2})
    assert site.execute("SELECT COUNT(*) FROM pp_photo WHERE error_type IS NOT NULL") == [(0,)]
    assert rolled_back(site).rolled_back == 2


def test_a_role_without_the_right_to_update_is_told_so_and_no_photo_is_blamed(make_site: MakeSite) -> None:
    site = make_site(photos=2, database="postgres")
    uploaded(site)
    site.execute("CREATE ROLE reader NOLOGIN")
    site.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO reader")
    site.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO reader")
    site.execute("REVOKE UPDATE ON item_photos FROM reader")
    set_for_new_sessions(site, "role", "reader")
    with pytest.raises(DatabaseError, match=r"permission denied.*Grant the role"):
        rewritten(site)
    assert site.states() == {"uploaded": 2}


def test_a_row_that_a_policy_forbids_costs_itself_only(make_site: MakeSite) -> None:
    site = make_site(photos=3, database="postgres")
    uploaded(site)
    site.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.alt = 'photo 1' THEN "
        "RAISE insufficient_privilege USING MESSAGE = 'violates row-level security policy'; END IF; "
        "RETURN NEW; END $$"
    )
    site.execute("CREATE TRIGGER t BEFORE UPDATE ON item_photos FOR EACH ROW EXECUTE FUNCTION refuse()")
    outcome = rewritten(site)
    assert (outcome.rewritten, outcome.failed) == (2, 1)


def meanwhile(work: Callable[[], Rewritten]) -> tuple[threading.Thread, list[Rewritten | BaseException]]:
    """Start `work` in a thread of its own; its result or exception will be in the list."""
    results: list[Rewritten | BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def wait_until_something_waits_for_a_lock(site: Site) -> None:
    query = (
        "SELECT COUNT(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    deadline = time.monotonic() + 20
    while site.execute(query) == [(0,)]:
        assert time.monotonic() < deadline, "nobody came to wait"


ROW = "UPDATE item_photos SET alt = alt || '!' WHERE id = :id"


def deadlocked(site: Site) -> Rewritten | BaseException:
    """Rewrite while the application locks the rows in the other order; return what became of the rewrite."""
    # Looked at once, so late after it began to wait: until then the application must wait as well.
    set_for_new_sessions(site, "deadlock_timeout", "1s")
    ((first, last),) = site.execute("SELECT min(id), max(id) FROM item_photos")
    engine = site.engine()
    with engine.begin() as application:
        application.execute(sa.text("SET deadlock_timeout = '60s'"))  # the other side is the victim
        application.execute(sa.text(ROW), {"id": last})
        thread, results = meanwhile(lambda: rewritten(site))
        wait_until_something_waits_for_a_lock(site)
        application.execute(sa.text(ROW), {"id": first})  # goes on when the other side has given up
    thread.join()
    engine.dispose()
    return results[0]


def test_a_deadlock_costs_neither_a_photo_nor_the_batch(make_site: MakeSite) -> None:
    site = make_site(photos=4, database="postgres")
    uploaded(site)
    outcome = deadlocked(site)
    assert isinstance(outcome, Rewritten), outcome
    assert (outcome.rewritten, outcome.not_ready, outcome.failed) == (4, 0, 0)
    assert site.states() == {"migrated": 4}
    assert sorted(alt for (alt,) in site.execute("SELECT alt FROM item_photos")) == [
        *("photo 0!", "photo 1", "photo 2", "photo 3!"),
    ]


def test_without_trying_again_the_deadlock_would_end_the_batch(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("photo_pipeline.core.catalog.database._ATTEMPTS", 1)
    site = make_site(photos=4, database="postgres")
    uploaded(site)
    outcome = deadlocked(site)
    assert isinstance(outcome, DatabaseBusyError)
    assert site.states() == {"uploaded": 4}
    assert rewritten(site).rewritten == 4


def test_serialization_failures_are_tried_again(make_site: MakeSite) -> None:
    site = make_site(photos=3, database="postgres", rewrite={"rows_per_transaction": 3})
    uploaded(site)
    set_for_new_sessions(site, "default_transaction_isolation", "repeatable read")
    last = site.execute("SELECT max(id) FROM item_photos")[0][0]
    engine = site.engine()
    with engine.begin() as application:
        application.execute(sa.text(ROW), {"id": last})
        thread, results = meanwhile(lambda: rewritten(site))
        wait_until_something_waits_for_a_lock(site)
    # The row that it waited for has changed since its snapshot.
    thread.join()
    engine.dispose()
    (outcome,) = results
    assert isinstance(outcome, Rewritten), outcome
    assert outcome.rewritten == 3


def test_one_that_is_always_in_the_way_ends_the_run_after_some_tries(make_site: MakeSite) -> None:
    site = make_site(photos=1, database="postgres")
    with site.project() as project:
        tries = []

        def collide(connection: sa.Connection) -> None:
            tries.append(1)
            connection.exec_driver_sql("DO $$ BEGIN RAISE serialization_failure; END $$")

        with pytest.raises(DatabaseBusyError, match="again and again"):
            project.database.transact(collide)
    assert 3 <= len(tries) <= 10


def limit_pages(database: Database, *, free: int) -> None:
    """A disk with room for so many pages more."""

    @event.listens_for(database.engine, "checkout")
    def limit(connection: sqlite3.Connection, *_: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        if not hasattr(limit, "most"):
            limit.most = pages + free
        connection.execute(f"PRAGMA max_page_count = {limit.most}")


@pytest.mark.parametrize("free", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4))])
def test_a_full_disk_stops_cleanly_wherever_it_is_noticed(make_site: MakeSite, free: int) -> None:
    # Long values, so that a rewritten row and its ledger entry need pages of their own.
    site = make_site(photos=12, rewrite={"rows_per_transaction": 4})
    site.execute("UPDATE item_photos SET alt = alt || :more", more="x" * 3000)
    uploaded(site)
    with site.project() as project, BatchLease(project.database, BATCH, run="r") as lease:
        limit_pages(project.database, free=free)
        with pytest.raises(DatabaseError, match=r"full.*Make room"):
            rewrite_batch(project.database, project.config, lease, project.store, project.cdn)
    states = site.states()
    assert set(states) <= {"uploaded", "migrated"}
    assert site.execute("PRAGMA integrity_check") == [("ok",)]
    applied = site.execute("SELECT COUNT(*) FROM pp_rewrite WHERE outcome = 'applied'")[0][0]
    shown = site.execute("SELECT COUNT(*) FROM item_photos WHERE original_url LIKE 'http%'")[0][0]
    assert shown == states.get("migrated", 0)
    assert (applied == 0) == (shown == 0)
    assert rewritten(site).failed == 0
    assert site.states() == {"migrated": 12}


def test_a_file_that_became_read_only_stops_cleanly(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    uploaded(site)
    with site.project() as project, BatchLease(project.database, BATCH, run="r") as lease:
        refusing = event.listens_for(project.database.engine, "checkout")(
            lambda connection, *_: connection.execute("PRAGMA query_only = ON")
        )
        with pytest.raises(DatabaseError, match="readonly database"):
            rewrite_batch(project.database, project.config, lease, project.store, project.cdn)
        event.remove(project.database.engine, "checkout", refusing)
        project.database.engine.dispose()
    assert site.states() == {"uploaded": 2}
    assert rewritten(site).rewritten == 2


def test_an_error_at_the_commit_is_one_clear_sentence(make_site: MakeSite) -> None:
    site = make_site(photos=2, database="postgres")
    site.execute("CREATE TABLE parent (url TEXT PRIMARY KEY)")
    site.execute("INSERT INTO parent SELECT original_url FROM item_photos")
    site.execute(
        "ALTER TABLE item_photos ADD FOREIGN KEY (original_url) REFERENCES parent INITIALLY DEFERRED"
    )
    uploaded(site)
    before = site.dump()
    with pytest.raises(DatabaseError, match="foreign key"):
        rewritten(site)
    assert (site.dump(), site.states()) == (before, {"uploaded": 2})


def test_a_trigger_that_keeps_a_photo_from_moving_on_stops_the_run_and_changes_no_row(
    make_site: MakeSite,
) -> None:
    """A row that shows the store beside a photo that counts as not migrated would be rewritten again."""
    site = make_site(photos=2)
    uploaded(site)
    site.execute(
        "CREATE TRIGGER keep BEFORE UPDATE OF state ON pp_photo WHEN NEW.state = 'migrated' AND NEW.id = 2 "
        "BEGIN SELECT RAISE(IGNORE); END"
    )
    before = site.dump()
    with pytest.raises(DatabaseError, match=r"pp_photo, row 2: .*trigger.*Remove what was added"):
        rewritten(site)
    assert (site.dump(), site.states()) == (before, {"uploaded": 2})
    site.execute("DROP TRIGGER keep")
    assert rewritten(site).rewritten == 2


def test_the_first_change_of_a_file_that_another_program_is_writing_waits_for_it(make_site: MakeSite) -> None:
    """SQLite refuses to change the journal at that moment, without waiting; the next change does it."""
    site = make_site(photos=0, rows=[])
    with site.project() as project:
        database = project.database
        database.close()
        site.execute("PRAGMA journal_mode = DELETE")
        other = sqlite3.connect(site.home / "app.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        def end_the_other(_c: object, _cursor: object, statement: str, *_: object) -> None:
            if statement == "BEGIN IMMEDIATE" and other.in_transaction:
                other.execute("COMMIT")

        event.listen(database.engine, "before_cursor_execute", end_the_other)
        modes = []
        for _ in range(2):
            with database.write() as connection:
                modes.append(connection.exec_driver_sql("PRAGMA journal_mode").scalar())
        other.close()
    assert modes == ["delete", "wal"]
