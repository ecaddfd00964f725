"""A store that fails one request in five, at random but by a seed: nothing is lost, damaged or given up.

A real proxy between the pipeline and a real S3 server injects the faults and keeps the time. The waits and
time limits are shortened tenfold in `make test`; the slow tests have those that users have.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import obstore
import pytest

from photo_pipeline.core.errors import StoreError
from photo_pipeline.core.migration import one_object
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.process import process_batch
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.migration.upload import Uploaded, upload_batch
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage import clients, retries
from photo_pipeline.core.storage import store as store_module
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.retries import Patience
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import quick_workers, rewritten, rolled_back
from photo_pipeline_tests.fault_proxy import Fault, FaultProxy, seeded_rule
from photo_pipeline_tests.sites import Site, item_photo

BATCH = "batch-000001"
OBJECTS = 7  # of one photo: two variants in three formats, and the original
SEED = 20_261_121
# 20 % in all. A hanging request costs its whole time limit, so there are fewer of them.
SHARES = {
    Fault.SLOW_DOWN: 0.03,
    Fault.ERROR_500: 0.03,
    Fault.RESET: 0.03,
    Fault.LOSE_ANSWER: 0.03,
    Fault.TRUNCATE: 0.03,
    Fault.FLIP_BIT: 0.02,
    Fault.FLIP_ANSWER: 0.02,
    Fault.HANG: 0.01,
}
assert abs(sum(SHARES.values()) - 0.2) < 1e-9


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits and waits of a tenth, the same number of tries."""
    monkeypatch.setattr(retries, "_TIMEOUTS_S", {512 * 1024: (1, 1, 2)})
    monkeypatch.setattr(retries, "_BUDGET_S", 6)
    monkeypatch.setattr(retries, "_LONGEST_WAIT_S", 0.2)
    monkeypatch.setattr(retries, "_JITTER_S", 0.02)
    for module in (store_module, clients):
        monkeypatch.setattr(module, "CONTROL_TIMEOUTS_S", (1, 1, 1))


def tiny_photos(site: Site, count: int) -> None:
    """Give the site that many rows and files; quick workers do not decode, so a header is enough."""
    for number in range(count):
        path = site.uploads / f"items/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff\xe0" + f"photo {number}".encode() * 10)
    engine = site.engine()
    with engine.begin() as connection:
        rows = [item_photo(n, f"/uploads/items/{n}.jpg") for n in range(count)]
        connection.execute(site.application.insert(), rows)
    engine.dispose()


@contextmanager
def behind(proxy: FaultProxy, site: Site) -> Iterator[Project]:
    """The project, with its store behind the proxy and everything before the first upload done."""
    with site.project() as project:
        site.inventory(project)
        with BatchLease(project.database, BATCH, run=new_run_id()) as lease:
            process_batch(project.database, project.config, lease, quick_workers)
    direct = site.settings["store"]
    site.configure(store=direct | {"endpoint_url": proxy.url})
    with site.project() as project:
        yield project
    site.configure(store=direct)


def upload(project: Project) -> Uploaded:
    with BatchLease(project.database, BATCH, run=new_run_id()) as lease:
        return upload_batch(project.database, project.config, lease, project.store, quick_workers)


def assert_every_object_is_stored_once(site: Site, access_log: Any, photos: int) -> None:
    """No object is lost or foreign, none differs from what was made, none was stored twice."""
    with site.project() as project:
        store, settings = project.store, project.config.store
        stored = {
            key
            for prefix in (settings.prefix, settings.originals_prefix)
            for key, _ in store.list(prefix)
            if "/.probe/" not in key
        }
        known = site.execute("SELECT key, checksum FROM pp_object WHERE verified_at IS NOT NULL")
        assert {row.key for row in known} == stored
        assert len(stored) == photos * OBJECTS
        damaged = [row.key for row in known if sha256_hex(store.read(row.key) or b"") != row.checksum]
        assert damaged == []
    assert set(Counter(site.puts(access_log)).values()) == {1}


def assert_survives(make_site: MakeSite, servers: RunningServers, access_log: Any, photos: int) -> FaultProxy:
    site = make_site(photos=0, rows=[], batch_size=1000)
    tiny_photos(site, photos)
    with FaultProxy(servers.s3_url, lambda *_: None) as proxy, behind(proxy, site) as project:
        proxy.rule = seeded_rule(SEED, SHARES, applies=lambda _path: True)
        outcome = upload(project)
    assert outcome.uploaded + outcome.adopted == photos * OBJECTS
    assert outcome.quarantined == 0
    assert site.states() == {"uploaded": photos}
    assert_every_object_is_stored_once(site, access_log, photos)
    faulty = proxy.injected.total() / len(proxy.exchanges)
    print(f"\n{photos * OBJECTS} objects, {len(proxy.exchanges)} requests, {faulty:.1%} of them failed:")
    print({fault.name: count for fault, count in proxy.injected.items()})
    assert set(proxy.injected) == set(SHARES)
    assert 0.15 < faulty < 0.25
    return proxy


@pytest.mark.usefixtures("hurried")
def test_a_store_that_fails_every_fifth_request_gets_each_object_whole_and_once(
    make_site: MakeSite, servers: RunningServers, s3_access_log: Any
) -> None:
    assert_survives(make_site, servers, s3_access_log, photos=22)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_puts_survive_a_store_that_fails_every_fifth_request(
    make_site: MakeSite, servers: RunningServers, s3_access_log: Any
) -> None:
    assert_survives(make_site, servers, s3_access_log, photos=143)


def _one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_TRIES", 1)


def _no_second_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("photo_pipeline.core.storage.proof._ASKED", 1)
    # Object by object, as in a batch of few: a listing asks for many at once, and again for each it lacks.
    monkeypatch.setattr(one_object, "WORTH_LISTING", 1_000_000)


def _overwrite(monkeypatch: pytest.MonkeyPatch) -> None:
    put = obstore.put
    monkeypatch.setattr(obstore, "put", lambda *args, **rest: put(*args, **(rest | {"mode": "overwrite"})))


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "remove",
    [_no_second_question, *(pytest.param(each, marks=pytest.mark.slow) for each in (_one_try, _overwrite))],
)
def test_without_its_defence_the_failing_store_is_found_out(
    make_site: MakeSite,
    servers: RunningServers,
    s3_access_log: Any,
    monkeypatch: pytest.MonkeyPatch,
    remove: Callable[[pytest.MonkeyPatch], None],
) -> None:
    remove(monkeypatch)
    with pytest.raises((AssertionError, StoreError)):
        assert_survives(make_site, servers, s3_access_log, photos=22)


# --- a store that says it stored


def assert_is_not_believed(make_site: MakeSite, servers: RunningServers) -> None:
    """Upload to a store that answers 200 to one original and keeps nothing of it."""
    site = make_site(photos=0, rows=[])
    tiny_photos(site, 3)
    before = site.dump()
    digest = sha256_hex((site.uploads / "items/0.jpg").read_bytes())
    with FaultProxy(servers.s3_url, lambda *_: None) as proxy, behind(proxy, site) as project:
        proxy.rule = lambda method, path, _n: (
            Fault.FORGET if method == "PUT" and path.endswith(f"{digest}.jpg") else None
        )
        with pytest.raises(StoreError, match="does not give back"):
            upload(project)
        rewrite = rewritten(site)
    assert proxy.injected[Fault.FORGET] >= 1
    assert rewrite.rewritten < 3
    shown = site.execute("SELECT original_url FROM item_photos WHERE original_url LIKE 'http%'")
    assert all(digest not in row.original_url for row in shown)
    rolled_back(site)
    assert site.dump() == before


def test_a_store_that_keeps_nothing_of_what_it_took_is_not_believed(
    make_site: MakeSite, servers: RunningServers
) -> None:
    assert_is_not_believed(make_site, servers)


@pytest.mark.slow
def test_without_the_proof_it_would_be_believed(
    make_site: MakeSite, servers: RunningServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "photo_pipeline.core.migration.one_object.proven_by", lambda *_args, **_options: "checksum"
    )
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        assert_is_not_believed(make_site, servers)


# --- an item, or everything, in a black hole


def put_into_black_hole(
    make_site: MakeSite, servers: RunningServers, *, photos: int, concurrency: int
) -> tuple[Site, float]:
    """Upload while one photo's originals are never answered; return how long its item was tried, in seconds.

    By the proxy's clock: from the item's first request to the first request of any kind after its last try
    (the question whether the store still answers), which comes as soon as the item is given up.
    """
    site = make_site(photos=0, rows=[], upload={"concurrency": concurrency})
    tiny_photos(site, photos)
    digest = sha256_hex((site.uploads / "items/0.jpg").read_bytes())
    with FaultProxy(servers.s3_url, lambda *_: None) as proxy, behind(proxy, site) as project:
        proxy.rule = lambda method, path, _n: Fault.HANG if path.endswith(f"{digest}.jpg") else None
        upload(project)
    hung = [each.began_s for each in proxy.exchanges if each.fault is Fault.HANG]
    bucket = f"/{site.settings['store']['bucket']}"
    asked = [e.began_s for e in proxy.exchanges if e.path == bucket and e.began_s > hung[-1]]
    return site, asked[0] - hung[0]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("concurrency", [pytest.param(1, marks=pytest.mark.slow), 16])
def test_an_item_in_a_black_hole_costs_its_photo_only(
    make_site: MakeSite, servers: RunningServers, concurrency: int
) -> None:
    site, seconds = put_into_black_hole(make_site, servers, photos=4, concurrency=concurrency)
    assert site.states() == {"uploaded": 3, "quarantined": 1}
    ((error_type, detail),) = site.execute(
        "SELECT error_type, error_detail FROM pp_photo WHERE error_type != ''"
    )
    assert error_type == "not_stored"
    assert "originals/" in detail
    assert "retry-failed" in detail
    assert seconds < 6
    assert rewritten(site).rewritten == 3


@pytest.mark.slow
def test_an_item_in_a_black_hole_fails_over_within_thirty_seconds(
    make_site: MakeSite, servers: RunningServers
) -> None:
    site, seconds = put_into_black_hole(make_site, servers, photos=4, concurrency=16)
    print(f"\ngiven up after {seconds:.1f} s")
    assert seconds < 30
    assert site.states() == {"uploaded": 3, "quarantined": 1}


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_without_time_limits_the_black_hole_is_found_out(
    make_site: MakeSite, servers: RunningServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_TIMEOUTS_S", {512 * 1024: (8,)})
    with pytest.raises(AssertionError):
        test_an_item_in_a_black_hole_costs_its_photo_only(make_site, servers, 16)


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("fault", [Fault.HANG, Fault.SLOW_DOWN, Fault.RESET])
def test_a_store_that_takes_nothing_stops_the_batch_and_blames_no_photo(
    make_site: MakeSite, servers: RunningServers, fault: Fault
) -> None:
    site = make_site(photos=0, rows=[])
    tiny_photos(site, 8)
    before = site.dump()
    with FaultProxy(servers.s3_url, lambda *_: None) as proxy, behind(proxy, site) as project:
        proxy.rule = lambda method, path, _n: fault if method == "PUT" and "/.probe/" not in path else None
        with pytest.raises(StoreError, match="run again"):
            upload(project)
    assert site.states() == {"processed": 8}
    assert site.dump() == before
    with site.project() as project:
        assert upload(project).uploaded == 8 * OBJECTS
    assert rewritten(site).rewritten == 8


def test_the_failures_of_some_requests_are_not_held_against_others(
    make_site: MakeSite, servers: RunningServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3's own retries share 500 tokens a client, 5 to 10 a retry: 50 failures spend them."""
    monkeypatch.setattr(retries, "_LONGEST_WAIT_S", 0.01)
    monkeypatch.setattr(retries, "_JITTER_S", 0.01)
    site = make_site(photos=0)
    with FaultProxy(servers.s3_url, lambda *_: None) as proxy:
        site.configure(store=site.settings["store"] | {"endpoint_url": proxy.url})
        with site.project() as project:
            project.store.put_new(f"{site.name}/a", b"x", content_type="image/jpeg")
            proxy.rule = lambda _method, _path, earlier: Fault.SLOW_DOWN if earlier % 3 != 2 else None
            assert [project.store.head(f"{site.name}/a").size for _ in range(40)] == [1] * 40


def test_the_last_try_of_a_request_ends_within_its_budget() -> None:
    """Arithmetic on the real limits: no try may begin that could end after 28 s."""
    for size in (0, 100 * 1024, 500 * 1024):
        assert sum(retries.data_timeouts_s(size)) <= retries._BUDGET_S < 30
    assert sum(retries.CONTROL_TIMEOUTS_S) <= retries._BUDGET_S
    patience = Patience((5, 5, 14), timed_out=lambda _error: True)
    assert patience.timeout_s == 5
