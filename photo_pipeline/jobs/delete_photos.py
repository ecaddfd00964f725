"""The job `delete_photos`: what the CLI's `delete` does, from the UI, in two runs: plan, then confirm."""

from typing import Any

import dagster as dg
from pydantic import Field

from photo_pipeline.assets.presentation import finding_table
from photo_pipeline.assets.running import explained_failures, log_progress
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.cleanup.deletion import DeletionOutcome, confirm_deletion
from photo_pipeline.core.cleanup.deletion_plan import DeletionPlan, Selection, plan_deletion
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.photo_store import PhotoStoreResource
from photo_pipeline.resources.settings import PipelineSettings


class DeletePhotosConfig(dg.Config):
    """Which photos. Without a token the run only plans, and its metadata has the token to confirm with."""

    photos: list[int] = Field(default=[], description="Ids in pp_photo (the report's photos.csv has them).")
    batches: list[str] = Field(default=[], description="All photos of these batches.")
    entities: list[str] = Field(default=[], description="All photos of these entities, as TYPE/ID: item/42.")
    confirm: str = Field(
        default="",
        description="Token of the plan that is to be carried out; refused if anything changed since.",
    )


@dg.op
def delete_planned_photos(
    context: dg.OpExecutionContext,
    config: DeletePhotosConfig,
    settings: PipelineSettings,
    database: ApplicationDatabase,
    photo_store: PhotoStoreResource,
) -> None:
    """Plan a deletion, or carry out the plan that the token names: rows first, then what is theirs alone."""
    with explained_failures(), database.open() as opened:
        ensure_schema(opened)
        selection = Selection(
            tuple(config.photos), tuple(config.batches), tuple(_entity(each) for each in config.entities)
        )
        if not config.confirm:
            _report_plan(context, plan_deletion(opened, settings.load(), selection))
            return
        done = confirm_deletion(
            opened,
            settings.load(),
            photo_store.open(),
            config.confirm,
            selection if selection != Selection() else None,
            run=context.run_id,
            progress=log_progress(context),
        )
    _report(context, done)


def _entity(text: str) -> tuple[str, str]:
    kind, slash, name = text.partition("/")
    if not (kind and slash and name):
        raise ConfigurationError(f"entity {text!r}", cause="it is not TYPE/ID", fix="write it as item/42")
    return kind, name


def _report_plan(context: dg.OpExecutionContext, plan: DeletionPlan) -> None:
    rows = [
        (f"{each.source} {each.row_key}", f"{each.act} {', '.join(each.before)}".strip())
        for each in plan.rows
    ]
    rows += [(f"s3://{plan.bucket}/{each.key}", f"deleted, {each.bytes:,} bytes") for each in plan.objects]
    stays = [*plan.shared.items(), *((f"photo {n}", why) for n, why in plan.blocked.items())]
    context.add_output_metadata(
        {
            "token": plan.token,
            "photos": plan.photos,
            "rows": len(plan.rows),
            "objects": len(plan.objects),
            "bytes": plan.bytes,
            "goes": finding_table(rows, first="what", second="how"),
            "stays": finding_table(stays, first="what", second="why"),
        }
    )


def _report(context: dg.OpExecutionContext, done: DeletionOutcome) -> None:
    metadata: dict[str, Any] = {
        "token": done.token,
        "rows": done.rows.get("done", 0),
        "objects": done.objects.get("done", 0),
        "bytes": done.bytes,
        "can_be_undone": done.can_be_undone,
        "kept": finding_table(done.kept.items(), first="what", second="why"),
        "lost": finding_table(done.lost.items(), first="what", second="why"),
    }
    context.add_output_metadata(metadata)


@dg.job(description="Deletes photos with all that is theirs alone; plans first, and confirms by a token.")
def delete_photos() -> None:
    """Delete what was planned."""
    delete_planned_photos()
