"""The sensors `alerts` and `run_failures`: what is wrong is told over the channels of the configuration.

What is wrong, and what was told already, is `core.alerts`'s to know; `photo-pipeline alerts check` does the
same without Dagster.
"""

import dagster as dg
from dagster._core.storage.tags import WILL_RETRY_TAG

from photo_pipeline.core.alerts.alert import Alert, AlertKind
from photo_pipeline.core.alerts.delivery import Sent
from photo_pipeline.core.alerts.watch import look, report_event
from photo_pipeline.core.catalog.schema import schema_exists
from photo_pipeline.core.errors import BudgetError, PausedError
from photo_pipeline.core.project import open_database
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings
from photo_pipeline.sensors.configured import configured

# Runs that a person or the cost guard has stopped: the alert about that says more.
_STOPPED = (PausedError.__name__, BudgetError.__name__)


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Looks each minute whether something is wrong, and tells the channels of `alerts` in the "
    "configuration file: costs near a limit, uploads suspended, failing or slow photos, validation findings, "
    "paths outside of the roots, a broken audit log, infrastructure that is not as configured. "
    "Its last tick says what is wrong now.",
)
def alerts(
    context: dg.SensorEvaluationContext, settings: PipelineSettings, database: ApplicationDatabase
) -> dg.SkipReason:
    """Tell what is wrong, once."""
    config = configured(settings)
    if isinstance(config, dg.SkipReason):
        return config
    with database.open() as opened:
        if not schema_exists(opened):
            return dg.SkipReason("nothing has been migrated yet")
        looked = look(opened, config)
    _log(context, looked.sent)
    wrong = "; ".join(alert.title for alert in looked.holds)
    return dg.SkipReason(wrong or "nothing is wrong")


@dg.run_failure_sensor(
    name="run_failures",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells the channels of `alerts` in the configuration file of failed runs, once a job and "
    "kind of error; not of runs that are tried again by themselves, or were stopped on purpose.",
)
def run_failures(context: dg.RunFailureSensorContext, settings: PipelineSettings) -> dg.SkipReason | None:
    """Tell of the run."""
    alert = _alert(context)
    if alert is None:
        return dg.SkipReason("it is tried again by itself, or was stopped on purpose")
    config = configured(settings, else_say=f"Nobody is told that {alert.title}. ")
    if isinstance(config, dg.SkipReason):
        return config
    _log(context, report_event(lambda: open_database(config), config, alert))
    return None


def _alert(context: dg.RunFailureSensorContext) -> Alert | None:
    """Return what is to be told of the run, or None."""
    run = context.dagster_run
    if run.tags.get(WILL_RETRY_TAG) == "true":
        return None
    kind, text = _error(context)
    if kind in _STOPPED:
        return None
    batch = run.tags.get("dagster/partition")
    what = f"{run.job_name}" + (f" of {batch}" if batch else "")
    return Alert(
        AlertKind.RUN_FAILED,
        f"{run.job_name}: {kind}",
        f"The run {what} has failed: {kind}",
        f"{text}\nRun {run.run_id} in the Dagster UI.",
    )


def _error(context: dg.RunFailureSensorContext) -> tuple[str, str]:
    """Return the kind of error and its sentence, of the step that failed first."""
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        failure = data.user_failure_data
        if failure is not None:
            value = failure.metadata.get("kind")
            return str(value.value if value else "Failure"), failure.description or "it gives no reason"
        error = data.error
        if error is not None:
            inner = error.cause or error
            return inner.cls_name or "error", " ".join(inner.message.split())
    return "run worker", context.failure_event.message or "the run's process ended without a word"


def _log(
    context: dg.SensorEvaluationContext | dg.RunFailureSensorContext, sent: list[Sent] | tuple[Sent, ...]
) -> None:
    for each in sent:
        if each.error:
            context.log.error(f"{each.channel} could not tell: {each.title}: {each.error}")
        else:
            context.log.info(f"told {each.channel}: {each.title}")
