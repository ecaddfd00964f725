"""The job `rehearse_rollback`: a rollback tried on real rows, in a transaction that is undone."""

import dagster as dg
from pydantic import Field

from photo_pipeline.assets.running import explained_failures
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.migration.rehearsal import rehearse_rollback as rehearse
from photo_pipeline.core.migration.selection import batches_to_rehearse
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings


class RehearsalConfig(dg.Config):
    """What is rehearsed."""

    batches: list[str] = Field(
        default=[], description="Batch keys; none: the first migrated batch and the first open one."
    )
    rows: int = Field(default=20, ge=1, le=1000, description="Rows of each batch; they are locked meanwhile.")


@dg.op
def rehearse_batches(
    context: dg.OpExecutionContext,
    config: RehearsalConfig,
    settings: PipelineSettings,
    database: ApplicationDatabase,
) -> None:
    """Rewrite and roll back sample rows in one transaction, compare every column, and undo it all."""
    with explained_failures(), database.open() as opened:
        ensure_schema(opened)
        done = [
            rehearse(opened, settings.load(), key, rows=config.rows, run=context.run_id)
            for key in batches_to_rehearse(opened, wanted=config.batches)
        ]
    context.add_output_metadata(
        {r.batch: f"{r.exact} of {r.rows} rows exact, {r.edited} edited" for r in done}
    )
    broken = [line for result in done for line in (*result.refused, *result.differing)]
    if broken:
        description = f"{len(broken)} rows would not come back exactly: {broken[0]}"
        raise dg.Failure(description=description, allow_retries=False)


@dg.job(description="Proves on sample rows that a rollback restores them exactly. Nothing is changed.")
def rehearse_rollback() -> None:
    """Rehearse."""
    rehearse_batches()
