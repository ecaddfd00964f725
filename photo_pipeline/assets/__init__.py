"""The steps of a migration as Dagster's assets, one module each, in the order in which they run."""

from photo_pipeline.assets import (
    checksum_catalog,
    db_url_rewrites,
    local_inventory,
    migration_report,
    processed_variants,
    s3_objects,
    validation_report,
)

ASSETS = [
    local_inventory.local_inventory,
    checksum_catalog.checksum_catalog,
    processed_variants.processed_variants,
    s3_objects.s3_objects,
    db_url_rewrites.db_url_rewrites,
    validation_report.validation_report,
    migration_report.migration_report,
]
