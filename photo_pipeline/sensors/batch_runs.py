"""What Dagster knows of the runs on batches: which are under way, and how the last ones ended.

Uses the names of Dagster's own run tags, which are private: checked against 1.13.27, hence `dagster<1.14`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES, RunRecord
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    AUTO_RETRY_RUN_ID_TAG,
    PARTITION_NAME_TAG,
    WILL_RETRY_TAG,
)

from photo_pipeline.core.migration.driver import MAX_SILENT_ENDS, Act, RunHistory

RETRY_GRACE = timedelta(seconds=180)
"""How long a failed run counts as about to be retried: Dagster takes seconds, the sweep two minutes."""


class BatchRuns:
    """Runs of one Dagster instance, as the driver needs to know them."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._unfinished = instance.get_runs(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))

    def busy(self, batches: list[str]) -> set[str]:
        """Return which of the batches a run is at work on, waits for, or will be retried on by Dagster."""
        found = set(self._backfilled())
        for run in (*self._unfinished, *self._about_to_be_retried()):
            found.update(_partitions(run, batches))
        return found

    @property
    def is_inventory_busy(self) -> bool:
        """Whether an inventory is under way."""
        return any(run.job_name == Act.INVENTORY for run in self._unfinished)

    def history(self, act: Act, batch: str | None, *, since: datetime | None) -> RunHistory:
        """Return how the newest runs of the act ended; what was created before `since` counts no more."""
        tags = {PARTITION_NAME_TAG: batch} if batch else {}
        records = self._instance.get_run_records(
            dg.RunsFilter(job_name=str(act), tags=tags), limit=MAX_SILENT_ENDS
        )
        counted = [each for each in records if since is None or _created(each) >= since]
        statuses = [each.dagster_run.status for each in counted]
        failed = [status is dg.DagsterRunStatus.FAILURE for status in statuses]
        return RunHistory(
            last=records[0].dagster_run.run_id if records else "",
            silent_ends=failed.index(False) if False in failed else len(failed),
            was_cancelled=statuses[:1] == [dg.DagsterRunStatus.CANCELED],
        )

    def _about_to_be_retried(self) -> Iterator[dg.DagsterRun]:
        wanted = dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE],
            tags={WILL_RETRY_TAG: "true"},
            updated_after=datetime.now(UTC) - RETRY_GRACE,
        )
        for run in self._instance.get_runs(wanted):
            if AUTO_RETRY_RUN_ID_TAG not in run.tags:
                yield run

    def _backfilled(self) -> Iterator[str]:
        """Yield the partitions of job backfills under way: they will be launched by these."""
        under_way = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
        for backfill in self._instance.get_backfills(under_way):
            yield from backfill.partition_names or ()


def _partitions(run: dg.DagsterRun, batches: list[str]) -> Iterator[str]:
    if partition := run.tags.get(PARTITION_NAME_TAG):
        yield partition
    first, last = (
        run.tags.get(name) for name in (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
    )
    if first and last:  # keys are numbered, in the order in which they were registered
        yield from (batch for batch in batches if first <= batch <= last)


def _created(record: RunRecord) -> datetime:
    at = record.create_timestamp
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
