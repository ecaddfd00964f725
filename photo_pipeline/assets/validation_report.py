"""The asset `validation_report`."""

import dagster as dg
from pydantic import Field

from photo_pipeline.assets import columns
from photo_pipeline.assets.db_url_rewrites import db_url_rewrites
from photo_pipeline.assets.links import findings_link, page_links, runbook
from photo_pipeline.assets.presentation import finding_table
from photo_pipeline.assets.running import explained_failures, log_progress
from photo_pipeline.core.migration.validate import validate_batch
from photo_pipeline.core.report.findings import VALIDATION_FAILED
from photo_pipeline.partitions import photo_batches
from photo_pipeline.resources.cdn import CdnResource
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings


class ValidationConfig(dg.Config):
    """How much is checked."""

    sample: float = Field(
        default=1.0, gt=0, le=1, description="Share of the batch's migrated photos to check; 1 means all."
    )


@dg.asset(
    partitions_def=photo_batches,
    deps=[db_url_rewrites],
    group_name="photo_migration",
    kinds={"report"},
    owners=["team:photos"],
    metadata=columns.VALIDATIONS | runbook("runbooks/s3-outage.md"),
)
def validation_report(
    context: dg.AssetExecutionContext,
    config: ValidationConfig,
    settings: PipelineSettings,
    database: ApplicationDatabase,
    cdn: CdnResource,
) -> dg.MaterializeResult[None]:
    """The proof from outside: each migrated photo's row, URL, delivered bytes, dimensions and metadata.

    Fetches every variant through the CDN as a browser would. Next: the job `report`.
    """
    with explained_failures(), database.open() as opened, cdn.open() as delivery:
        loaded = settings.load()
        found = validate_batch(
            opened,
            loaded,
            delivery,
            context.partition_key,
            run=context.run.run_id,
            sample=config.sample,
            progress=log_progress(context),
        )
    findings = [
        (f"{each.source} {each.row_key} {each.path}", "; ".join(each.problems)) for each in found.findings
    ]
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": found.checked,
            **page_links(loaded),
            **findings_link(loaded, VALIDATION_FAILED, found.failed),
            "passed": found.passed,
            "failed": found.failed,
            "urls_fetched": found.urls_fetched,
            "bytes_fetched": found.bytes_fetched,
            "findings": finding_table(findings, first="photo", second="problems"),
        }
    )
