"""The dashboard as programs meet it: a real server over HTTP, refused and let through."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.live.state import LiveReader
from photo_pipeline.core.migration import control
from photo_pipeline.web.access import SESSION_S, TOKEN_VARIABLE, Access, host_name
from photo_pipeline.web.live import Live, Look
from photo_pipeline.web.server import DashboardServer
from photo_pipeline_tests.web.world import (
    HOSTILE,
    TOKEN,
    HalfDone,
    Served,
    empty_database,
    half_done,
    served,
    write_config,
)

PAGES = ("/", "/parts", "/api/status", "/healthz", "/findings/corrupt", "/static/dashboard.js", "/nowhere")


@pytest.fixture(scope="module")
def server(half_migrated: HalfDone) -> Iterator[Served]:
    with served(half_migrated.database, half_migrated.config, hosts=["dashboard.example"]) as running:
        yield running


@pytest.fixture
def visitor(server: Served) -> Served:
    """A browser without a cookie."""
    return Served(server.url, server.database)


@pytest.fixture
def operator(visitor: Served) -> Iterator[Served]:
    """A browser that came with the token; leaves the migration running."""
    assert visitor.sign_in().status == 303
    yield visitor
    control.resume(visitor.database, run="test")


# --- what is shown


def test_the_page_says_how_it_stands_and_shows_every_part(visitor: Served) -> None:
    page = visitor.get().text
    assert "Running. 40 % of 30 photos are migrated" in page
    assert page.count('<i class="s-completed"') == 3 + 1  # in the map and in the legend
    for words in (
        "1 failed, 1 running, 1 pending, 3 completed",
        "elsewhere.example",
        "1,700 of 2,000",
        "Breaker closed",
        "Damaged photos",
        "Rows whose file is missing",
        "Restore the file from a backup, then run the inventory",
        "Zero delta is not proven",
        "anna@web-1",
        "store: it does not answer",
    ):
        assert words in page, words


def test_the_document_has_the_same_in_numbers(visitor: Served) -> None:
    answer = visitor.get("/api/status")
    state = json.loads(answer.text)
    assert answer.headers["content-type"] == "application/json"
    assert state["photos"] == {"total": 30, "done": 12, "to_do": 15, "set_aside": 3, "rolled_back": 0}
    assert state["batch_states"] == {"failed": 1, "running": 1, "pending": 1, "completed": 3}
    assert [cell["state"] for cell in state["cells"]].count("completed") == 3
    assert [(w["work"], w["health"]) for w in state["workers"]] == [("batch-000005", "alive")]
    assert {g["reason"]: g["count"] for g in state["thorough"]["findings"]} == {
        "corrupt": 3,
        "file_missing": 1,
    }
    assert state["problem"] is None


def test_a_hostile_name_is_text_wherever_it_stands(visitor: Served) -> None:
    findings = visitor.get("/findings/corrupt").text
    for page in (findings, visitor.get().text):
        assert "<script>document" not in page
        assert "onerror=alert(1)>" not in page
        assert "<b>of the shop" not in page
    assert "&lt;script&gt;document" in findings
    assert "the sources &lt;b&gt;of the shop" in visitor.get().text
    assert HOSTILE not in findings


def test_findings_come_a_page_at_a_time(visitor: Served) -> None:
    first = visitor.get("/findings/corrupt").text
    ids = [int(number) for number in re.findall(r'data-label="Id">(\d+)', first)]
    assert len(ids) == 3
    assert str(ids[0]) not in re.findall(r'"Id">(\d+)', visitor.get(f"/findings/corrupt?after={ids[0]}").text)
    assert visitor.get("/findings/no-such-reason").status == 404
    assert visitor.get("/findings/corrupt?after=1;DROP").status == 400


def test_every_answer_forbids_what_the_page_does_not_need(visitor: Served) -> None:
    for path in PAGES:
        headers = visitor.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "unsafe" not in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["x-frame-options"] == "DENY", path
        assert "access-control-allow-origin" not in headers, path
    page = visitor.get().text
    assert not re.search(r"<script(?! src=\"/static/)|\son\w+=|style=|https?://(?!cdn\.example\.com<)", page)


def test_before_the_first_inventory_it_says_so_and_makes_no_table(
    tmp_path: Path, half_migrated: HalfDone
) -> None:
    with closing(empty_database(tmp_path)) as fresh, served(fresh, half_migrated.config) as running:
        assert "Nothing has been inventoried yet" in running.get().text
        running.sign_in()
        fields = {"form_secret": running.form_secret("/control/pause")}
        refused = running.post("/control/pause", fields)
        assert refused.status == 409
        assert "nothing has been migrated yet" in refused.text
        assert sa.inspect(fresh.engine).get_table_names() == []


def test_a_database_that_is_away_is_said_and_forgotten_when_it_is_back(
    tmp_path: Path, half_migrated: HalfDone
) -> None:
    path = tmp_path / "app.db"
    with closing(empty_database(tmp_path)) as database, served(database, half_migrated.config) as running:
        half_done(database)
        assert running.get("/healthz").text == "ok\n"
        database.close()
        moved = {each: each.rename(each.with_suffix(".away")) for each in tmp_path.glob("app.db*")}
        path.write_bytes(b"no database " * 1_000)
        page = running.get()
        assert (page.status, "What stands below is of" in page.text) == (200, True)
        assert "40 % of 30 photos" in page.text
        assert json.loads(running.get("/api/status").text)["problem"]["thing"] == "the application's database"
        assert running.get("/healthz").status == 503
        database.close()
        path.unlink()
        for each, away in moved.items():
            away.rename(each)
        assert "What stands below is of" not in running.get().text


# --- who may act


def test_prometheus_reads_its_metrics(visitor: Served) -> None:
    answer = visitor.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"photo_pipeline_photos", "photo_pipeline_batches"} <= names


def test_the_report_is_served_as_it_was_written_and_without_our_origin(
    visitor: Served, half_migrated: HalfDone
) -> None:
    assert visitor.get("/report").status == 404
    path = half_migrated.config.state.report_dir / "migration_report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("<!doctype html><title>Report</title>", encoding="utf-8")
    answer = visitor.get("/report")
    assert (answer.status, answer.text) == (200, "<!doctype html><title>Report</title>")
    assert "sandbox allow-scripts" in answer.headers["content-security-policy"]
    assert "allow-same-origin" not in answer.headers["content-security-policy"]


def test_without_the_token_it_is_read_only(visitor: Served) -> None:
    before = visitor.audit()
    page = visitor.get().text
    assert "Read-only" in page
    assert "<form" not in page
    assert visitor.get("/control/pause").status == 403
    for cookie in ("", "photo_pipeline_1=guess", "x=y"):
        visitor.cookie = cookie
        assert visitor.post("/control/pause", {"form_secret": "guess"}).status == 403
        assert visitor.post("/control/pause", {}).status == 403
    assert visitor.audit() == before


def test_pause_resume_and_abort_are_recorded_with_their_reason(operator: Served) -> None:
    secret = operator.form_secret()
    fields = {"form_secret": secret, "reason": "deploying\n the <b>shop</b>"}
    assert operator.post("/control/pause", fields).status == 303
    page = operator.get().text
    assert "Paused by dashboard" in page
    assert "deploying the &lt;b&gt;shop" in page
    assert operator.post("/control/resume", {"form_secret": secret}).status == 303
    unconfirmed = operator.post("/control/abort", {"form_secret": secret, "confirm": "yes"})
    assert (unconfirmed.status, "type the word abort" in unconfirmed.text) == (400, True)
    assert operator.post("/control/abort", {"form_secret": secret, "confirm": " Abort "}).status == 303
    refused = operator.post("/control/pause", {"form_secret": secret})
    assert (refused.status, "it was aborted by dashboard" in refused.text) == (409, True)
    assert [(action, actor) for action, actor, _ in operator.audit()[-3:]] == [
        ("pause", "dashboard"),
        ("resume", "dashboard"),
        ("abort", "dashboard"),
    ]
    assert operator.audit()[-3][2]["reason"] == "deploying the <b>shop</b>"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "https://127.0.0.1", "http://127.0.0.1:1"]
)
def test_a_form_from_another_page_does_nothing(operator: Served, origin: str) -> None:
    before, fields = operator.audit(), {"form_secret": operator.form_secret()}
    refused = operator.post("/control/pause", fields, Origin=origin)
    assert (refused.status, "came from another page" in refused.text) == (403, True)
    assert operator.audit() == before


def test_a_form_without_the_secret_of_its_session_does_nothing(operator: Served) -> None:
    other = Served(operator.url, operator.database)
    other.sign_in()
    before = operator.audit()
    for secret in ("", "guess", other.form_secret(), operator.cookie.partition("=")[2]):
        assert operator.post("/control/pause", {"form_secret": secret}).status == 403
    assert operator.get("/control/pause").status == 200  # only asks
    assert operator.post("/control/pause", {"form_secret": "x" * 9_000}).status == 413
    assert operator.post("/control/pause", {f"f{n}": "" for n in range(30)}).status == 413
    assert operator.audit() == before


def test_the_printed_token_works_once_and_leaves_the_address(half_migrated: HalfDone) -> None:
    access = Access.make(None)
    token = access.token
    assert len(token) >= 40
    assert access.open_session("guess") is None
    session = access.open_session(token)
    assert access.form_secret(session)
    assert access.open_session(token) is None
    assert access.open_session("") is None
    assert token not in repr(Access.make(token))
    with served(half_migrated.database, half_migrated.config) as running:
        answer = running.sign_in()
        assert (answer.status, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "secure" not in cookie
        assert running.sign_in("another-token").status == 403
        through_tls = running.get(f"/open?token={TOKEN}", **{"X-Forwarded-Proto": "https"})
        assert "secure" in through_tls.headers["set-cookie"].lower()


def test_a_look_ahead_does_not_use_the_token_up(half_migrated: HalfDone) -> None:
    with served(half_migrated.database, half_migrated.config, token=None) as running:
        assert running.access
        address = f"{running.origin}/open?token={running.access.token}"
        assert urllib3.request("HEAD", address, redirect=False).status == 403
        ahead = {"Sec-Purpose": "prefetch;prerender"}
        assert urllib3.request("GET", address, headers=ahead, redirect=False).status == 403
        assert urllib3.request("GET", address, redirect=False).status == 303
        assert urllib3.request("GET", address, redirect=False).status == 403


def test_a_session_ends_by_itself() -> None:
    now = [0.0]
    access = Access(TOKEN, False, clock=lambda: now[0])
    session = access.open_session(TOKEN)
    secret = access.form_secret(session)
    assert access.may_act(session, secret or "")
    now[0] = SESSION_S
    assert not access.may_act(session, secret or "")


def test_a_token_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="fewer than 16 characters"):
        Access.make("secret")


# --- by which name


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:9000", 200),  # through ssh -L
        ("[::1]:8321", 200),
        ("dashboard.example", 200),
        ("DASHBOARD.example.:80", 200),
        ("evil.example", 421),
        ("dashboard.example.evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("user@localhost", 421),
        ("localhost/path", 421),
        ("localhost:port", 421),
    ],
)
def test_only_names_that_are_ours_are_answered(visitor: Served, host: str, status: int) -> None:
    for path in ("/", "/api/status", "/events" if status == 421 else "/healthz"):
        assert visitor.get(path, Host=host).status == status


def test_a_missing_or_malformed_host_is_nobodys() -> None:
    assert [host_name(text) for text in ("", ":80", "[::1", "a b", "x?y")] == ["", "", "", "a b", ""]
    assert not Access.make(TOKEN).knows_host("")


def test_an_address_that_is_taken_is_a_configuration_error(half_migrated: HalfDone) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=r"cannot be listened on .*--port"):
            DashboardServer(
                half_migrated.database, half_migrated.config, Access.make(TOKEN), host="127.0.0.1", port=port
            )


def test_the_command_prints_its_addresses_serves_and_ends_with_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(tmp_path)
    with closing(empty_database(tmp_path)) as database:
        half_done(database)
        monkeypatch.setenv("APP_DATABASE_URL", f"sqlite:///{tmp_path / 'app.db'}")
        monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
        command = [
            Path(sys.executable).with_name("photo-pipeline"),
            "--config",
            tmp_path / "photo_pipeline.yaml",
        ]
        process = subprocess.Popen(
            [*command, "serve", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout
        look, act = (process.stdout.readline() for _ in range(2))
        url = re.search(r"http://127\.0\.0\.1:\d+/", look)
        token = re.search(r"token=(\S+)", act)
        assert url, process.communicate()
        assert token
        running = Served(url[0], database)
        assert running.sign_in(token[1]).status == 303
        assert running.sign_in(token[1]).status == 403
        assert 'name="form_secret"' in running.get().text
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert errors == "The dashboard has ended; the migration goes on without it.\n"


# --- the stream


class Stream:
    """Reads server-sent events from a socket."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        self._socket.sendall(f"GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        self._lines = self._socket.makefile(encoding="utf-8", newline="\n")

    def next(self, name: str) -> dict[str, object]:
        """Return the data of the next event of that name."""
        for line in self._lines:
            if line.strip() == f"event: {name}":
                break
        data = next(line for line in self._lines if line.startswith("data: "))
        return dict(json.loads(data.removeprefix("data: ")))

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def test_the_stream_tells_of_each_change_that_anybody_makes(server: Served, half_migrated: HalfDone) -> None:
    with closing(Stream(server.url)) as stream:
        first = stream.next("state")
        assert first["control"]["control"] == "running"  # type: ignore[index]
        control.pause(half_migrated.database, reason="from elsewhere", run="test")
        for _ in range(20):  # the pace may be news before that
            state = stream.next("state")
            if state["control"]["control"] == "paused":  # type: ignore[index]
                break
        assert "from elsewhere" in state["standing"]["sentence"]  # type: ignore[index]
        control.resume(half_migrated.database, run="test")


def test_a_server_that_is_told_to_stop_does_not_wait_for_its_streams(half_migrated: HalfDone) -> None:
    with served(half_migrated.database, half_migrated.config) as running:
        stream = Stream(running.url)
        stream.next("state")
    with closing(stream), pytest.raises(StopIteration):
        stream.next("state")


def apart(work: Coroutine[Any, Any, None]) -> None:
    """Run it in a thread of its own: in this one a browser's driver may have its loop already."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


def test_a_stream_without_news_beats_and_counts_its_watchers(half_migrated: HalfDone) -> None:
    apart(_a_stream_without_news(half_migrated.database, half_migrated.config))


async def _a_stream_without_news(database: Database, config: PipelineConfig) -> None:
    state = LiveReader(database, config).read()
    live = Live(lambda: state, every_s=0.001, heartbeat_s=0.002)
    stream = live.stream()
    events = [await anext(stream) for _ in range(4)]
    assert [event.partition("\n")[0] for event in events] == [
        "retry: 2000",
        "event: state",
        "event: heartbeat",
        "event: heartbeat",
    ]
    assert live.watchers == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert live.watchers == 0


def test_a_look_is_shared_by_all_who_watch(half_migrated: HalfDone) -> None:
    apart(_a_look_is_shared(half_migrated.database, half_migrated.config))


async def _a_look_is_shared(database: Database, config: PipelineConfig) -> None:
    state, reads = LiveReader(database, config).read(), []
    live = Live(lambda: reads.append(1) or state, every_s=60)  # type: ignore[func-returns-value]
    looks: list[Look] = [await live.look() for _ in range(5)]
    assert (len(reads), {look.number for look in looks}) == (1, {1})
    assert (await live.look(fresh=True)).number == 1
    assert len(reads) == 2
