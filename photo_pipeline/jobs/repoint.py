"""The job `repoint`: what the CLI's command of this name does, from the UI."""

from typing import Any

import dagster as dg
from pydantic import Field

from photo_pipeline.assets.presentation import change_table
from photo_pipeline.assets.running import explained_failures, log_progress
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.migration.repoint import Repointed
from photo_pipeline.core.migration.run import repoint_leased
from photo_pipeline.core.migration.selection import batches_to_validate
from photo_pipeline.resources.cdn import CdnResource
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.image_workers import ImageWorkersResource
from photo_pipeline.resources.photo_store import PhotoStoreResource
from photo_pipeline.resources.settings import PipelineSettings


class RepointConfig(dg.Config):
    """What is moved. Where to, the configuration file says."""

    batches: list[str] = Field(default=[], description="Batch keys; none: every batch with migrated photos.")
    recipe: bool = Field(
        default=False, description="Also make the variants of the present presets, and show those."
    )


@dg.op
def repoint_batches(
    context: dg.OpExecutionContext,
    config: RepointConfig,
    settings: PipelineSettings,
    database: ApplicationDatabase,
    photo_store: PhotoStoreResource,
    cdn: CdnResource,
    image_workers: ImageWorkersResource,
) -> None:
    """Rewrite migrated rows to the present address: objects proven, canary, compare-and-swap, ledger."""
    done: dict[str, Repointed] = {}
    with explained_failures(), database.open() as opened, cdn.open() as delivery:
        ensure_schema(opened)
        loaded, store = settings.load(), photo_store.open()
        for batch in batches_to_validate(opened, wanted=config.batches):
            done[batch] = repoint_leased(
                opened,
                loaded,
                batch,
                store,
                delivery,
                image_workers.open,
                run=context.run_id,
                present_recipe=config.recipe,
                progress=log_progress(context),
            )
    _report(context, done)


def _report(context: dg.OpExecutionContext, done: dict[str, Repointed]) -> None:
    names = ("repointed", "already_there", "conflicts", "failed", "not_ready", "objects")
    totals = {name: sum(getattr(each, name) for each in done.values()) for name in names}
    samples = [change for each in done.values() for change in each.samples]
    metadata: dict[str, Any] = {"batches": len(done), **totals, "sample": change_table(samples[:10])}
    context.add_output_metadata(metadata)
    reasons = [reason for each in done.values() for reason in each.reasons]
    if totals["failed"] or totals["not_ready"]:
        # A failed run is what people notice; rows that the application has edited since are no failure.
        why = reasons[0] if reasons else "see the report"
        raise dg.Failure(
            description=f"{totals['failed'] + totals['not_ready']} photos still show the old address: {why}",
            metadata=metadata,
            allow_retries=False,
        )


@dg.job(
    description="Moves migrated rows to the CDN address, prefix or recipe that the configuration has now."
)
def repoint() -> None:
    """Follow the configuration."""
    repoint_batches()
