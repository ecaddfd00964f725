"""The ledger against the servers' own logs: what was sent is what was counted, whatever went wrong."""

import json
import multiprocessing
import signal
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.lenient import LenientMeter
from photo_pipeline.core.cost.meter import BLOCKS, Meter
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.errors import DatabaseError, DeliveryError, PhotoChangedError, StoreError
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.copying import move_object
from photo_pipeline.core.storage.files import download_file, upload_file
from photo_pipeline.core.storage.listing import list_objects, list_versions
from photo_pipeline.core.storage.multipart import put_parts
from photo_pipeline.core.storage.probe import ask_store
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.cost.conftest import OpenDatabase
from photo_pipeline_tests.core.migration.quick import quick_workers
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.fault_proxy import Fault, FaultProxy
from photo_pipeline_tests.sockets import free_port

JPEG = "image/jpeg"
# obstore does not survive a fork.
CONTEXT = multiprocessing.get_context("spawn")
REQUESTS = (Unit.PUTS, Unit.GETS, Unit.DELETES, Unit.CDN_REQUESTS)


def settings(url: str, prefix: str = "meter/photos") -> StoreSettings:
    return StoreSettings(
        bucket="test-photos", region="us-east-1", endpoint_url=url, prefix=prefix, encryption=None
    )


def counted(database: Database) -> dict[Unit, int]:
    with database.read() as connection:
        months = ledger.used_by_month(connection).values()
    total: Counter[Unit] = Counter()
    for amounts in months:
        total.update(amounts)
    return {unit: amount for unit, amount in total.items() if amount}


def requests(amounts: dict[Unit, int]) -> dict[Unit, int]:
    return {unit: amounts[unit] for unit in REQUESTS if amounts.get(unit)}


def billed(method: str, path: str) -> Unit:
    """What S3 charges a request as, seen from its own side: a GET of the bucket itself is a listing."""
    if method == "DELETE":
        return Unit.DELETES
    is_list = method == "GET" and urllib.parse.urlsplit(path).path.strip("/") == "test-photos"
    return Unit.GETS if method in ("GET", "HEAD") and not is_list else Unit.PUTS


@contextmanager
def logged(log: Path) -> Iterator[Counter[Unit]]:
    """What the S3 server logs while the body runs."""
    before = len(log.read_text(encoding="utf-8").splitlines())
    seen: Counter[Unit] = Counter()
    yield seen
    for line in log.read_text(encoding="utf-8").splitlines()[before:]:
        entry = json.loads(line)
        seen[billed(entry["method"], entry["path"])] += 1


def use(store: PhotoStore, prefix: str, objects: int) -> None:
    """Every kind of request that there is."""
    for number in range(objects):
        store.put_new(f"{prefix}/{number}", b"x" * 100, content_type=JPEG)
        store.put_new(f"{prefix}/{number}", b"x" * 100, content_type=JPEG)  # refused: charged all the same
        store.head(f"{prefix}/{number}")
    store.head(f"{prefix}/none")
    assert store.read(f"{prefix}/0", size=100) == b"x" * 100
    assert store.read(f"{prefix}/none") is None
    assert len(list(store.list(f"{prefix}/"))) == objects
    store.delete(f"{prefix}/0")
    assert store.is_answering()


@MOSTLY_SQLITE
def test_every_request_to_the_store_is_counted_by_its_class(
    database: str,
    new_database: OpenDatabase,
    servers: RunningServers,
    s3_access_log: Path,
    aws_environment: None,
) -> None:
    opened = new_database(database)
    with logged(s3_access_log) as seen, closing(Meter(opened)) as meter:
        use(PhotoStore.open(settings(servers.s3_url), meter=meter), f"meter/{database}/a", 20)
    found = counted(opened)
    assert requests(found) == seen
    assert seen == {Unit.PUTS: 41, Unit.GETS: 25, Unit.DELETES: 1}
    assert found[Unit.BYTES_IN] == 40 * 100
    assert found[Unit.BYTES_OUT] == 100


@pytest.mark.usefixtures("quick_tries")
def test_each_retry_is_counted_also_one_whose_answer_is_lost(
    new_database: OpenDatabase, servers: RunningServers, aws_environment: None
) -> None:
    opened, faults = new_database(), (Fault.SLOW_DOWN, Fault.LOSE_ANSWER, Fault.RESET, Fault.ERROR_500)
    with FaultProxy(
        servers.s3_url, rule=lambda _method, _path, earlier: faults[earlier] if earlier < 4 else None
    ) as proxy:
        with closing(Meter(opened)) as meter:
            store = PhotoStore.open(settings(proxy.url), meter=meter)
            assert store.head("meter/retries/none") is None
            store.put_new("meter/retries/1", b"x", content_type=JPEG)
            assert store.read("meter/retries/1", size=1) == b"x"
        seen = Counter(billed(each.method, each.path) for each in proxy.exchanges)
    assert requests(counted(opened)) == seen
    assert min(seen.values()) >= 5


def test_what_is_never_answered_is_counted(new_database: OpenDatabase, aws_environment: None) -> None:
    opened = new_database()
    with closing(Meter(opened)) as meter, pytest.raises(StoreError):
        PhotoStore.open(settings(f"http://127.0.0.1:{free_port()}"), meter=meter)
    assert requests(counted(opened)) == {Unit.GETS: 1}


def test_requests_to_the_cdn_are_counted_with_their_retries(
    new_database: OpenDatabase, servers: RunningServers
) -> None:
    opened = new_database()
    with FaultProxy(
        servers.cdn_url, rule=lambda _method, _path, earlier: Fault.ERROR_500 if earlier < 2 else None
    ) as proxy:
        with closing(Meter(opened)) as meter, closing(Cdn(proxy.url, meter=meter)) as cdn:
            answer = cdn.fetch(f"{proxy.url}/nothing-here")
        assert len(proxy.exchanges) == 3
    found = counted(opened)
    assert found[Unit.CDN_REQUESTS] == 3
    assert found.get(Unit.CDN_BYTES_OUT, 0) == len(answer.body)
    with (
        closing(Meter(opened)) as meter,
        closing(Cdn("http://127.0.0.1:9", meter=meter)) as cdn,
        pytest.raises(DeliveryError),
    ):
        cdn.fetch("http://127.0.0.1:9/x")
    assert counted(opened)[Unit.CDN_REQUESTS] == 6


def test_the_storage_library_is_counted_as_well(
    tmp_path: Path,
    new_database: OpenDatabase,
    servers: RunningServers,
    s3_access_log: Path,
    aws_environment: None,
) -> None:
    """Multipart uploads, downloads, copies, listings of versions and conditional deletes."""
    opened, file = new_database(), tmp_path / "large"
    file.write_bytes(b"x" * 6_000_000)
    with logged(s3_access_log) as seen, closing(Meter(opened)) as meter:
        store = PhotoStore.open(settings(servers.s3_url), meter=meter)
        probe = ask_store(store)
        with file.open("rb") as opened_file:
            sent = put_parts(
                store,
                "meter/library/parts",
                opened_file,
                sha256=sha256_hex(file.read_bytes()),
                content_type=JPEG,
                part_bytes=5 * 1024**2,
            )
        assert sent.created
        upload_file(store, file, "meter/library/whole", probe=probe)
        download_file(store, "meter/library/whole", tmp_path / "back")
        moved = move_object(store, "meter/library/whole", "meter/library/moved", probe=probe)
        assert moved.copied.created
        assert len(list(list_objects(store, "meter/library/"))) == 2
        assert list(list_versions(store, "meter/library/"))
    found = counted(opened)
    assert requests(found) == seen
    # The probe's 3; 2 parts with their beginning and end; the file; the copy; a listing of each kind.
    assert seen[Unit.PUTS] >= 3 + 4 + 1 + 1 + 2
    assert 2 * 6_000_000 <= found[Unit.BYTES_IN] < 2 * 6_000_000 + 10_000
    assert found[Unit.BYTES_OUT] >= 6_000_000


def test_what_fails_while_it_is_sent_in_parts_is_counted_too(
    tmp_path: Path, new_database: OpenDatabase, servers: RunningServers, aws_environment: None
) -> None:
    opened, file = new_database(), tmp_path / "large"
    file.write_bytes(b"x" * 6_000_000)

    def rule(method: str, _path: str, earlier: int) -> Fault | None:
        return Fault.ERROR_500 if method == "PUT" and earlier in (1, 2) else None

    with FaultProxy(servers.s3_url, rule=rule) as proxy:
        with closing(Meter(opened)) as meter, file.open("rb") as opened_file:
            store = PhotoStore.open(settings(proxy.url), meter=meter)
            with pytest.raises(PhotoChangedError):
                put_parts(
                    store,
                    "meter/library/changed",
                    opened_file,
                    sha256="0" * 64,
                    content_type=JPEG,
                    part_bytes=5 * 1024**2,
                )
        seen = Counter(billed(each.method, each.path) for each in proxy.exchanges)
    assert requests(counted(opened)) == seen
    # Begun, two parts, the second one at three tries; then aborted, free of charge.
    assert seen == {Unit.PUTS: 5, Unit.GETS: 2, Unit.DELETES: 1}


def test_the_doctors_requests_are_counted_where_that_is_possible(
    new_url: Callable[[str], str], servers: RunningServers, s3_access_log: Path, aws_environment: None
) -> None:
    url = new_url("sqlite")
    with logged(s3_access_log) as seen, closing(LenientMeter(lambda: Database.open(url))) as meter:
        PhotoStore.open(settings(servers.s3_url), meter=meter).head("meter/none")
    with closing(Database.open(url)) as opened:
        assert requests(counted(opened)) == seen == {Unit.GETS: 2}

    def refuse() -> Database:
        raise DatabaseError("the database", cause="it is away", fix="wait")

    with logged(s3_access_log) as seen, closing(LenientMeter(refuse)) as meter:
        PhotoStore.open(settings(servers.s3_url), meter=meter).head("meter/none")
    assert seen == {Unit.GETS: 2}


def test_a_whole_migration_is_counted_as_the_server_saw_it(
    make_site: MakeSite, s3_access_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Project, "workers", lambda _: quick_workers())
    site = make_site(photos=6)
    with logged(s3_access_log) as seen:
        site.migrate()
    with site.project() as project:
        found = requests(counted(project.database))
    sent = {unit: found[unit] for unit in found if unit is not Unit.CDN_REQUESTS}
    # The CDN's own reads of its origin are not ours.
    assert sent[Unit.PUTS] == seen[Unit.PUTS] >= 6 * 7
    assert found[Unit.CDN_REQUESTS] > 0


def _count_until_killed(url: str, s3_url: str, prefix: str, ready: Connection) -> None:
    with closing(Database.open(url)) as database:
        store = PhotoStore.open(settings(s3_url), meter=Meter(database))
        for number in range(100_000):
            store.put_new(f"{prefix}/{number}", b"x", content_type=JPEG)
            store.head(f"{prefix}/{number}")
            if number == 5:
                ready.send(number)


@pytest.mark.slow  # each of its processes imports everything; `test_kills` has others, forked
@DATABASES
def test_a_killed_process_has_counted_at_most_one_block_too_many_and_never_too_few(
    database: str,
    new_url: Callable[[str], str],
    servers: RunningServers,
    s3_access_log: Path,
    aws_environment: None,
) -> None:
    url = new_url(database)
    processes = 2
    with logged(s3_access_log) as seen:
        for number in range(processes):
            heard, ready = CONTEXT.Pipe(duplex=False)
            arguments = (url, servers.s3_url, f"meter/killed-{database}/{number}", ready)
            process = CONTEXT.Process(target=_count_until_killed, args=arguments)
            process.start()
            assert heard.poll(60)
            process.kill()
            process.join()
    with closing(Database.open(url)) as opened:
        found = counted(opened)
    assert process.exitcode == -signal.SIGKILL
    for unit in (Unit.PUTS, Unit.GETS):
        # One more may be on its way to the log.
        assert seen[unit] <= found[unit] <= seen[unit] + processes * (BLOCKS[unit] + 1)


def test_without_counting_ahead_a_killed_process_would_have_counted_too_few(
    monkeypatch: pytest.MonkeyPatch, new_database: OpenDatabase
) -> None:
    """The control of the test above: what is counted afterwards, in memory, dies with the process."""
    opened = new_database()
    meter = Meter(opened)
    meter.count(Unit.PUTS)
    monkeypatch.setattr(meter, "_is_written", lambda: False)
    for _ in range(BLOCKS[Unit.PUTS]):
        meter.count(Unit.PUTS)
    assert counted(opened)[Unit.PUTS] < BLOCKS[Unit.PUTS] + 1


def test_who_needs_little_counts_little_ahead_and_nobody_more_than_a_block(
    new_database: OpenDatabase,
) -> None:
    opened = new_database()
    meter = Meter(opened)
    ahead: list[int] = []
    for number in range(1, 200):
        meter.count(Unit.PUTS)
        ahead.append(counted(opened)[Unit.PUTS] - number)
    assert ahead[0] == 0
    assert max(ahead[:10]) <= 10
    assert BLOCKS[Unit.PUTS] // 2 < max(ahead) <= BLOCKS[Unit.PUTS]


def test_what_is_counted_before_there_are_state_tables_is_written_with_the_next_count(
    tmp_path: Path,
) -> None:
    from photo_pipeline.core.catalog.schema import ensure_schema

    (tmp_path / "app.db").touch()
    with closing(Database.open(f"sqlite:///{tmp_path / 'app.db'}")) as opened:
        meter = Meter(opened)
        meter.count(Unit.GETS)
        ensure_schema(opened)
        meter.count(Unit.PUTS, 2)
        meter.close()
        assert counted(opened) == {Unit.GETS: 1, Unit.PUTS: 2}


def test_each_request_counts_for_the_month_it_is_sent_in(new_database: OpenDatabase) -> None:
    now = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
    opened = new_database()
    meter = Meter(opened, clock=lambda: now)
    meter.count(Unit.PUTS, 3)
    now = datetime(2026, 12, 1, tzinfo=UTC)
    meter.count(Unit.PUTS, 2)
    meter.close()
    with opened.read() as connection:
        assert ledger.used_in(connection, "2026-11") == {Unit.PUTS: 3}
        assert ledger.used_in(connection, "2026-12") == {Unit.PUTS: 2}
    assert month_of(now) == "2026-12"


def test_nothing_is_sent_that_could_not_be_written_down(
    tmp_path: Path,
    new_database: OpenDatabase,
    servers: RunningServers,
    s3_access_log: Path,
    aws_environment: None,
) -> None:
    opened = new_database()
    store = PhotoStore.open(settings(servers.s3_url), meter=Meter(opened))
    with opened.write() as connection:
        connection.exec_driver_sql("DROP TABLE pp_usage")
    with logged(s3_access_log) as seen, pytest.raises(DatabaseError):
        store.put_new("meter/unwritten", b"x", content_type=JPEG)
    assert seen == {}


def test_a_forked_process_does_not_use_up_what_its_parent_has_counted_ahead(
    new_database: OpenDatabase,
) -> None:
    opened = new_database()
    meter = Meter(opened)
    for _ in range(5):
        meter.count(Unit.PUTS)
    held = counted(opened)
    assert held[Unit.PUTS] > 5
    process = multiprocessing.get_context("fork").Process(target=meter.close)
    process.start()
    process.join()
    # The child gave nothing back that is not its own.
    assert process.exitcode == 0
    assert counted(opened) == held
    meter.close()
    assert counted(opened) == {Unit.PUTS: 5}
