"""The asset `s3_objects`."""

import dagster as dg

from photo_pipeline.assets import columns
from photo_pipeline.assets.links import page_links, runbook
from photo_pipeline.assets.presentation import count_table, failure_table, requests_usd
from photo_pipeline.assets.processed_variants import processed_variants
from photo_pipeline.assets.running import Stopwatch, explained_failures, leased_batch, log_progress
from photo_pipeline.core.catalog.tables import BatchState
from photo_pipeline.core.migration.upload import upload_batch
from photo_pipeline.partitions import photo_batches
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.image_workers import ImageWorkersResource
from photo_pipeline.resources.photo_store import PhotoStoreResource
from photo_pipeline.resources.settings import PipelineSettings

# Closing this pool (limit 0) holds uploads back while rollbacks still run.
UPLOAD_POOL = "s3_upload"


@dg.asset(
    partitions_def=photo_batches,
    deps=[processed_variants],
    pool=UPLOAD_POOL,
    group_name="photo_migration",
    kinds={"s3"},
    owners=["team:photos"],
    metadata=columns.OBJECTS | runbook("runbooks/s3-outage.md"),
)
def s3_objects(
    context: dg.AssetExecutionContext,
    settings: PipelineSettings,
    database: ApplicationDatabase,
    photo_store: PhotoStoreResource,
    image_workers: ImageWorkersResource,
) -> dg.MaterializeResult[None]:
    """The batch's variants and untouched originals in the bucket, each proven there by its SHA-256.

    Nothing is overwritten, and nothing that an earlier run proved is sent again. Next: `db_url_rewrites`.
    """
    watch = Stopwatch()
    with (
        explained_failures(),
        database.open() as opened,
        leased_batch(context, opened, BatchState.RUNNING) as lease,
    ):
        loaded = settings.load()
        sent = upload_batch(
            opened,
            loaded,
            lease,
            photo_store.open(),
            image_workers.open,
            progress=log_progress(context),
        )
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": sent.objects,
            **page_links(loaded),
            **watch.per_second(sent.photos if sent.uploaded else 0),
            "uploaded": sent.uploaded,
            "adopted": sent.adopted,
            "reused": sent.reused,
            "quarantined": sent.quarantined,
            "quarantined_by_class": failure_table(sent.failures),
            "bytes_sent": sent.bytes,
            "proven_by": sent.verification or "earlier run",
            "store": sent.store or "not asked: everything was proven by an earlier run",
            "requests_usd": round(requests_usd(sent.requests, loaded), 6),
            "requests": count_table(sent.requests, name="request"),
        }
    )
