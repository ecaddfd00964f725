"""The asset `processed_variants`."""

import dagster as dg
from pydantic import Field

from photo_pipeline.assets.checksum_catalog import checksum_catalog
from photo_pipeline.assets.links import page_links, runbook
from photo_pipeline.assets.presentation import before_after, failure_table, quality_facts
from photo_pipeline.assets.running import Stopwatch, explained_failures, leased_batch, log_progress
from photo_pipeline.core.catalog.tables import BatchState
from photo_pipeline.core.migration.process import process_batch
from photo_pipeline.partitions import photo_batches
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.image_workers import ImageWorkersResource
from photo_pipeline.resources.settings import PipelineSettings


class VariantConfig(dg.Config):
    """What to do with photos that failed before."""

    retry_failed: bool = Field(default=False, description="Try this batch's quarantined photos again.")
    include_rolled_back: bool = Field(
        default=False,
        description="Also migrate photos again that were rolled back one by one. "
        "A batch that was rolled back as a whole is migrated again by being run at all.",
    )


@dg.asset(
    partitions_def=photo_batches,
    deps=[checksum_catalog],
    group_name="photo_migration",
    kinds={"python", "file"},
    owners=["team:photos"],
    metadata=runbook("runbooks/migration-stuck.md"),
)
def processed_variants(
    context: dg.AssetExecutionContext,
    config: VariantConfig,
    settings: PipelineSettings,
    database: ApplicationDatabase,
    image_workers: ImageWorkersResource,
) -> dg.MaterializeResult[None]:
    """The batch's photos as small web variants (AVIF, WebP, JPEG), upright, sRGB, without metadata.

    A photo that cannot be decoded is quarantined with its reason; the batch goes on. Variants that are
    already there are not made again. The visual quality of a sample is measured. Next: `s3_objects`.
    """
    watch = Stopwatch()
    with (
        explained_failures(),
        database.open() as opened,
        leased_batch(context, opened, BatchState.RUNNING) as lease,
    ):
        loaded = settings.load()
        made = process_batch(
            opened,
            loaded,
            lease,
            image_workers.open,
            retry_failed=config.retry_failed,
            include_rolled_back=config.include_rolled_back,
            progress=log_progress(context),
        )
    return dg.MaterializeResult(
        metadata={
            "before_after": before_after(made.samples),
            "dagster/partition_row_count": made.photos,
            **page_links(loaded),
            **watch.per_second(made.done),
            "done": made.done,
            "reused": made.reused,
            "quarantined": made.quarantined,
            "quarantined_by_class": failure_table(made.failures),
            "retried": made.retried,
            "variants_made": made.variants_made,
            "source_bytes": made.source_bytes,
            "variant_bytes": made.variant_bytes,
            "encodes": made.encodes,
            "missed_targets": made.missed_targets,
            **quality_facts(made.quality),
            "seconds": {stage: round(value, 3) for stage, value in made.seconds.items()},
        }
    )
