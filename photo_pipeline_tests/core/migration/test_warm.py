"""Warming the CDN: every stored file once, a few at a time, and none that is not proven."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from photo_pipeline.core.delivery.canary import Expected
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.delivery.warming import Warmed, warm_urls
from photo_pipeline.core.errors import DeliveryError
from photo_pipeline.core.migration.warm import Selection, batches_to_warm, warm
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.cdn_proxy import Answered, Asked, CdnProxy
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.sites import TINY_VARIANTS, Site


@pytest.fixture
def proxy(servers: RunningServers) -> Iterator[CdnProxy]:
    with CdnProxy(servers.cdn_url) as running:
        yield running


@pytest.fixture
def site(make_site: MakeSite, proxy: CdnProxy) -> Site:
    site = make_site(photos=2, variants=TINY_VARIANTS, cdn={"base_url": proxy.url})
    site.migrate()
    proxy.asked.clear()
    return site


def warmed(site: Site, **selection: Any) -> Warmed:
    with site.project() as project:
        chosen = Selection(batches_to_warm(project.database), **selection)
        return warm(project.database, project.config, project.cdn, chosen)


def asked(proxy: CdnProxy) -> Counter[str]:
    return Counter(each.path[1:] for each in proxy.asked)


def test_every_stored_file_is_fetched_once_and_no_original(site: Site, proxy: CdnProxy) -> None:
    done = warmed(site)
    keys = [row[0] for row in site.execute("SELECT key FROM pp_object WHERE recipe <> ''")]
    assert asked(proxy) == Counter(keys)
    ((total,),) = site.execute("SELECT SUM(bytes) FROM pp_object WHERE recipe <> ''")
    assert (done.urls, done.bytes, done.failed, done.hits) == (12, total, 0, 0)
    proxy.asked.clear()
    assert warmed(site, variants=["thumb"], formats=["avif"]).urls == 2
    assert all(path.endswith("/thumb.avif") for path in asked(proxy))


def test_what_is_not_proven_is_never_asked_for(site: Site, proxy: CdnProxy) -> None:
    (unproven,), (deleted,) = site.execute("SELECT key FROM pp_object WHERE key LIKE '%full.webp'")
    site.execute("UPDATE pp_object SET verified_at = NULL WHERE key = :key", key=unproven)
    site.execute("UPDATE pp_object SET deleted_at = verified_at WHERE key = :key", key=deleted)
    assert warmed(site).urls == 10
    assert not {unproven, deleted} & set(asked(proxy))
    # Nothing is asked for before its photo is uploaded; from then on it is, whatever its row says.
    site.execute("UPDATE pp_photo SET state = 'processed'")
    assert warmed(site).urls == 0
    site.execute("UPDATE pp_photo SET state = 'uploaded'")
    assert warmed(site).urls == 10


def test_what_comes_wrong_or_from_the_cache_is_counted(site: Site, proxy: CdnProxy) -> None:
    def change(asked: Asked, answered: Answered) -> Answered:
        if asked.path.endswith("full.avif"):
            return replace(answered, body=b"something else")
        cached = asked.path.endswith(".jpg")
        return answered.with_header("X-Cache", f"{'Hit' if cached else 'Miss'} from cloudfront")

    proxy.change_answer = change
    done = warmed(site)
    assert (done.urls, done.hits, done.failed) == (12, 4, 2)
    assert len(done.problems) == 2
    assert "full.avif delivers other bytes" in done.problems[0]


def expected(proxy: CdnProxy, number: int) -> Expected:
    return Expected(f"{proxy.url}/{number}", "", "", None)


def test_no_more_requests_run_at_once_than_allowed_and_urls_are_read_as_needed(proxy: CdnProxy) -> None:
    lock, running, most = threading.Lock(), 0, 0
    both = threading.Barrier(3, timeout=30)

    def enter(asked: Asked) -> Asked:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait()  # three requests meet, or the test fails: so they do run side by side
        return asked

    def leave(_asked: Asked, answered: Answered) -> Answered:
        nonlocal running
        with lock:
            running -= 1
        return answered

    proxy.change_request, proxy.change_answer = enter, leave
    done, furthest = Warmed(), 0

    def urls() -> Iterator[Expected]:
        nonlocal furthest
        for number in range(30):
            furthest = max(furthest, number - done.urls)
            yield expected(proxy, number)

    cdn = Cdn(proxy.url)
    warm_urls(cdn, urls(), concurrency=3, into=done)
    cdn.close()
    assert (done.urls, most) == (30, 3)
    assert furthest <= 6


def test_a_cdn_that_does_not_answer_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cdn = Cdn("http://127.0.0.1:9")
    read = 0

    def urls() -> Iterator[Expected]:
        nonlocal read
        for number in range(1000):
            read += 1
            yield Expected(f"http://127.0.0.1:9/{number}", "", "", None)

    with pytest.raises(DeliveryError, match="does not answer"):
        warm_urls(cdn, urls(), concurrency=2)
    cdn.close()
    assert read < 10
