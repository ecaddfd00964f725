"""The sensors that tell people, on a real instance's storage and a real webhook."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from photo_pipeline.assets.running import explained_failures
from photo_pipeline.core.errors import BudgetError
from photo_pipeline.definitions import defs
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings
from photo_pipeline.schedules import reconcile_costs
from photo_pipeline.sensors.alerts import alerts, run_failures
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.receivers import Webhook, webhook_server
from photo_pipeline_tests.sites import Site
from photo_pipeline_tests.test_sensors import LIMITS, use

SLACK = {"channels": ["slack"]}


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with webhook_server() as running:
        monkeypatch.setenv("PHOTO_PIPELINE_SLACK_WEBHOOK_URL", running.url)
        yield running


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def tick() -> str:
    settings = PipelineSettings()
    resources = {"settings": settings, "database": ApplicationDatabase(settings=settings)}
    with dg.build_sensor_context(resources=resources) as context:
        result = alerts(context)
    assert isinstance(result, dg.SkipReason)
    return str(result.skip_message)


def test_the_sensor_tells_once_what_is_wrong_and_nothing_before_the_first_migration(
    make_site: MakeSite, webhook: Webhook
) -> None:
    site = make_site(photos=0, limits=LIMITS, alerts=SLACK)
    assert tick() == "nothing has been migrated yet"
    use(site, 1)
    assert tick() == "nothing is wrong"
    use(site, 1_900)
    assert "Uploads are suspended by the cost guard" in tick()
    told = list(webhook.texts)
    assert any("Uploads are suspended" in text for text in told)
    tick()
    assert webhook.texts == told


@dg.op
def spend() -> None:
    with explained_failures():
        raise BudgetError("batch-000001", cause="the limit is near", fix="wait")


@dg.op
def crash() -> None:
    raise ValueError("a bug")


@dg.job
def spending_job() -> None:
    spend()


@dg.job
def crashing_job() -> None:
    crash()


def fail(job: dg.JobDefinition, instance: dg.DagsterInstance, *, will_retry: bool = False) -> None:
    """Let the job run and fail, and call the sensor as the daemon would."""
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    if will_retry:
        instance.add_run_tags(result.run_id, {"dagster/will_retry": "true"})
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    with dg.build_run_status_sensor_context(
        sensor_name="run_failures",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=instance,
        dagster_run=run,
        resources={"settings": PipelineSettings()},
    ) as context:
        run_failures(context.for_run_failure())


def rows(site: Site) -> list[tuple[str, int]]:
    found = site.execute("SELECT subject, times FROM pp_alert WHERE kind = 'run_failed' ORDER BY subject")
    return [(row[0], row[1]) for row in found]


def test_a_failed_run_is_told_with_its_reason_once_a_kind_of_error(
    make_site: MakeSite, webhook: Webhook, instance: dg.DagsterInstance
) -> None:
    site = make_site(photos=0, alerts=SLACK)
    site.uploads.rmdir()
    job = defs.resolve_job_def("inventory")
    fail(job, instance)
    fail(job, instance)
    fail(crashing_job, instance)
    first, second = webhook.texts
    assert "The run inventory has failed: InfrastructureError" in first
    assert str(site.uploads) in first
    assert "crashing_job has failed: ValueError" in second
    assert "a bug" in second
    assert rows(site) == [("crashing_job: ValueError", 1), ("inventory: InfrastructureError", 2)]


def test_runs_that_are_tried_again_or_stopped_on_purpose_are_no_news(
    make_site: MakeSite, webhook: Webhook, instance: dg.DagsterInstance
) -> None:
    make_site(photos=0, alerts=SLACK)
    fail(crashing_job, instance, will_retry=True)
    fail(spending_job, instance)
    assert webhook.texts == []
    fail(crashing_job, instance)
    assert len(webhook.texts) == 1


def test_a_failed_run_is_told_although_the_database_is_gone(
    make_site: MakeSite, webhook: Webhook, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=0, alerts=SLACK)
    monkeypatch.setenv("APP_DATABASE_URL", f"sqlite:///{site.home / 'gone.db'}")
    fail(crashing_job, instance)
    (text,) = webhook.texts
    assert "crashing_job has failed" in text
    assert "could not be written down" in text


def test_the_reconciliation_is_for_stores_at_aws_only(make_site: MakeSite) -> None:
    site = make_site(photos=0)
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2026, 11, 20, 6, 30, tzinfo=UTC),
        resources={"settings": PipelineSettings()},
    )
    assert isinstance(reconcile_costs(context), dg.SkipReason)
    site.configure(store=site.settings["store"] | {"endpoint_url": None})
    request = reconcile_costs(context)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == "2026-11-20"
