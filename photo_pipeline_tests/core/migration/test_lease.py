"""One run at a time per batch, proven with real processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import ScanFence
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import BatchState, utc_now
from photo_pipeline.core.errors import (
    ConfigurationError,
    DatabaseError,
    GuardRefusedError,
    LeaseLostError,
    PausedError,
    StoreError,
)
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.state import batch_statuses, migration_row, working_on
from photo_pipeline_tests.core.catalog.small_site import small_site
from photo_pipeline_tests.sites import Site

HOLDER = """
import sys
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.migration.lease import BatchLease
with BatchLease(Database.open(sys.argv[1]), "batch-000001", run="other"):
    print("holding", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(params=["sqlite", "postgres"])
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site with one batch."""
    server = request.getfixturevalue("postgres") if request.param == "postgres" else None
    home = request.getfixturevalue("tmp_path")
    site = small_site(home, url=server.new_database() if server else None)
    monkeypatch.setenv("APP_DATABASE_URL", site.url)
    with site.project() as project:
        ensure_schema(project.database)
    now = utc_now().isoformat(sep=" ")
    site.execute(
        "INSERT INTO pp_batch (key, state, priority, photos, lease_token, created_at, updated_at) "
        "VALUES ('batch-000001', 'pending', 1, 1, 0, :now, :now)",
        now=now,
    )
    return site


@contextmanager
def another_run(site: Site) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the lease until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, site.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "holding\n"
        yield process
    finally:
        process.communicate()


def test_a_second_run_is_refused_while_the_first_lives(site: Site) -> None:
    with site.project() as project:
        with another_run(site), pytest.raises(GuardRefusedError, match=r"batch-000001: .*other"):
            BatchLease(project.database, "batch-000001", run="mine").__enter__()
        with BatchLease(project.database, "batch-000001", run="mine") as lease:
            assert lease.run == "mine"


def test_the_batch_of_a_killed_process_is_taken_over_at_once(site: Site) -> None:
    with another_run(site) as process, site.project() as project:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with BatchLease(project.database, "batch-000001", run="mine"):
            ((owner,),) = site.execute("SELECT lease_owner FROM pp_batch")
    assert owner.endswith("/mine")


@contextmanager
def _away(_database: Database, **_options: object) -> Iterator[Connection]:
    raise DatabaseError("the database", cause="it is away", fix="run again")
    yield


def _fail_while_the_database_goes_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, BatchLease(database, "batch-000001", run="one"):
        patched.setattr(Database, "write", _away)
        raise StoreError("the store", cause="what really happened", fix="run again")


def test_a_lease_that_could_not_be_given_back_keeps_nobody_of_its_process_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.project() as project:
        with pytest.raises(StoreError, match="what really happened"):
            _fail_while_the_database_goes_away(project.database, monkeypatch)
        with BatchLease(project.database, "batch-000001", run="two") as lease:
            assert lease.run == "two"


def test_a_run_on_another_machine_counts_as_living_until_its_lease_expires(site: Site) -> None:
    site.execute(
        "UPDATE pp_batch SET lease_owner = 'elsewhere/1/r', lease_expires_at = '2999-01-01 00:00:00.000000'"
    )
    with site.project() as project:
        with pytest.raises(GuardRefusedError):
            BatchLease(project.database, "batch-000001", run="mine").__enter__()
        site.execute("UPDATE pp_batch SET lease_expires_at = '2020-01-01 00:00:00.000000'")
        with BatchLease(project.database, "batch-000001", run="mine"):
            pass
    assert site.execute("SELECT lease_owner, lease_token FROM pp_batch") == [(None, 1)]


@pytest.mark.parametrize(
    ("doing", "left"), [(BatchState.RUNNING, "paused"), (BatchState.ROLLING_BACK, "rolling_back")]
)
def test_a_pause_leaves_the_batch_paused_and_a_rollback_to_be_finished(
    site: Site, doing: BatchState, left: str
) -> None:
    with site.project() as project:
        ScanFence.begin(project.database)
        with BatchLease(project.database, "batch-000001", run="mine") as lease:
            stop = PausedError("the migration", cause="anna paused it", fix="run `photo-pipeline resume`")
            with pytest.raises(PausedError), working_on(project.database, lease, doing):
                raise stop
        (status,) = batch_statuses(project.database)
        row = migration_row(project.database)
    assert (status.state, status.error) == (left, str(stop))
    assert row is not None
    assert row.status == left


def taken_over(site: Site) -> None:
    """Do what another run's takeover does to the row."""
    site.execute("UPDATE pp_batch SET lease_token = lease_token + 1, lease_owner = 'elsewhere/1/r'")


def test_a_stale_owners_write_is_refused_and_undone(site: Site) -> None:
    with site.project() as project, BatchLease(project.database, "batch-000001", run="stale") as lease:
        taken_over(site)

        def write() -> None:
            with project.database.write() as connection:
                connection.exec_driver_sql("UPDATE pp_batch SET photos = 99")
                lease.hold(connection)

        with pytest.raises(LeaseLostError):
            write()
        with pytest.raises(LeaseLostError), working_on(project.database, lease, BatchState.RUNNING):
            raise AssertionError("a stale run must not start")
    # Nor does the stale owner give back what is another's.
    assert site.execute("SELECT photos, state, lease_owner FROM pp_batch") == [
        (1, "pending", "elsewhere/1/r")
    ]


def test_holding_renews_the_lease(site: Site) -> None:
    with site.project() as project, BatchLease(project.database, "batch-000001", run="mine") as lease:
        site.execute("UPDATE pp_batch SET lease_expires_at = '2020-01-01 00:00:00.000000'")
        with project.database.write() as connection:
            lease.hold(connection)
        ((expires,),) = site.execute("SELECT lease_expires_at FROM pp_batch")
        assert str(expires) > str(utc_now())[:19]


def test_each_owner_has_a_higher_token(site: Site) -> None:
    with site.project() as project:
        for token in (1, 2, 3):
            with BatchLease(project.database, "batch-000001", run="mine"):
                assert site.execute("SELECT lease_token FROM pp_batch") == [(token,)]


def test_a_batch_that_does_not_exist_is_named(site: Site) -> None:
    with site.project() as project, pytest.raises(ConfigurationError, match="batch-000009"):
        BatchLease(project.database, "batch-000009", run="mine").__enter__()
