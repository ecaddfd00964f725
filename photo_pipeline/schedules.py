"""What Dagster starts by the clock. All are off until they are switched on in the UI.

Here: when something starts. What it does is in `jobs`.
"""

from datetime import UTC, timedelta

import dagster as dg

from photo_pipeline.core.cron import CronTimes
from photo_pipeline.jobs import reconcile_costs as reconciliation
from photo_pipeline.jobs.orphan_cleanup import orphan_cleanup
from photo_pipeline.jobs.revalidate import revalidate
from photo_pipeline.resources.settings import PipelineSettings

# The time in the configuration can be met this much late. The configuration is read at each tick and not at
# import: definitions load without it.
_TICK = timedelta(minutes=15)


@dg.schedule(
    job=revalidate,
    cron_schedule="*/15 * * * *",
    execution_timezone="UTC",
    description="Looks at a sample of all migrated photos again, at the `validation.schedule` (cron, UTC) of "
    "the configuration file. Ticks every 15 minutes; starts a run when that time has come since.",
)
def revalidation(
    context: dg.ScheduleEvaluationContext, settings: PipelineSettings
) -> dg.RunRequest | dg.SkipReason:
    """Start a run if the configured time has come."""
    wanted = settings.load().validation.schedule
    due = _due(context, wanted)
    if due is None:
        return dg.SkipReason(f"validation.schedule is {wanted!r} (UTC); it is not time yet")
    return dg.RunRequest(run_key=due)


@dg.schedule(
    job=orphan_cleanup,
    cron_schedule="*/15 * * * *",
    execution_timezone="UTC",
    description="Cleans the bucket at the `orphans.schedule` (cron, UTC) of the configuration file, as far "
    "as `orphans.schedule_does` says. Ticks every 15 minutes; starts a run when that time has come since.",
)
def orphan_sweep(
    context: dg.ScheduleEvaluationContext, settings: PipelineSettings
) -> dg.RunRequest | dg.SkipReason:
    """Start a run if the configured time has come."""
    wanted = settings.load().orphans
    due = _due(context, wanted.schedule)
    if due is None:
        return dg.SkipReason(f"orphans.schedule is {wanted.schedule!r} (UTC); it is not time yet")
    config = {"ops": {"compare_bucket_and_rows": {"config": {"do": wanted.schedule_does}}}}
    return dg.RunRequest(run_key=due, run_config=config)


@dg.schedule(
    name="reconcile_costs",
    job=reconciliation.reconcile_costs,
    cron_schedule="30 6 * * *",
    execution_timezone="UTC",
    description="Compares the request ledger with CloudWatch once a day, at 06:30 UTC, when AWS has closed "
    "its day.",
)
def reconcile_costs(
    context: dg.ScheduleEvaluationContext, settings: PipelineSettings
) -> dg.RunRequest | dg.SkipReason:
    """Start a run of the day, on AWS only."""
    if settings.load().store.endpoint_url is not None:
        return dg.SkipReason("store.endpoint_url is set: only AWS reports to CloudWatch")
    return dg.RunRequest(run_key=f"{context.scheduled_execution_time:%Y-%m-%d}")


SCHEDULES = [revalidation, orphan_sweep, reconcile_costs]


def _due(context: dg.ScheduleEvaluationContext, schedule: str) -> str | None:
    """Return the minute that the schedule names since the last tick, if it does."""
    now = context.scheduled_execution_time.astimezone(UTC)
    due = CronTimes.parse(schedule).last_in(now - _TICK, now)
    return None if due is None else f"{due:%Y-%m-%dT%H:%M}"
