"""The job `migrate`. Partitioned assets only: others would run again in every partition's run."""

import dagster as dg

from photo_pipeline.assets.db_url_rewrites import db_url_rewrites
from photo_pipeline.assets.processed_variants import processed_variants
from photo_pipeline.assets.s3_objects import s3_objects
from photo_pipeline.assets.validation_report import validation_report

migrate = dg.define_asset_job(
    "migrate",
    selection=[processed_variants, s3_objects, db_url_rewrites, validation_report],
    description="Step 2: migrate batches. Pick one partition, or launch a backfill over all of them. "
    "Next: the job `report`. The way back: the job `rollback`.",
)
