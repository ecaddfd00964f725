"""The asset `local_inventory`."""

import dagster as dg

from photo_pipeline.assets import columns
from photo_pipeline.assets.links import page_links, runbook
from photo_pipeline.assets.presentation import count_table
from photo_pipeline.assets.running import explained_failures, log_progress
from photo_pipeline.core.migration.delta import take_pass
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings


@dg.asset(
    group_name="photo_migration",
    kinds={"file", "sql"},
    owners=["team:photos"],
    metadata=columns.INVENTORY | runbook("troubleshooting.md"),
)
def local_inventory(
    context: dg.AssetExecutionContext, settings: PipelineSettings, database: ApplicationDatabase
) -> dg.MaterializeResult[None]:
    """Every local file and every row that names a photo, each in exactly one class.

    Scans the folders, reads the application's tables through the source mapping, and reconciles the two.
    Changes nothing in the application. Next: `checksum_catalog`.
    """
    with explained_failures(), database.open() as opened:
        loaded = settings.load()
        inventory = take_pass(opened, loaded, run=context.run.run_id, progress=log_progress(context))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": inventory.references,
            **page_links(loaded),
            "files": inventory.files,
            "rows": inventory.rows,
            "references": inventory.references,
            "empty_fields": inventory.empty_fields,
            "unreferenced_files": inventory.unreferenced_files,
            "classes": count_table(inventory.by_class, name="class"),
        }
    )
