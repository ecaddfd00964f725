"""The store probe: what it answers, how long that is remembered, and what it leaves behind."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from photo_pipeline.cli import app
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import store_table, utc_now
from photo_pipeline.core.errors import StoreError
from photo_pipeline.core.project import Project
from photo_pipeline.core.report.measures import store_answers
from photo_pipeline.core.storage.probe import StoreProbe, probe_store
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.fault_proxy import Fault, FaultProxy
from photo_pipeline_tests.sites import Site

STRICT = StoreProbe(
    rejects_wrong_checksum=True,
    reports_checksum=True,
    honours_if_none_match=True,
    reports_md5=True,
    honours_if_match=True,
)


def probe_requests(site: Site, access_log: Path) -> int:
    lines = map(json.loads, access_log.read_text(encoding="utf-8").splitlines())
    return sum(f"/{site.name}/" in line["path"] and "/.probe/" in line["path"] for line in lines)


def age(project: Project, by: timedelta) -> None:
    with project.database.write() as connection:
        connection.execute(sa.update(store_table).values(probed_at=utc_now() - by))


def test_a_strict_server_is_trusted_with_checksums(make_site: MakeSite) -> None:
    with make_site(photos=0).project() as project:
        ensure_schema(project.database)
        probe = probe_store(project.database, project.store)
    assert probe == STRICT
    assert probe.verification == "checksum"


@pytest.mark.parametrize(("rejects", "reports"), [(False, True), (True, False), (False, False)])
def test_a_server_that_lacks_either_half_is_asked_for_its_md5_or_read_back(
    rejects: bool, reports: bool
) -> None:
    assert StoreProbe(rejects, reports, honours_if_none_match=True).verification == "read_back"
    assert StoreProbe(rejects, reports, True, reports_md5=True).verification == "etag"


def test_a_probe_deletes_what_one_that_died_has_left_and_not_what_one_under_way_needs(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=0)
    left = f"{site.name}/photos/.probe/left"
    with site.project() as project:
        ensure_schema(project.database)
        project.store.put_new(left, b"x", content_type="text/plain")
        probe_store(project.database, project.store)
        assert project.store.head(left) is not None
        monkeypatch.setattr("photo_pipeline.core.storage.probe._ABANDONED_AFTER", timedelta(0))
        age(project, by=timedelta(days=8))
        probe_store(project.database, project.store)
        assert project.store.head(left) is None


def test_the_probe_leaves_no_object_behind(make_site: MakeSite, s3_access_log: Path) -> None:
    site = make_site(photos=0)
    with site.project() as project:
        ensure_schema(project.database)
        probe_store(project.database, project.store)
        assert probe_requests(site, s3_access_log) > 0
        assert list(project.store.list(site.name)) == []


def test_the_answers_are_remembered_for_a_week_and_then_asked_again(
    make_site: MakeSite, s3_access_log: Path
) -> None:
    site = make_site(photos=0)
    with site.project() as project:
        ensure_schema(project.database)
        first = probe_store(project.database, project.store)
        requests = probe_requests(site, s3_access_log)
        age(project, timedelta(days=6, hours=23))
        assert probe_store(project.database, project.store) == first
        assert probe_requests(site, s3_access_log) == requests > 0
        age(project, timedelta(days=7, minutes=1))
        assert probe_store(project.database, project.store) == first
        assert probe_requests(site, s3_access_log) == 2 * requests
    assert site.execute("SELECT COUNT(*) FROM pp_store") == [(1,)]


def test_another_endpoint_is_another_server(
    make_site: MakeSite, servers: RunningServers, s3_access_log: Path
) -> None:
    site = make_site(photos=0)
    with site.project() as project:
        ensure_schema(project.database)
        probe_store(project.database, project.store)
    requests = probe_requests(site, s3_access_log)
    with FaultProxy(servers.s3_url, lambda *_: None) as proxy:
        site.configure(store=site.settings["store"] | {"endpoint_url": proxy.url})
        with site.project() as project:
            probe_store(project.database, project.store)
    assert probe_requests(site, s3_access_log) == 2 * requests


@pytest.mark.usefixtures("quick_tries")
def test_a_server_that_refuses_every_put_is_an_error_and_is_not_remembered(
    make_site: MakeSite, servers: RunningServers
) -> None:
    site = make_site(photos=0)
    with FaultProxy(servers.s3_url, lambda method, *_: Fault.SLOW_DOWN if method == "PUT" else None) as proxy:
        site.configure(store=site.settings["store"] | {"endpoint_url": proxy.url})
        with site.project() as project:
            ensure_schema(project.database)
            with pytest.raises(StoreError, match="refuses an ordinary PUT"):
                probe_store(project.database, project.store)
    assert site.execute("SELECT COUNT(*) FROM pp_store") == [(0,)]


def test_an_answer_lost_on_its_way_does_not_make_a_strict_server_look_lax(
    make_site: MakeSite, servers: RunningServers
) -> None:
    """The retry of the first PUT must not be taken for the conditional one, nor the other way round."""

    def lose_each_first_answer(method: str, path: str, earlier: int) -> Fault | None:
        return Fault.LOSE_ANSWER if method == "PUT" and earlier in (0, 2) else None

    site = make_site(photos=0)
    with FaultProxy(servers.s3_url, lose_each_first_answer) as proxy:
        site.configure(store=site.settings["store"] | {"endpoint_url": proxy.url})
        with site.project() as project:
            ensure_schema(project.database)
            probe = probe_store(project.database, project.store)
        assert proxy.injected[Fault.LOSE_ANSWER] == 2
    assert probe == STRICT


def test_what_a_server_lacks_is_said_to_people() -> None:
    assert STRICT.sentence == "Objects are proven by the SHA-256 that the server checks and reports."
    lax = StoreProbe(False, False, False, reports_md5=True)
    for words in ("the MD5", "overwrites in spite of If-None-Match", "deletes in spite of If-Match"):
        assert words in lax.sentence


def test_status_and_the_upload_tell_what_was_found_out(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    (outcome,) = site.migrate()
    assert outcome.uploaded.store == STRICT.sentence
    ran = CliRunner().invoke(app, ["status"])
    assert f"Store {site.settings['store']['bucket']} at http://127.0.0.1:" in ran.output
    assert "proven by the SHA-256" in ran.output
    with site.project() as project, project.database.read() as connection:
        (answers,) = store_answers(connection)
    assert (answers.verification, answers.honours_if_match) == ("checksum", True)
