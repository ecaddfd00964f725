"""The asset `checksum_catalog`."""

import dagster as dg
from pydantic import Field

from photo_pipeline.assets import columns
from photo_pipeline.assets.links import page_links, runbook
from photo_pipeline.assets.local_inventory import local_inventory
from photo_pipeline.assets.running import explained_failures, log_progress
from photo_pipeline.core.catalog.batches import assign_batches
from photo_pipeline.core.catalog.checksums import hash_matched_files
from photo_pipeline.core.migration.delta import finish_pass
from photo_pipeline.partitions import register_batches
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings


class ChecksumConfig(dg.Config):
    """How thorough the checksums are."""

    rehash: bool = Field(
        default=False,
        description="Read every file again, also those whose size, time and inode are unchanged.",
    )


@dg.asset(
    deps=[local_inventory],
    group_name="photo_migration",
    kinds={"sql"},
    owners=["team:photos"],
    metadata=columns.CHECKSUMS | runbook("troubleshooting.md"),
)
def checksum_catalog(
    context: dg.AssetExecutionContext,
    config: ChecksumConfig,
    settings: PipelineSettings,
    database: ApplicationDatabase,
) -> dg.MaterializeResult[None]:
    """SHA-256 of every matched file, exact duplicates, and the batches that photos are migrated in.

    Registers each batch as a partition of `photo_batches`. A photo's batch never changes; photos that
    appear later go to new batches. Next: the job `migrate`, on one partition or as a backfill.
    """
    with explained_failures(), database.open() as opened:
        loaded = settings.load()
        sums = hash_matched_files(opened, loaded, rehash=config.rehash, progress=log_progress(context))
        batches = assign_batches(opened, loaded)
        found = finish_pass(opened)
    register_batches(context.instance, batches.keys)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sums.hashed + sums.reused,
            **page_links(loaded),
            "hashed": sums.hashed,
            "reused": sums.reused,
            "failed": sums.failed,
            "bytes_read": sums.bytes_read,
            "duplicate_files": sums.duplicate_files,
            "batches": len(batches.keys),
            "new_batches": len(batches.new),
            "pass": found.sentence if found else "this inventory was recorded before",
        }
    )
