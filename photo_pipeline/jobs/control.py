"""The jobs `pause`, `resume` and `abort`: what the CLI's commands of these names do, from the UI."""

from collections.abc import Callable

import dagster as dg
from pydantic import Field

from photo_pipeline.assets.running import explained_failures
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.migration import control
from photo_pipeline.core.migration.watch import Wish
from photo_pipeline.resources.database import ApplicationDatabase


class ControlConfig(dg.Config):
    """Why the migration is stopped, or goes on."""

    reason: str = Field(default="", description="Why, for whoever finds it so; kept in the audit log.")


@dg.op
def pause_migration(
    context: dg.OpExecutionContext, config: ControlConfig, database: ApplicationDatabase
) -> None:
    """Let every run stop after the photo in hand."""
    _carry_out(context, config, database, control.pause)


@dg.op
def resume_migration(
    context: dg.OpExecutionContext, config: ControlConfig, database: ApplicationDatabase
) -> None:
    """Allow work again after a pause or an abort."""
    _carry_out(context, config, database, control.resume)


@dg.op
def abort_migration(
    context: dg.OpExecutionContext, config: ControlConfig, database: ApplicationDatabase
) -> None:
    """End the migration after the photo in hand."""
    _carry_out(context, config, database, control.abort)


def _carry_out(
    context: dg.OpExecutionContext,
    config: ControlConfig,
    database: ApplicationDatabase,
    act: Callable[..., Wish],
) -> None:
    with explained_failures(), database.open() as opened:
        ensure_schema(opened)
        wish = act(opened, reason=config.reason, run=context.run.run_id)
    context.log.info(wish.sentence or "the migration may run again")


@dg.job(description="Stops all batches after the photo in hand. Go on with the job `resume`.")
def pause() -> None:
    """Stop, to go on later."""
    pause_migration()


@dg.job(description="Allows work again after a pause or an abort; then launch the batches again.")
def resume() -> None:
    """Go on."""
    resume_migration()


@dg.job(description="Ends the migration after the photo in hand; take it back with the job `rollback`.")
def abort() -> None:
    """Stop for good."""
    abort_migration()
