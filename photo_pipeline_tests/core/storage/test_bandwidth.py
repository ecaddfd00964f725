"""The bandwidth cap: what starts when, by a clock of the test's own, while real bytes go to a real server."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from photo_pipeline.core.storage.bandwidth import Bandwidth
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline_tests.core.storage.two_servers import Served, embedded
from photo_pipeline_tests.fault_proxy import Fault, FaultProxy

__all__ = ["embedded"]
RATE = 10_000


class Time:
    """Stands still; every wait that is asked for is noted as the moment at which that body may start."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.starts_s: list[float] = []
        self._lock = threading.Lock()

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.starts_s.append(self.now_s + seconds)


def test_sixteen_threads_together_keep_to_the_rate(embedded: Served) -> None:
    time, sizes = Time(), [500 + 37 * number for number in range(40)]
    with FaultProxy(embedded.url, lambda *_: None) as proxy:
        store = capped(embedded, proxy, time)
        keys = {embedded.key(str(number)): size for number, size in enumerate(sizes)}
        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(lambda key: store.put_new(key, b"x" * keys[key], content_type="x/x"), keys))
        assert proxy.received_bytes == sum(sizes)
    starts = sorted([0.0, *time.starts_s])
    assert len(starts) == len(sizes)
    # Each body starts when the one before it would have gone at that rate; only the last one's size is open.
    gaps = [round((later - earlier) * RATE) for earlier, later in pairwise(starts)]
    assert not Counter(gaps) - Counter(sizes)


def test_a_body_that_is_sent_again_counts_again(embedded: Served) -> None:
    time = Time()

    def first(method: str, _path: str, earlier: int) -> Fault | None:
        return Fault.SLOW_DOWN if method == "PUT" and earlier == 0 else None

    with FaultProxy(embedded.url, first) as proxy:
        store = capped(embedded, proxy, time)
        assert store.put_new(embedded.key(), b"x" * 1_000, content_type="x/x")
        assert proxy.received_bytes == 2_000
    assert store.bandwidth.book(1) * RATE == pytest.approx(2_000)


def test_a_body_that_met_an_object_counts_once_and_a_request_without_one_waits_for_none(
    embedded: Served,
) -> None:
    key, time = embedded.key(), Time()
    embedded.store.put_new(key, b"x" * 1_000, content_type="x/x")
    with FaultProxy(embedded.url, lambda *_: None) as proxy:
        store = capped(embedded, proxy, time)
        assert not store.put_new(key, b"x" * 1_000, content_type="x/x")
        assert store.look(key) is not None
    assert time.starts_s == []
    assert store.bandwidth.book(1) * RATE == pytest.approx(1_000)


def test_reading_counts_too(embedded: Served) -> None:
    key, time = embedded.key(), Time()
    embedded.store.put_new(key, b"x" * 3_000, content_type="x/x")
    with FaultProxy(embedded.url, lambda *_: None) as proxy:
        store = capped(embedded, proxy, time)
        assert store.read(key, size=3_000) == b"x" * 3_000
    assert store.bandwidth.book(1) * RATE == pytest.approx(3_000)


def test_what_was_not_used_is_not_saved_up() -> None:
    time = Time()
    bandwidth = Bandwidth(RATE, clock=time.clock, sleep=time.sleep)
    time.now_s = 1_000
    bandwidth.wait_for(RATE)
    bandwidth.wait_for(1)
    assert time.starts_s == [1_001]


def test_without_a_rate_nothing_waits() -> None:
    time = Time()
    bandwidth = Bandwidth(None, clock=time.clock, sleep=time.sleep)
    for _ in range(3):
        bandwidth.wait_for(10**12)
    assert time.starts_s == []


def capped(served: Served, proxy: FaultProxy, time: Time) -> PhotoStore:
    behind = served.through(proxy.url)
    limit = Bandwidth(RATE, clock=time.clock, sleep=time.sleep)
    return PhotoStore(behind.settings, s3=behind.s3, session=behind.session, bandwidth=limit)
