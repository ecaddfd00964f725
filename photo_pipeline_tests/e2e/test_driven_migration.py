"""Migrations that run by themselves in a real `dagster dev`: killed as a whole, held up by the breaker."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import urllib3

from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.e2e.test_dagster_ui import (
    REPOSITORY,
    DagsterUi,
    eventually,
    free_port,
    is_up,
    processes_of,
    start_dagster_dev,
    stop,
)
from photo_pipeline_tests.sites import Site, build_site, photo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIRST, SECOND = "batch-000001", "batch-000002"
OBJECTS = 7
START_SENSOR = """
mutation($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } }
}"""
LAST_TICK = """
query($selector: SensorSelector!) {
  sensorOrError(sensorSelector: $selector) {
    ... on Sensor { sensorState { ticks(limit: 1) { status skipReason error { message } } } }
  }
}"""
POOLS = "query { instance { concurrencyLimits { concurrencyKey limit } } }"


class Living:
    """`dagster dev` on a site, which can be killed as a whole and started again in the same home."""

    def __init__(self, home: Path, site: Site) -> None:
        self.home = home
        self.site = site

    def start(self) -> DagsterUi:
        port = free_port()
        self.process = start_dagster_dev(self.home, self.site, port)
        ui = DagsterUi(f"http://127.0.0.1:{port}", self.site)
        eventually(lambda: is_up(ui.url, self.process), "answer of the web server")
        return ui

    def kill_everything(self) -> int:
        """SIGKILL to web server, daemon, code server, each run and each image worker; return how many."""
        pids = working_in(self.home)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=30)
        assert processes_of(self.home) == []
        return len(pids)

    def end(self) -> None:
        if self.process.poll() is None:
            stop(self.process)
        assert processes_of(self.home) == []


def working_in(home: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink() == home:
                found.append(int(entry.name))
    return found


MakeLiving = Callable[..., Living]


@pytest.fixture
def living(
    tmp_path: Path,
    servers: RunningServers,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> MakeLiving:
    def make(*, photos: int, **settings: Any) -> Living:
        site = build_site(
            tmp_path / "site",
            url=f"sqlite:///{tmp_path / 'site/app.db'}",
            servers=servers,
            name=f"driven-{os.getpid()}-{photos}",
            photos=photos,
            batch_size=1,
            **settings,
        )
        for number in range(photos):  # large enough that a run can be met at work
            photo(site.uploads / f"items/{number}.jpg", width=1600, height=1200, seed=number)
        monkeypatch.setenv("APP_DATABASE_URL", site.url)
        made = Living(tmp_path, site)
        request.addfinalizer(made.end)
        return made

    return make


def sensor(name: str) -> dict[str, str]:
    return REPOSITORY | {"sensorName": name}


def switch_on(ui: DagsterUi, name: str) -> None:
    assert ui.ask(START_SENSOR, selector=sensor(name))["__typename"] == "Sensor"


def said(ui: DagsterUi, name: str) -> str:
    """What the sensor said at its last tick."""
    ticks = ui.ask(LAST_TICK, selector=sensor(name))["sensorState"]["ticks"]
    assert not ticks or ticks[0]["status"] != "FAILURE", ticks
    return str(ticks[0]["skipReason"] or "") if ticks else ""


def states(site: Site) -> dict[str, str]:
    """The batches' states; none before the first inventory."""
    if not site.execute("SELECT name FROM sqlite_master WHERE name = 'pp_batch'"):
        return {}
    return {row.key: row.state for row in site.execute("SELECT key, state FROM pp_batch")}


def held(site: Site) -> int:
    return len(site.execute("SELECT key FROM pp_batch WHERE lease_owner IS NOT NULL"))


def test_killed_as_a_whole_and_started_again_the_migration_finishes_by_itself(
    living: MakeLiving, s3_access_log: Path
) -> None:
    dagster = living(photos=8)
    site = dagster.site
    ui = dagster.start()
    switch_on(ui, "migration_driver")
    kills = []
    for done in (2, 4):
        eventually(
            lambda done=done: list(states(site).values()).count("completed") >= done and held(site),
            f"{done} batches and one at work",
        )
        kills.append(dagster.kill_everything())
        assert "completed" in states(site).values()
        assert set(states(site).values()) != {"completed"}
        ui = dagster.start()  # and nothing else: the sensor is still on
    eventually(lambda: set(states(site).values()) == {"completed"}, "end of the migration")
    eventually(lambda: "Zero delta proven" in said(ui, "migration_driver"), "proof of zero delta")
    print(f"\n{kills} processes were killed")
    assert min(kills) >= 4
    assert site.states() == {"migrated": 8}
    urls = [row.original_url for row in site.execute("SELECT original_url FROM item_photos")]
    assert all(urllib3.request("GET", url).status == 200 for url in urls)
    sent = Counter(site.puts(s3_access_log))
    assert len(sent) == 8 * OBJECTS
    assert max(sent.values()) == 1
    live = [run for run in ui.runs() if run["status"] not in ("SUCCESS", "FAILURE", "CANCELED")]
    assert live == []


def test_while_the_breaker_is_open_uploads_are_queued_a_rollback_finishes_and_the_driver_says_why(
    living: MakeLiving, s3_access_log: Path
) -> None:
    dagster = living(photos=3, limits={"plan": "aws-legacy-free-tier"}, batches={"size": 1, "rescan": False})
    site = dagster.site
    ui = dagster.start()
    assert ui.wait_for_run(ui.launch("inventory")) == "SUCCESS"
    ui.before = {row.id: tuple(row) for row in site.execute("SELECT * FROM item_photos")}
    assert ui.wait_for_run(ui.launch("migrate", FIRST)) == "SUCCESS"
    assert ui.rows(FIRST) != ui.local(FIRST)
    with site.project() as project, project.database.write() as connection:
        ledger.add(connection, month_of(utc_now()), {Unit.PUTS: 1_800})
    eventually(lambda: pools(ui).get("s3_upload") == 0, "closed pool")
    queued = [ui.launch("migrate", SECOND)]
    switch_on(ui, "migration_driver")
    eventually(lambda: "the cost guard suspends them" in said(ui, "migration_driver"), "tick of the driver")
    assert ui.wait_for_run(ui.launch("rollback", FIRST)) == "SUCCESS"
    assert ui.rows(FIRST) == ui.local(FIRST)
    assert [run["status"] for run in ui.runs(runIds=queued)] == ["QUEUED"]
    assert len(ui.runs(statuses=["STARTED", "STARTING"])) == 0
    assert len(set(site.puts(s3_access_log))) == OBJECTS

    site.execute("DELETE FROM pp_usage")
    site.execute("UPDATE pp_breaker SET opened_at = '2001-01-01 00:00:00'")
    assert ui.wait_for_run(queued[0]) == "SUCCESS"
    # The third one is the driver's; what was rolled back by a person stays so.
    eventually(lambda: list(states(site).values()).count("completed") == 2, "last batch")
    assert states(site)[FIRST] == "rolled_back"
    assert max(Counter(site.puts(s3_access_log)).values()) == 1


def pools(ui: DagsterUi) -> dict[str, int]:
    return {each["concurrencyKey"]: each["limit"] for each in ui.ask(POOLS)["concurrencyLimits"]}
