"""The job `local_cleanup`: what the CLI's `cleanup` does, from the UI."""

from typing import Any

import dagster as dg
from pydantic import Field

from photo_pipeline.assets.presentation import finding_table
from photo_pipeline.assets.running import explained_failures, log_progress
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.cleanup.clean_up_counts import CleanedUp
from photo_pipeline.core.cleanup.local_files import clean_up, plan_clean_up
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.photo_store import PhotoStoreResource
from photo_pipeline.resources.settings import PipelineSettings


class LocalCleanupConfig(dg.Config):
    """What is cleaned up. How long files wait, the configuration file says (`cleanup`)."""

    batches: list[str] = Field(default=[], description="Only these batches' files; none: all that are due.")
    dry_run: bool = Field(
        default=True, description="Only count what would go; switch it off to move and delete files."
    )


@dg.op
def clean_up_local_files(
    context: dg.OpExecutionContext,
    config: LocalCleanupConfig,
    settings: PipelineSettings,
    database: ApplicationDatabase,
    photo_store: PhotoStoreResource,
) -> None:
    """Move due files to the trash once each original is proven anew; delete what was there long enough."""
    with explained_failures(), database.open() as opened:
        ensure_schema(opened)
        loaded, batches = settings.load(), config.batches or None
        if config.dry_run:
            done = plan_clean_up(opened, loaded, batches=batches)
        else:
            done = clean_up(
                opened,
                loaded,
                photo_store.open(),
                run=context.run_id,
                batches=batches,
                progress=log_progress(context),
            )
    _report(context, done)


def _report(context: dg.OpExecutionContext, done: CleanedUp) -> None:
    rows = [("files", name, each) for name, each in done.files.items() if each.files]
    rows += [("trash", name, each) for name, each in done.trash.items()]
    table = dg.MetadataValue.table(
        [
            dg.TableRecord({"where": where, "class": name, "files": each.files, "bytes": each.bytes})
            for where, name, each in rows
        ],
        schema=dg.TableSchema(
            [
                *(dg.TableColumn(name, "string") for name in ("where", "class")),
                *(dg.TableColumn(name, "int") for name in ("files", "bytes")),
            ]
        ),
    )
    kept = [(outcome, reason) for outcome, reasons in done.reasons.items() for reason in reasons]
    metadata: dict[str, Any] = {
        "dry_run": not done.applied,
        "due": done.files["due"].files,
        "trashed": done.files["trashed"].files,
        "purged": done.trash["purged"].files if "purged" in done.trash else 0,
        "unreferenced_and_kept": done.unreferenced.files,
        "classes": table,
        "reasons": finding_table(kept, first="class", second="reason"),
    }
    context.add_output_metadata(metadata)
    if done.has_findings:
        # A failed run is what people notice; what was moved before is recorded and stays so.
        raise dg.Failure(
            description="Some local files or originals are not what they should be; they were left: "
            + (kept[0][1] if kept else "see the table"),
            metadata=metadata,
            allow_retries=False,
        )


@dg.job(
    description="Moves local files of validated photos to a trash folder, and deletes them for good later."
)
def local_cleanup() -> None:
    """Clean up."""
    clean_up_local_files()
