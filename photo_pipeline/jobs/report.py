"""The job `report`."""

import dagster as dg

from photo_pipeline.assets.migration_report import migration_report

report = dg.define_asset_job(
    "report",
    selection=[migration_report],
    description="Step 3: write the migration report, whose findings say what to do.",
)
