"""The asset `migration_report`."""

import dagster as dg

from photo_pipeline.assets.links import dashboard_link, report_link, runbook
from photo_pipeline.assets.presentation import report_facts
from photo_pipeline.assets.running import explained_failures
from photo_pipeline.assets.validation_report import validation_report
from photo_pipeline.core.report.write import write_report
from photo_pipeline.resources.cdn import CdnResource
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings


@dg.asset(
    deps=[validation_report],
    group_name="photo_migration",
    kinds={"report", "json", "csv"},
    owners=["team:photos"],
    metadata=runbook("runbooks/index.md"),
)
def migration_report(
    settings: PipelineSettings, database: ApplicationDatabase, cdn: CdnResource
) -> dg.MaterializeResult[None]:
    """The whole story so far as one HTML page with before/after pictures, and as JSON, CSV and Parquet.

    Can be written at any time, also in the middle. Next: look at its `findings`; each says what to do.
    To take batches back, run the job `rollback` on their partitions.
    """
    with explained_failures(), database.open() as opened, cdn.open() as delivery:
        loaded = settings.load()
        files = write_report(opened, loaded, delivery)
    return dg.MaterializeResult(
        metadata={
            **report_link(loaded, otherwise=files.html.as_uri()),
            **dashboard_link(loaded),
            **report_facts(files.data),
            "report_file": dg.MetadataValue.path(files.html),
            "json_file": dg.MetadataValue.path(files.json),
            "csv_file": dg.MetadataValue.path(files.csv),
            "parquet_file": dg.MetadataValue.path(files.parquet),
        }
    )
