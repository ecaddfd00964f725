"""A CDN that is set up wrongly: the delivery test stops the rewrite, and validation finds it afterwards.

The CDN is the embedded one; a proxy in front of it does one thing wrong.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from photo_pipeline.core.config import CacheSettings
from photo_pipeline.core.errors import DeliveryError
from photo_pipeline.core.migration.validate import validate_batch
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.cdn_proxy import Answered, Asked, CdnProxy
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site

SMALL = {"default": {"full": {"fit": "inside", "width": 64, "height": 64}}}
IMMUTABLE = "public, max-age=31536000, immutable"
AUTO = ITEM_PHOTOS | {"fields": ITEM_PHOTOS["fields"][:1], "rewrite": {"mode": "url", "format": "auto"}}


@pytest.fixture
def proxy(servers: RunningServers) -> Iterator[CdnProxy]:
    with CdnProxy(servers.cdn_url) as running:
        yield running


@pytest.fixture
def site(make_site: MakeSite, proxy: CdnProxy) -> Site:
    return make_site(photos=1, sources=[AUTO], variants=SMALL, cdn={"base_url": proxy.url})


def no_routing(asked: Asked) -> Asked:
    """Every browser gets what one without AVIF and WebP would."""
    return replace(asked, accept="*/*") if asked.path.endswith(".auto") else asked


def no_function(asked: Asked, answered: Answered) -> Answered:
    """No function is attached: S3 has no object of that name."""
    return Answered(403, {}, b"") if asked.path.endswith(".auto") else answered


def answer_with(extension: str, name: str, value: str) -> Callable[[Asked, Answered], Answered]:
    def change(asked: Asked, answered: Answered) -> Answered:
        return answered.with_header(name, value) if asked.path.endswith(extension) else answered

    return change


def problems(site: Site) -> list[str]:
    with site.project() as project:
        found = validate_batch(project.database, project.config, project.cdn, "batch-000001", run="r")
    return [problem for finding in found.findings for problem in finding.problems]


FAULTS = [
    pytest.param(
        {"change_request": no_routing}, "full.auto delivers other bytes", "routing publish", id="no routing"
    ),
    pytest.param(
        {"change_answer": no_function}, "full.auto answers HTTP 403", "routing publish", id="no function"
    ),
    pytest.param(
        {"change_answer": answer_with(".avif", "Content-Type", "application/octet-stream")},
        "full.avif has Content-Type 'application/octet-stream', not 'image/avif'",
        "origin",
        id="type",
    ),
    pytest.param(
        {"change_answer": answer_with(".webp", "Cache-Control", "no-cache")},
        f"full.webp has Cache-Control 'no-cache', not '{IMMUTABLE}'",
        "cdn.cache_control",
        id="cache header of WebP",
    ),
    pytest.param(
        {"change_answer": answer_with(".jpg", "Cache-Control", IMMUTABLE)},
        f"full.jpg has Cache-Control '{IMMUTABLE}', not 'public, max-age=86400'",
        "cdn.cache_control",
        id="cache header of JPEG",
    ),
]


def test_a_wrong_cdn_stops_the_rewrite_and_says_what_to_do(site: Site, proxy: CdnProxy) -> None:
    before, as_it_should_be = site.dump(), dict(vars(proxy))
    for fault, said, fix in (each.values for each in FAULTS):
        vars(proxy).update(fault)  # type: ignore[arg-type]
        with pytest.raises(DeliveryError) as refused:
            site.migrate()
        assert str(said) in refused.value.cause
        assert str(fix) in refused.value.fix
        assert site.dump() == before
        vars(proxy).update(as_it_should_be)
    site.migrate()
    assert site.states() == {"migrated": 1}


def test_a_cdn_that_went_wrong_later_is_found_by_validation(site: Site, proxy: CdnProxy) -> None:
    site.migrate()
    assert problems(site) == []
    as_it_should_be = dict(vars(proxy))
    for fault, said, _fix in (each.values for each in FAULTS):
        vars(proxy).update(fault)  # type: ignore[arg-type]
        assert any(str(said) in problem for problem in problems(site)), said
        vars(proxy).update(as_it_should_be)
    assert problems(site) == []


def test_each_accept_class_is_asked_for_before_the_rewrite_and_by_validation(
    site: Site, proxy: CdnProxy
) -> None:
    site.migrate()
    canary = [asked.accept for asked in proxy.asked if asked.path.endswith(".auto")]
    assert len(set(canary)) == 3
    proxy.asked.clear()
    assert problems(site) == []
    assert {asked.accept for asked in proxy.asked if asked.path.endswith(".auto")} == set(canary)


def test_cache_headers_are_the_configured_ones_from_the_store_to_the_visitor(
    make_site: MakeSite, proxy: CdnProxy
) -> None:
    headers = {"avif": "public, max-age=600", "jpeg": "public, max-age=60, s-maxage=3600"}
    site = make_site(
        photos=1, sources=[AUTO], variants=SMALL, cdn={"base_url": proxy.url, "cache_control": headers}
    )
    delivered: dict[str, str] = {}

    def note(asked: Asked, answered: Answered) -> Answered:
        delivered[asked.path.rpartition(".")[2]] = answered.headers["Cache-Control"]
        return answered

    proxy.change_answer = note
    site.migrate()
    assert problems(site) == []
    del delivered["auto"]
    assert delivered == {"avif": headers["avif"], "webp": IMMUTABLE, "jpg": headers["jpeg"]}


def test_a_changed_cache_header_is_accepted_of_earlier_objects_once_it_is_named(
    site: Site, proxy: CdnProxy
) -> None:
    site.migrate()
    cdn = {"base_url": proxy.url, "cache_control": {"jpeg": "public, max-age=60"}}
    site.configure(cdn=cdn)
    assert any("not 'public, max-age=60'" in problem for problem in problems(site))
    site.configure(cdn=cdn | {"earlier_cache_control": ["public, max-age=86400"]})
    assert problems(site) == []


@pytest.mark.parametrize("value", ["", " public", "a\r\nX-Evil: 1", "naïve"])
def test_what_is_no_header_value_is_refused_by_the_configuration(value: str) -> None:
    with pytest.raises(ValueError, match="avif"):
        CacheSettings(avif=value)
