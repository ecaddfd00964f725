"""The sweep of lost retries: the race is replayed with Dagster's own daemon, on a real instance (SQLite)."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.instance import DagsterInstance
from dagster._core.test_utils import create_run_for_test, create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon

from photo_pipeline.sensors import lost_retries as sweep
from photo_pipeline.sensors.lost_retries import lost_retries

WILL_RETRY, RETRIED_AS = "dagster/will_retry", "dagster/auto_retry_run_id"
JOB = """
import dagster as dg

@dg.op
def work():
    pass

@dg.job
def migrate():
    work()

defs = dg.Definitions(jobs=[migrate])
"""


@dataclass
class Retries:
    """An instance that retries runs, its daemon for that, and the sensor."""

    instance: DagsterInstance
    workspace: WorkspaceProcessContext

    def daemon(self) -> None:
        """One look of Dagster's retry daemon."""
        daemon = EventLogConsumerDaemon()
        daemon._logger = logging.getLogger("retries")
        list(daemon.run_iteration(self.workspace))

    def sweep(self) -> str:
        with dg.build_sensor_context(instance=self.instance) as context:
            result = lost_retries(context)
        assert isinstance(result, dg.SkipReason)
        return str(result.skip_message)

    def failed_run(self, **tags: str) -> dg.DagsterRun:
        """A run that failed without a step's failure, as a killed one does."""
        context = self.workspace.create_request_context()
        location = context.get_code_location(context.code_location_names[0])
        job = location.get_repository("__repository__").get_full_job("migrate")
        plan = location.get_execution_plan(
            job, {}, step_keys_to_execute=None, known_state=None, instance=self.instance
        )
        run = create_run_for_test(
            self.instance,
            job_name="migrate",
            status=dg.DagsterRunStatus.STARTED,
            tags=tags,
            job_snapshot=job.job_snapshot,
            execution_plan_snapshot=plan.execution_plan_snapshot,
            remote_job_origin=job.get_remote_origin(),
            job_code_origin=job.get_python_origin(),
        )
        self.instance.report_run_failed(run)
        return run

    def lost(self, **tags: str) -> dg.DagsterRun:
        """One whose retry is lost: the daemon came after its event was stored and before it was marked."""
        run = self.failed_run(**tags)
        self.instance.add_run_tags(run.run_id, {WILL_RETRY: "false"})
        self.daemon()
        self.instance.add_run_tags(run.run_id, {WILL_RETRY: "true"})
        self.daemon()
        assert self.retry_of(run) is None
        return run

    def tags(self, run: dg.DagsterRun) -> dict[str, str]:
        found = self.instance.get_run_by_id(run.run_id)
        assert found is not None
        return dict(found.tags)

    def retry_of(self, run: dg.DagsterRun) -> str | None:
        return self.tags(run).get(RETRIED_AS)


@pytest.fixture(scope="module")
def retries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retries]:
    file = tmp_path_factory.mktemp("retries") / "code.py"
    file.write_text(JOB, encoding="utf-8")
    overrides = {
        "run_retries": {"enabled": True, "max_retries": 2},
        "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "QueuedRunCoordinator"},
    }
    target = PythonFileTarget(str(file), None, None, "code")
    with (
        dg.instance_for_test(overrides=overrides) as instance,
        create_test_daemon_workspace_context(target, instance) as workspace,
    ):
        made = Retries(instance, workspace)
        made.daemon()  # from here on it looks at what is new
        yield made


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "LOST_AFTER", timedelta(0))


def test_a_lost_retry_is_made_up_for_once(retries: Retries) -> None:
    run = retries.lost(**{"dagster/partition": "batch-000001"})
    assert retries.sweep() == f"the retry of run {run.run_id} was lost; Dagster is reminded of it"
    assert retries.sweep() == "no retry is lost"  # it is being seen to
    retries.daemon()
    retry = retries.retry_of(run)
    assert retry is not None
    (child,) = retries.instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run.run_id}))
    assert (child.run_id, child.status) == (retry, dg.DagsterRunStatus.QUEUED)
    assert child.tags["dagster/partition"] == "batch-000001"
    retries.daemon()
    assert retries.sweep() == "no retry is lost"
    assert len(retries.instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run.run_id}))) == 1


def test_a_retry_that_dagster_makes_by_itself_is_left_to_it(
    retries: Retries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "LOST_AFTER", timedelta(seconds=60))
    run = retries.failed_run(**{"dagster/partition": "batch-000002"})
    assert retries.sweep() == "no retry is lost"
    retries.daemon()
    assert retries.retry_of(run)
    assert retries.sweep() == "no retry is lost"


def test_a_run_that_a_newer_one_followed_is_not_retried(retries: Retries) -> None:
    batch = {"dagster/partition": "batch-000003"}
    run = retries.lost(**batch)
    newer = create_run_for_test(retries.instance, job_name="migrate", tags=batch)
    assert retries.sweep() == f"run {run.run_id} needs no retry: run {newer.run_id} came after it"
    assert retries.tags(run)[WILL_RETRY] == "false"
    retries.daemon()
    assert retries.retry_of(run) is None


def test_a_promise_that_nobody_keeps_is_taken_back_so_that_no_backfill_waits_for_it(
    retries: Retries, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = retries.lost(**{"dagster/partition": "batch-000004"})
    retries.sweep()
    monkeypatch.setattr(sweep, "GIVE_UP_AFTER", timedelta(0))
    assert "launch it by hand" in retries.sweep()
    assert retries.tags(run)[WILL_RETRY] == "false"
    assert retries.sweep() == "no retry is lost"


def test_an_instance_that_retries_nothing_is_left_alone() -> None:
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance) as context:
        result = lost_retries(context)
    assert isinstance(result, dg.SkipReason)
    assert "retries no runs" in str(result.skip_message)
