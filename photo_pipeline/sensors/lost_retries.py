"""The sensor `lost_retries`: reminds Dagster of retries that it has promised and forgotten.

A failed run is marked (`dagster/will_retry`) after its failure was stored. If the daemon that retries runs
reads in between, it skips the run and never looks at it again: the run stays without its retry, and a
backfill waits for that one for ever (facts/dagster.md A4, Dagster's #33741). To the daemon, a second report
of the failure looks new, and it then retries the run as it always does. The tags are private: checked
against 1.13.27.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, PARTITION_NAME_TAG, WILL_RETRY_TAG

REMINDED_TAG = "photo_pipeline/reminded_of_retry"
"""When Dagster was reminded (seconds since 1970); a run is reminded of once."""

LOST_AFTER = timedelta(seconds=60)
"""Dagster retries within seconds; what it has not retried by then it has lost."""
GIVE_UP_AFTER = timedelta(minutes=5)
"""After so long without an answer to the reminder there will be no retry."""
# Older ones are history: somebody has done something else about them.
_NOT_BEFORE = timedelta(days=1)


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sees to it that a failed run which Dagster should have retried is retried, once. Launches "
    "nothing by itself: it has Dagster look at the run again. Where that does not help, or where a newer run "
    "has taken the work over, it takes the promise back, so that nothing waits for it any more.",
)
def lost_retries(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Settle what Dagster has promised and not kept."""
    instance = context.instance
    if not instance.run_retries_enabled:
        return dg.SkipReason("this instance retries no runs (run_retries in dagster.yaml)")
    done = [said for record in _promised(instance) if (said := _settle(instance, record))]
    for said in done:
        context.log.info(said)
    return dg.SkipReason("; ".join(done) or "no retry is lost")


def _promised(instance: dg.DagsterInstance) -> list[RunRecord]:
    now = datetime.now(UTC)
    wanted = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={WILL_RETRY_TAG: "true"},
        updated_after=now - _NOT_BEFORE,
    )
    records = instance.get_run_records(wanted, limit=100)
    return [each for each in records if AUTO_RETRY_RUN_ID_TAG not in each.dagster_run.tags]


def _settle(instance: dg.DagsterInstance, record: RunRecord) -> str:
    """Do what is to be done about one run; return what was done, or an empty text."""
    run, now = record.dagster_run, datetime.now(UTC).timestamp()
    reminded = run.tags.get(REMINDED_TAG)
    if reminded is not None:
        if now - float(reminded) < GIVE_UP_AFTER.total_seconds():
            return ""
        instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})
        return f"run {run.run_id} was not retried although Dagster was reminded: launch it by hand"
    if record.end_time is None or now - record.end_time < LOST_AFTER.total_seconds():
        return ""
    if newer := _newer(instance, record):
        instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})
        return f"run {run.run_id} needs no retry: run {newer} came after it"
    instance.add_run_tags(run.run_id, {REMINDED_TAG: str(int(now))})
    instance.report_run_failed(run, "The retry of this run was lost; Dagster is reminded of it.")
    return f"the retry of run {run.run_id} was lost; Dagster is reminded of it"


def _newer(instance: dg.DagsterInstance, record: RunRecord) -> str:
    """Return the run of the same job on the same partition that was created after this one, if any."""
    run = record.dagster_run
    partition = run.tags.get(PARTITION_NAME_TAG)
    tags = {PARTITION_NAME_TAG: partition} if partition else {}
    (newest,) = instance.get_run_records(dg.RunsFilter(job_name=run.job_name, tags=tags), limit=1)
    return "" if newest.dagster_run.run_id == run.run_id else newest.dagster_run.run_id
