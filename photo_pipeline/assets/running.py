"""What every asset does around its one core call: open the batch, log progress, explain failures."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import BatchState
from photo_pipeline.core.errors import PhotoPipelineError
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.state import working_on
from photo_pipeline.core.progress import Progress
from photo_pipeline.core.retry_rules import rule_of
from photo_pipeline.core.runbooks import runbook

# Each log line is an event in Dagster's storage; one every few seconds is enough to follow a batch.
_LOG_EVERY_S = 5.0


@contextmanager
def explained_failures(retried: dg.OpExecutionContext | None = None) -> Iterator[None]:
    """Turn our errors into Dagster failures whose description is the one clear sentence.

    Args:
        retried: The op, where Dagster shall try it again by the rule of its error (`core.retry_rules`): work
            that is safe to repeat and that no driver launches again, as it does batches.
    """
    try:
        yield
    except PhotoPipelineError as error:
        if retried is not None and rule_of(error).retries > retried.retry_number:
            wait_s = rule_of(error).wait_s(retried.retry_number + 1)
            retried.log.warning(f"Tried again in {wait_s:g} s. {error}")
            raise dg.RetryRequested(rule_of(error).retries, wait_s) from error
        raise dg.Failure(
            description=str(error),
            metadata={
                "cause": error.cause,
                "fix": error.fix or "-",
                "kind": type(error).__name__,
                "class": str(error.error_class),
                "runbook": runbook(error),
                "rule": rule_of(error).sentence,
            },
            allow_retries=False,
        ) from error


class Stopwatch:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def per_second(self, count: int) -> dict[str, float]:
        """Return `photos_per_second` so far, or nothing where nothing was done: a plot shows work only."""
        seconds = time.monotonic() - self._started
        return {"photos_per_second": round(count / seconds, 2)} if count and seconds > 0 else {}


@contextmanager
def leased_batch(
    context: dg.AssetExecutionContext, database: Database, state: BatchState
) -> Iterator[BatchLease]:
    """Hold the lease on the run's partition, with the batch marked as `state` meanwhile."""
    ensure_schema(database)
    with (
        BatchLease(database, context.partition_key, run=context.run.run_id) as lease,
        working_on(database, lease, state),
    ):
        yield lease


def log_progress(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Progress:
    """Return a progress that writes to the run's log every few seconds."""
    last = time.monotonic()

    def report(stage: str, done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY_S:
            last = time.monotonic()
            context.log.info(f"{stage}: {done:,}" + (f" of {total:,}" if total else ""))

    return report
