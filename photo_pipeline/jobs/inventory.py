"""The job `inventory`."""

import dagster as dg

from photo_pipeline.assets.checksum_catalog import checksum_catalog
from photo_pipeline.assets.local_inventory import local_inventory

inventory = dg.define_asset_job(
    "inventory",
    selection=[local_inventory, checksum_catalog],
    description="Step 1: list and hash the photos and put them into batches. The application is not touched. "
    "Next: the job `migrate`.",
)
