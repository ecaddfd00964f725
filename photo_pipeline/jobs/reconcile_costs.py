"""The job `reconcile_costs`: our own ledger beside what AWS has counted."""

import dagster as dg

from photo_pipeline.assets.running import explained_failures
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.cost.reconciliation import Comparison, reconcile
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings


@dg.op
def compare_with_cloudwatch(
    context: dg.OpExecutionContext, settings: PipelineSettings, database: ApplicationDatabase
) -> None:
    """Ask CloudWatch for storage and requests, and show them beside the ledger, which stays as it is."""
    with explained_failures(context), database.open() as opened:
        ensure_schema(opened)
        found = reconcile(opened, settings.load())
    context.add_output_metadata({"comparison": _table(found)})


def _table(found: list[Comparison]) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            {
                "what": each.measure,
                "ours": each.ours,
                "aws": "unknown" if each.theirs is None else str(each.theirs),
                "as of": f"{each.until:%Y-%m-%d %H:%M} UTC",
                "reason": each.reason,
            }
        )
        for each in found
    ]
    return dg.MetadataValue.table(records)


@dg.job(
    description="Compares the request ledger with CloudWatch's storage and request metrics; changes nothing."
)
def reconcile_costs() -> None:
    """Compare."""
    compare_with_cloudwatch()
