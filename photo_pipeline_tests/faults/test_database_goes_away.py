"""The database goes away in the middle of the work: a clean stop with a reason, nothing broken, and on again.

PostgreSQL is a real server whose connections, backends and postmaster are ended; disks are filled up, by
SQLite's own limit and as real file systems. Refusals and locks, where the database stays: see
`core/migration/test_database_faults.py`.
"""

import os
import random
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.errors import DatabaseError, InfrastructureError
from photo_pipeline.core.migration.chunk_rewrite import ChunkRewriter
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import again, rewritten, rolled_back, uploaded
from photo_pipeline_tests.faults.aftermath import assert_log_is_unbroken, assert_no_row_is_half_written
from photo_pipeline_tests.faults.scene import MakeScene, Scene
from photo_pipeline_tests.faults.test_storage_faults import SEED, tiny_photos
from photo_pipeline_tests.postgres import PostgresServer
from photo_pipeline_tests.sites import Site

PHOTOS = 6
BATCH = "batch-000001"


def ready_site(make_site: MakeSite, database: str) -> Site:
    """A site with everything done but the rewrite, one row per transaction."""
    site = make_site(photos=0, rows=[], database=database, rewrite={"rows_per_transaction": 1})
    tiny_photos(site, PHOTOS)
    uploaded(site)
    return site


def at_third_row(monkeypatch: pytest.MonkeyPatch, fail: Callable[[sa.Connection], Any]) -> None:
    """Let it happen inside the third row's transaction, before that row is touched; once."""
    rewrite, seen = ChunkRewriter.rewrite, [0]

    def failing(self: ChunkRewriter, connection: sa.Connection, *args: Any, **options: Any) -> Any:
        seen[0] += 1
        if seen[0] == 3:
            fail(connection)
        return rewrite(self, connection, *args, **options)

    monkeypatch.setattr(ChunkRewriter, "rewrite", failing)


def assert_stopped_cleanly(site: Site, *, done: int) -> None:
    """What was committed stands whole, the rest is untouched, and no photo is blamed."""
    assert Counter(site.states()) == Counter(migrated=done, uploaded=PHOTOS - done)
    urls = [row.original_url for row in site.execute("SELECT original_url FROM item_photos")]
    assert sum(url.startswith("http://127.0.0.1") for url in urls) == done
    applied = "SELECT COUNT(*) FROM pp_rewrite WHERE outcome = 'applied' AND photo_id IS NOT NULL"
    assert site.execute(applied) == [(done,)]
    assert site.execute("SELECT COUNT(*) FROM pp_rewrite WHERE outcome <> 'applied'") == [(0,)]


def assert_carries_on(site: Site, before: list[str]) -> None:
    again(site, BATCH)
    assert site.states() == {"migrated": PHOTOS}
    rolled_back(site)
    assert site.dump() == before


def terminate_backend(site: Site) -> Callable[[sa.Connection], None]:
    def end(connection: sa.Connection) -> None:
        pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        site.execute("SELECT pg_terminate_backend(:pid)", pid=pid)

    return end


def cut_connection(_site: Site) -> Callable[[sa.Connection], None]:
    def cut(connection: sa.Connection) -> None:
        # The socket itself, as a cable does: neither side says goodbye.
        os.close(connection.connection.dbapi_connection.fileno())  # type: ignore[union-attr]

    return cut


@pytest.mark.parametrize("fault", [terminate_backend, cut_connection])
def test_a_lost_connection_stops_the_batch_and_the_next_run_carries_on(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    site = ready_site(make_site, "postgres")
    before = site.dump()
    with monkeypatch.context() as patched:
        at_third_row(patched, fault(site))
        with pytest.raises(DatabaseError, match="run again") as stop:
            rewritten(site)
    assert stop.value.exit_code == 4
    assert_stopped_cleanly(site, done=2)
    assert_carries_on(site, before)


# --- the whole server


@pytest.fixture
def mortal() -> Iterator[PostgresServer]:
    """A server of this test's own, which syncs its disk as in production."""
    server = PostgresServer.start(durable=True)
    yield server
    server.start_again()
    server.stop()


def test_a_postmaster_killed_in_the_middle_stops_the_batch_and_after_its_restart_the_next_run_carries_on(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, mortal: PostgresServer
) -> None:
    site = ready_site(make_site, mortal.new_database())
    before = site.dump()
    with monkeypatch.context() as patched:
        at_third_row(patched, lambda _connection: mortal.kill_postmaster())
        with pytest.raises(DatabaseError, match="run again") as stop:
            rewritten(site)
    assert stop.value.exit_code == 4
    with pytest.raises(DatabaseError, match="does not answer") as still_down:
        rewritten(site)
    assert still_down.value.exit_code == 4
    mortal.start_again()
    assert_stopped_cleanly(site, done=2)
    assert_carries_on(site, before)


MOST_KILLS = 6  # of one operation on one site, after which it may live


def struck_until_done(scene: Scene, operation: str, server: PostgresServer, moments: Iterator[float]) -> int:
    """Do the operation while its postmaster is killed at those moments; return how often it was."""
    for kills in range(MOST_KILLS):
        ended = scene.run(
            operation, strike_after_s=next(moments), strike=lambda _pid: server.kill_postmaster()
        )
        if not ended.was_struck:
            assert ended.code == 0, scene.tail()
            return kills
        server.start_again()
        assert ended.code in (0, 4), scene.tail()
        scene.look()
    assert scene.run(operation).code == 0, scene.tail()
    return MOST_KILLS


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_postmaster_killed_at_random_moments_stops_the_command_with_exit_code_4_each_time(
    make_scene: MakeScene, mortal: PostgresServer
) -> None:
    drawn, kills = random.Random(SEED), Counter[str]()
    seconds: dict[str, float] = {}
    for number in range(5):
        scene = make_scene(database=mortal.new_database(), photos=6, batch_size=2)
        for operation in ("command_migrate", "command_rollback"):
            if number < 2:  # the first warms up, the second says how long it takes
                started = time.monotonic()
                assert scene.run(operation).code == 0, scene.tail()
                seconds[operation] = time.monotonic() - started
                continue
            moments = (drawn.uniform(0, seconds[operation]) for _ in range(MOST_KILLS))
            kills[operation] += struck_until_done(scene, operation, mortal, moments)
        assert scene.site.dump() == scene.before
        assert_log_is_unbroken(scene.site)
    print(f"\n{kills.total()} kills of a postmaster: {dict(kills)}")
    assert kills.total() >= 10


def test_a_read_only_postgresql_stops_the_batch_and_blames_no_photo(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = ready_site(make_site, "postgres")
    before = site.dump()
    with monkeypatch.context() as patched:
        at_third_row(patched, lambda connection: connection.execute(sa.text("SET TRANSACTION READ ONLY")))
        with pytest.raises(DatabaseError, match="read-only") as stop:
            rewritten(site)
    assert stop.value.exit_code == 4
    assert_stopped_cleanly(site, done=2)
    assert_carries_on(site, before)


# --- SQLite


def file_of(site: Site) -> Path:
    return Path(site.url.removeprefix("sqlite:///"))


def assert_sound(site: Site) -> None:
    with sqlite3.connect(file_of(site)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def fill_up(connection: sa.Connection) -> None:
    """Let the database have not one page more, and use up what is free in it."""
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    connection.exec_driver_sql("CREATE TABLE filler (bytes BLOB)")
    connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(1000000))")


@pytest.mark.parametrize(("fault", "said"), [(fill_up, "full")])
def test_a_full_sqlite_stops_the_batch_and_the_next_run_carries_on(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, fault: Any, said: str
) -> None:
    site = ready_site(make_site, "sqlite")
    before = site.dump()
    with monkeypatch.context() as patched:
        at_third_row(patched, fault)
        with pytest.raises(DatabaseError, match=said):
            rewritten(site)
    assert_sound(site)
    assert_stopped_cleanly(site, done=2)
    assert_carries_on(site, before)
    assert_sound(site)


# --- a real file system that is full


def use_up(site: Site, *, most: int) -> None:
    """Go there and back until the space is used up, where there was some."""
    for _ in range(most):
        rewritten(site)
        rolled_back(site)


@contextmanager
def small_disk(place: Path, *, size: str) -> Iterator[Path]:
    """A file system of its own at that place; the test is skipped where nobody may mount one."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def filled(disk: Path, *, leaving: int) -> Path:
    """Fill the disk up but for so many bytes; return the file that does it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(4096))
    os.truncate(filler, max(0, filler.stat().st_size - leaving))
    return filler


@pytest.mark.parametrize(
    "free_kb", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (16, 48, 96, 160))]
)
def test_a_file_system_that_fills_up_under_sqlite_stops_the_batch_wherever_it_is_noticed(
    make_site: MakeSite, tmp_path: Path, free_kb: int
) -> None:
    with small_disk(tmp_path / "disk", size="4m") as disk:
        (disk / "app.db").touch()
        site = ready_site(make_site, f"sqlite:///{disk / 'app.db'}")
        before = site.dump()
        filler = filled(disk, leaving=free_kb * 1024)
        with pytest.raises(DatabaseError) as stop:
            use_up(site, most=100)
        assert stop.value.exit_code == 4
        filler.unlink()
        assert_sound(site)
        assert_no_row_is_half_written(site)
        if free_kb == 0:
            assert_stopped_cleanly(site, done=0)
        rolled_back(site)
        assert site.dump() == before
        assert_carries_on(site, before)
        assert_sound(site)


@pytest.mark.slow
def test_a_file_system_without_room_for_the_backup_lets_no_row_be_rewritten(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = ready_site(make_site, "sqlite")
    before = site.dump()
    with small_disk(tmp_path / "backups", size="1m") as disk:
        filler = filled(disk, leaving=0)
        with pytest.raises(InfrastructureError, match="Make room") as stop:
            rewritten(site)
        assert stop.value.exit_code == 4
        assert_stopped_cleanly(site, done=0)
        filler.unlink()
        assert_carries_on(site, before)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_file_system_that_fills_up_under_postgresql_stops_the_batch(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pp-pg-", dir="/tmp"))
    with small_disk(folder, size="140m") as disk:
        server = PostgresServer(disk / "data", durable=True)
        try:
            site = ready_site(make_site, server.new_database())
            before = site.dump()
            fillers: list[Path] = []
            with monkeypatch.context() as patched:
                at_third_row(patched, lambda _connection: fillers.append(filled(disk, leaving=0)))
                with pytest.raises(DatabaseError) as stop:
                    use_up(site, most=2000)  # the write-ahead log has room in its segment for a while
            assert stop.value.exit_code == 4
            fillers[0].unlink()
            server.start_again()
            assert_no_row_is_half_written(site)
            rolled_back(site)
            assert_carries_on(site, before)
        finally:
            server.stop()


def test_without_transactions_a_full_disk_is_found_out(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: where the defence (one transaction for row and ledger) is gone, the check says so."""
    site = ready_site(make_site, "sqlite")
    write = Database.write

    def commits_at_once(connection: sa.Connection) -> None:
        connection.exec_driver_sql("UPDATE item_photos SET original_url = 'http://127.0.0.1/half'")
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        fill_up(connection)

    with monkeypatch.context() as patched:
        at_third_row(patched, commits_at_once)
        with pytest.raises(DatabaseError):
            rewritten(site)
    assert Database.write is write
    with pytest.raises(AssertionError):
        assert_stopped_cleanly(site, done=2)
