"""Uploads where a few listings stand for the looks before and after each PUT, on `rclone serve s3`."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from photo_pipeline.core.errors import PausedError, StoreError
from photo_pipeline.core.migration import flight, one_object, upload
from photo_pipeline.core.migration.control import pause, resume
from photo_pipeline.core.migration.flight import Flight
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.one_object import Bringer, Brought, Proofs
from photo_pipeline.core.migration.process import process_batch
from photo_pipeline.core.migration.upload import Uploaded, upload_batch
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage import many
from photo_pipeline.core.storage.checksum import md5_hex, sha256_hex
from photo_pipeline.core.storage.probe import probe_store
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY, MakeSite
from photo_pipeline_tests.core.migration.quick import quick_workers, rewritten, uploaded
from photo_pipeline_tests.core.migration.test_keys_of_the_application import (
    replaced_after_its_upload,
    site_with,
    states,
    stored,
)
from photo_pipeline_tests.fault_proxy import Fault, FaultProxy
from photo_pipeline_tests.rclone_server import RcloneServer
from photo_pipeline_tests.sites import Site

BATCH = "batch-000001"
OBJECTS = 3 * 7


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneServer]:
    server = RcloneServer.start(
        tmp_path_factory.mktemp("rclone"), bucket="second", access_key=ACCESS_KEY, secret_key=SECRET_KEY
    )
    yield server
    server.stop()


@pytest.fixture
def servers(rclone: RcloneServer) -> RunningServers:
    """Takes the place of the embedded servers in `make_site`."""
    return rclone.servers


@pytest.fixture
def proxy(rclone: RcloneServer) -> Iterator[FaultProxy]:
    with FaultProxy(rclone.servers.s3_url, lambda *_: None) as running:
        yield running


@pytest.fixture
def site(make_site: MakeSite, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Three photos, catalogued and made; 21 objects are enough for a listing, 8 (at last 4) for a proof."""
    few_are_enough(monkeypatch)
    monkeypatch.setattr(Project, "workers", lambda _: quick_workers())
    made = make_site(photos=3)
    made.configure(store=made.settings["store"] | {"endpoint_url": proxy.url})
    with made.project() as project:
        made.inventory(project)
        with BatchLease(project.database, BATCH, run="test") as lease:
            process_batch(project.database, project.config, lease, project.workers)
        # Its own requests are not the batch's.
        probe_store(project.database, project.store)
    return made


def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_object, "WORTH_LISTING", 5)
    monkeypatch.setattr(flight, "PROVEN_AT_ONCE", 8)
    monkeypatch.setattr(flight, "WORTH_LISTING", 4)


def send(site: Site, proxy: FaultProxy) -> tuple[Uploaded, Counter[str]]:
    """Upload the batch; return the outcome, and what the server was asked for."""
    with site.project() as project:
        assert project.store
        before = len(proxy.exchanges)
        with BatchLease(project.database, BATCH, run="test") as lease:
            sent = upload_batch(project.database, project.config, lease, project.store, project.workers)
    asked = Counter(
        "LIST" if is_listing(each.method, each.path) else each.method for each in proxy.exchanges[before:]
    )
    return sent, asked


def is_listing(method: str, path: str) -> bool:
    return method == "GET" and path.partition("?")[0].rstrip("/") == "/second"


def forget(site: Site) -> None:
    """As after a crash before the objects were recorded."""
    site.execute("UPDATE pp_object SET verified_at = NULL, uploaded_at = NULL, verified_by = NULL")
    site.execute("UPDATE pp_photo SET state = 'processed'")


def of_site(site: Site, rclone: RcloneServer) -> dict[str, tuple[int, int]]:
    return {key: facts for key, facts in rclone.stored().items() if key.startswith(site.name)}


def test_each_object_is_put_once_and_proven_without_a_look_at_it(
    site: Site, proxy: FaultProxy, rclone: RcloneServer
) -> None:
    puts = site.execute("SELECT amount FROM pp_usage WHERE unit = 'puts'")[0][0]
    sent, asked = send(site, proxy)
    assert sent.uploaded == OBJECTS
    # One before, then one for four objects or more each, since all are under way, and one for what is left.
    assert sent.requests == {"LIST": asked["LIST"], "PUT": OBJECTS}
    assert 2 <= asked["LIST"] <= 1 + OBJECTS // 4 + 1
    assert set(asked) == {"LIST", "PUT"}
    assert site.execute("SELECT DISTINCT verified_by FROM pp_object") == [("etag",)]
    assert site.execute("SELECT DISTINCT state FROM pp_photo") == [("uploaded",)]
    # A listing is charged like a PUT, and counted as one; each try counts, as the server saw it.
    assert site.execute("SELECT amount FROM pp_usage WHERE unit = 'puts'")[0][0] == puts + asked.total()


@pytest.mark.parametrize(("most_waiting", "most_sent"), [(1000, OBJECTS), (8, 8 + 8 + 2)])
def test_sending_goes_on_while_a_listing_proves_what_was_sent_until_too_much_waits_for_it(
    site: Site, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, most_waiting: int, most_sent: int
) -> None:
    """The first proof is held up until nothing but itself is under way."""
    site.configure(upload={"concurrency": 1})
    monkeypatch.setattr(upload, "_MOST_WAITING", most_waiting)

    def puts() -> int:
        return sum(each.method == "PUT" for each in proxy.exchanges)

    before, alone = puts(), threading.Event()
    sent_meanwhile: list[int] = []
    wait, prove_together = Flight.wait, Bringer.prove_together

    def look_then_wait(flight: Flight) -> Any:
        if flight._proving and not flight.sending:
            alone.set()
        return wait(flight)

    def prove_when_alone(bringer: Bringer, sent: Sequence[Brought]) -> Proofs:
        assert alone.wait(timeout=30)
        sent_meanwhile.append(puts() - before)
        return prove_together(bringer, sent)

    monkeypatch.setattr(Flight, "wait", look_then_wait)
    monkeypatch.setattr(Bringer, "prove_together", prove_when_alone)
    sent, _ = send(site, proxy)
    assert sent.uploaded == OBJECTS
    # All of them; or the first eight, as many again, and two that were on their way.
    assert most_sent - 2 <= sent_meanwhile[0] <= most_sent
    assert site.execute("SELECT DISTINCT verified_by FROM pp_object") == [("etag",)]


def test_what_was_sent_is_proven_while_the_very_last_is_on_its_way(
    site: Site, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.configure(upload={"concurrency": 1})
    monkeypatch.setattr(flight, "PROVEN_AT_ONCE", 1000)
    sizes: list[int] = []
    prove_together = Bringer.prove_together

    def noting(bringer: Bringer, sent: Sequence[Brought]) -> Proofs:
        sizes.append(len(sent))
        return prove_together(bringer, sent)

    monkeypatch.setattr(Bringer, "prove_together", noting)
    sent, _ = send(site, proxy)
    assert sent.uploaded == OBJECTS
    # One is sent while another is waiting: all but the last are proven as soon as that one has begun.
    assert sizes == [OBJECTS - 1, 1]


def test_old_proofs_are_renewed_by_one_look_each_and_not_by_bytes_that_are_others(
    site: Site, proxy: FaultProxy, rclone: RcloneServer
) -> None:
    send(site, proxy)
    site.execute("UPDATE pp_object SET verified_at = '2020-01-01 00:00:00'")
    wrong = sorted(of_site(site, rclone))[3]
    file = Path(rclone.folder, "second", wrong)
    file.write_bytes(b"x" * file.stat().st_size)
    before = len(proxy.exchanges)
    outcome = rewritten(site, BATCH)
    assert (outcome.rewritten, outcome.not_ready) == (2, 1)
    asked = [each for each in proxy.exchanges[before:] if "-backups/" not in each.path]
    assert (
        len({each.path for each in asked if each.method == "HEAD" and each.path.startswith("/second/")})
        == OBJECTS
    )
    assert {each.path for each in asked if each.method == "GET"} == {f"/second/{wrong}"}


def test_a_listing_does_not_prove_a_key_of_the_application_s_by_what_a_row_says_of_another_file(
    make_site: MakeSite, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_are_enough(monkeypatch)
    site = site_with(make_site, "{path}")
    before = replaced_after_its_upload(site)
    site.execute("UPDATE pp_object SET verified_at = NULL WHERE variant = 'framework'")
    uploaded(site)
    assert stored(site, "items/0.jpg") == before, "it would show other rows another picture"
    assert states(site)["items/0.jpg"] == ("quarantined", "storage_conflict")


def test_what_is_there_is_adopted_and_only_what_is_wrong_or_missing_is_sent(
    site: Site, proxy: FaultProxy, rclone: RcloneServer
) -> None:
    send(site, proxy)
    before = of_site(site, rclone)
    wrong, missing = sorted(before)[3], sorted(before)[9]
    with site.project() as project:
        right = {key: project.store.read(key) for key in (wrong, missing)}
        project.store.delete(missing)
        project.store.delete(wrong)
        project.store.put_new(wrong, b"x" * len(right[wrong]), content_type="image/jpeg")
    forget(site)
    exchanges = len(proxy.exchanges)
    sent, asked = send(site, proxy)
    assert (sent.uploaded, sent.adopted) == (2, OBJECTS - 2)
    # The first listing proves whose MD5 is known; what it says is wrong is believed when its bytes were read.
    assert (asked["LIST"], sent.requests["PUT"]) == (2, 2)
    read = {each.path for each in proxy.exchanges[exchanges:] if each.method == "GET"}
    assert [path for path in read if not is_listing("GET", path)] == [f"/second/{wrong}"]
    with site.project() as project:
        assert {key: project.store.read(key) for key in right} == right
    after = of_site(site, rclone)
    assert {key for key in after if after[key] != before[key]} == {wrong, missing}


def test_where_the_catalog_has_no_md5_or_a_wrong_one_the_bytes_decide(
    site: Site, proxy: FaultProxy, rclone: RcloneServer
) -> None:
    """As in a catalog of an earlier version, and in a damaged one."""
    known = dict(site.execute("SELECT key, md5 FROM pp_object"))
    assert known == {key: md5_hex((site.home / "staging" / key).read_bytes()) for key in known}
    unknown, wrong = sorted(known)[:2]
    site.execute(f"UPDATE pp_object SET md5 = NULL WHERE key = '{unknown}'")
    site.execute(f"UPDATE pp_object SET md5 = '{'0' * 32}' WHERE key = '{wrong}'")
    sent, asked = send(site, proxy)
    # Not as the proxy counts them: rclone now and then fails one, which is sent again.
    assert (sent.uploaded, sent.requests["PUT"], asked["GET"]) == (OBJECTS, OBJECTS, 1)
    proven = dict(site.execute("SELECT key, verified_by FROM pp_object"))
    assert [key for key, how in proven.items() if how != "etag"] == [wrong]
    assert proven[wrong] == "read_back"
    forget(site)
    again, asked = send(site, proxy)
    assert (again.adopted, asked["PUT"], asked["GET"]) == (OBJECTS, 0, 2)
    # As after a crash: originals have no row before they are proven, and nobody has hashed them.
    forget(site)
    site.execute("DELETE FROM pp_object WHERE recipe = ''")
    again, asked = send(site, proxy)
    assert (again.adopted, asked["PUT"], asked["GET"]) == (OBJECTS, 0, 2 + 3)


def test_a_bit_that_flips_on_the_way_shows_in_the_listing_and_proves_nothing(
    site: Site, proxy: FaultProxy, rclone: RcloneServer
) -> None:
    def one_original(method: str, path: str, earlier: int) -> Fault | None:
        hit = method == "PUT" and "/originals/" in path and not proxy.injected[Fault.FLIP_BIT]
        return Fault.FLIP_BIT if hit else None

    proxy.rule = one_original
    with pytest.raises(StoreError, match="does not give back what it was given"):
        send(site, proxy)
    assert proxy.injected[Fault.FLIP_BIT] == 1
    (damaged,) = (
        path
        for path in Path(rclone.folder, "second").rglob("originals/**/*.jpg")
        if sha256_hex(path.read_bytes()) != path.stem
    )
    query = f"SELECT verified_at FROM pp_object WHERE key LIKE '%{damaged.name}'"
    assert site.execute(query) in ([], [(None,)])
    send(site, proxy)
    assert sha256_hex(damaged.read_bytes()) == damaged.stem


@pytest.mark.parametrize("reason", ["refused", "too many others"])
def test_where_listings_do_not_help_each_object_is_looked_for_as_before(
    site: Site, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "refused":
        proxy.rule = lambda method, path, _: Fault.DENY if is_listing(method, path) else None
    else:
        monkeypatch.setattr(many, "pages_for", lambda _keys: 1)
    sent, asked = send(site, proxy)
    assert sent.uploaded == OBJECTS
    assert (asked["LIST"], sent.requests["PUT"], asked["HEAD"]) == (1, OBJECTS, 2 * OBJECTS)
    assert site.execute("SELECT DISTINCT verified_by FROM pp_object") == [("etag",)]


def test_proofs_that_no_listing_gives_are_asked_for_singly(site: Site, proxy: FaultProxy) -> None:
    listings = 0

    def only_the_first(method: str, path: str, _earlier: int) -> Fault | None:
        nonlocal listings
        listings += is_listing(method, path)
        return Fault.DENY if is_listing(method, path) and listings > 1 else None

    proxy.rule = only_the_first
    sent, asked = send(site, proxy)
    assert (sent.uploaded, sent.requests["PUT"], asked["HEAD"]) == (OBJECTS, OBJECTS, OBJECTS)


def test_what_was_sent_before_a_pause_is_proven_and_recorded(
    site: Site, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing after the stop proves it: nothing of it is asked for again."""
    site.configure(upload={"concurrency": 1})
    with site.project() as project:

        def pause_at_three(stage: str, done: int, _total: int | None) -> None:
            if stage == "objects" and done == 3:
                pause(project.database, reason="", run="test")

        monkeypatch.setattr("photo_pipeline.core.migration.watch._LOOK_EVERY_S", 0)
        with BatchLease(project.database, BATCH, run="test") as lease:
            run = partial(upload_batch, project.database, project.config, lease, project.store)
            with pytest.raises(PausedError):
                run(project.workers, progress=pause_at_three)
        stored = {key for key, _ in project.store.list(site.name)}
        verified = site.execute("SELECT key FROM pp_object WHERE verified_at IS NOT NULL")
        assert {key for (key,) in verified} == stored
        assert 3 <= len(stored) < OBJECTS
        resume(project.database, run="test")
    sent, _ = send(site, proxy)
    assert (sent.uploaded, sent.reused, sent.adopted) == (OBJECTS - len(stored), len(stored), 0)
