"""The sensor `migration_driver`, its runs executed by Dagster's own engine.

One test on an instance with SQLite, which takes seconds to make; `e2e/test_driven_migration.py` has a daemon.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline.core.migration import control
from photo_pipeline.definitions import defs
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings
from photo_pipeline.sensors.migration_driver import migration_driver
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.sites import Site

FIRST, SECOND, THIRD = "batch-000001", "batch-000002", "batch-000003"
OBJECTS = 7
FREE_TIER = {"plan": "aws-legacy-free-tier"}
NOBODY = "elsewhere/1/run"  # a lease's owner on a machine that is not this one


class Driver:
    """The sensor as the daemon calls it, and the runs that it asks for."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.said = ""

    def tick(self) -> list[dg.RunRequest]:
        settings = PipelineSettings()
        resources = {"settings": settings, "database": ApplicationDatabase(settings=settings)}
        with dg.build_sensor_context(
            instance=self.instance, resources=resources, definitions=defs, sensor_name="migration_driver"
        ) as context:
            result = migration_driver(context)
        if isinstance(result, dg.SkipReason):
            self.said = str(result.skip_message)
            return []
        assert isinstance(result, dg.SensorResult)
        return list(result.run_requests or [])

    def asks(self) -> list[str]:
        return [f"{each.job_name} {each.partition_key or ''}".strip() for each in self.tick()]

    def run(self, request: dg.RunRequest) -> bool:
        """Execute one run here, as a run worker would; return whether it succeeded."""
        result = defs.resolve_job_def(str(request.job_name)).execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            tags=dict(request.tags),
            raise_on_error=False,
        )
        return result.success

    def work(self) -> list[str]:
        """Tick and run what it asks for, until it asks for nothing; return what ran."""
        ran = []
        while requests := self.tick():
            for request in requests:
                self.run(request)
                ran.append(f"{request.job_name} {request.partition_key or ''}".strip())
        return ran


@pytest.fixture
def driver() -> Iterator[Driver]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Driver(instance)


def say(site: Site, act: Any, reason: str = "") -> None:
    with site.project() as project:
        act(project.database, reason=reason, run="person")


def use(site: Site, puts: int) -> None:
    with site.project() as project, project.database.write() as connection:
        ledger.add(connection, month_of(utc_now()), {Unit.PUTS: puts})


def room_again(site: Site) -> None:
    site.execute("DELETE FROM pp_usage")
    site.execute("UPDATE pp_breaker SET opened_at = '2001-01-01 00:00:00'")


def batch_states(site: Site) -> dict[str, str]:
    return {row.key: row.state for row in site.execute("SELECT key, state FROM pp_batch")}


def test_switched_on_it_migrates_everything_proves_zero_delta_and_stops(
    make_site: MakeSite,
) -> None:
    site = make_site(photos=2, batch_size=1)
    with dg.instance_for_test() as instance:
        driver = Driver(instance)
        assert driver.work() == ["inventory", f"migrate {FIRST}", f"migrate {SECOND}", "inventory"]
        assert site.states() == {"migrated": 2}
        assert driver.said.startswith("Nothing is left to launch. Zero delta proven at")
        assert list(instance.get_dynamic_partitions("photo_batches")) == [FIRST, SECOND]


def test_an_abort_takes_back_what_is_migrated_and_a_pause_launches_nothing(
    make_site: MakeSite, driver: Driver
) -> None:
    site = make_site(photos=2, batch_size=1, batches={"size": 1, "rescan": False})
    before = site.dump()
    with site.project() as project:  # by the command line: Dagster knows no partition yet
        site.inventory(project)
    (request, _) = driver.tick()
    assert driver.run(request)
    say(site, control.pause, "deploying")
    assert driver.asks() == []
    assert driver.said.startswith("Nothing is launched: the migration was paused by")
    assert "deploying" in driver.said
    say(site, control.resume)
    say(site, control.abort, "wrong bucket")
    (request,) = driver.tick()
    assert (request.job_name, request.partition_key) == ("rollback", FIRST)
    assert driver.run(request)
    assert site.dump() == before
    assert driver.asks() == []
    assert "wrong bucket" in driver.said
    assert batch_states(site) == {FIRST: "rolled_back", SECOND: "pending"}


def test_a_batch_is_asked_for_once_while_any_run_or_command_is_at_work_on_it(
    make_site: MakeSite, driver: Driver
) -> None:
    site = make_site(photos=3, batch_size=1, batches={"size": 1, "at_once": 8})
    with site.project() as project:
        site.inventory(project)
    requests = driver.tick()
    assert [each.partition_key for each in requests] == [FIRST, SECOND, THIRD]
    assert len({each.run_key for each in requests}) == 3
    # The same step again, say after the daemon died between launching and noting it: the same key.
    assert [each.run_key for each in driver.tick()] == [each.run_key for each in requests]
    for job, batch, status in (
        ("migrate", FIRST, dg.DagsterRunStatus.STARTING),
        ("__ASSET_JOB", SECOND, dg.DagsterRunStatus.NOT_STARTED),  # "Materialize" in the UI
    ):
        tags = {"dagster/partition": batch}
        create_run_for_test(driver.instance, job_name=job, status=status, tags=tags)
    assert driver.asks() == [f"migrate {THIRD}"]
    site.execute(
        "UPDATE pp_batch SET state = 'running', lease_owner = :owner, lease_expires_at = '2999-01-01' "
        "WHERE key = :key",
        owner=NOBODY,
        key=THIRD,
    )
    assert driver.asks() == []
    assert driver.said == "3 at work, 0 waiting."


def test_what_a_crash_interrupted_is_launched_again_once_its_lease_is_over_and_its_run_has_ended(
    make_site: MakeSite, driver: Driver
) -> None:
    site = make_site(photos=1)
    with site.project() as project:
        site.inventory(project)
    tags = {"dagster/partition": FIRST}
    run = create_run_for_test(
        driver.instance, job_name="migrate", status=dg.DagsterRunStatus.STARTED, tags=tags
    )
    site.execute(
        "UPDATE pp_batch SET state = 'running', lease_owner = :owner, lease_expires_at = '2001-01-01'",
        owner=NOBODY,
    )
    assert driver.asks() == []  # Dagster does not know yet that its worker is gone
    driver.instance.report_run_failed(run)
    (request,) = driver.tick()
    assert request.run_key == f"migrate {FIRST} after {run.run_id}"
    assert driver.run(request)
    assert batch_states(site) == {FIRST: "completed"}


@pytest.mark.slow
def test_a_failed_batch_is_tried_again_by_the_rule_of_its_error_and_then_named(
    make_site: MakeSite, driver: Driver
) -> None:
    site = make_site(photos=1, batches={"rescan": False})
    with site.project() as project:
        site.inventory(project)
    good = site.settings["store"]
    site.configure(store=good | {"endpoint_url": "http://127.0.0.1:9"})
    tries = 0
    for _ in range(8):
        requests = driver.tick()
        tries += len(requests)
        assert not any(driver.run(request) for request in requests)
        site.execute("UPDATE pp_batch SET failed_at = '2001-01-01 00:00:00'")  # the wait is over
    ((failures, kind),) = site.execute("SELECT failures, error_class FROM pp_batch")
    assert (tries, failures, kind) == (4, 4, "network")
    assert f"{FIRST} (failed 4 times, network error)" in driver.said
    site.configure(store=good)
    (by_hand,) = [dg.RunRequest(job_name="migrate", partition_key=FIRST)]
    assert driver.run(by_hand)
    assert [tuple(row) for row in site.execute("SELECT failures, error_class, error FROM pp_batch")] == [
        (0, None, None)
    ]


def test_the_breaker_opens_in_mid_run_and_the_driver_goes_on_later_without_a_repeated_put(
    make_site: MakeSite, driver: Driver, s3_access_log: Path
) -> None:
    site = make_site(photos=4, limits=FREE_TIER, upload={"concurrency": 1}, batches={"rescan": False})
    with site.project() as project:
        site.inventory(project)
    use(site, 1_800 - 14)
    (request,) = driver.tick()
    assert not driver.run(request)
    first = site.puts(s3_access_log)
    assert 0 < len(first) <= 14 + OBJECTS  # within one photo
    assert batch_states(site) == {FIRST: "paused"}
    assert driver.asks() == []
    assert driver.said.startswith("No batch is launched: uploads: the cost guard suspends them")
    assert site.puts(s3_access_log) == first
    room_again(site)
    assert driver.work() == [f"migrate {FIRST}"]
    assert site.states() == {"migrated": 4}
    sent = Counter(site.puts(s3_access_log))
    assert max(sent.values()) == 1
    assert sum(sent.values()) == 4 * OBJECTS


def test_without_a_configuration_or_a_database_it_says_what_is_missing(
    make_site: MakeSite, driver: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_site(photos=0)
    monkeypatch.delenv("APP_DATABASE_URL")
    assert driver.asks() == []
    assert driver.said.startswith("Nothing is launched.")
    assert "APP_DATABASE_URL" in driver.said
    monkeypatch.setenv("PHOTO_PIPELINE_CONFIG", os.fspath(tmp_path / "nothing.yaml"))
    assert driver.asks() == []
    assert "nothing.yaml" in driver.said
