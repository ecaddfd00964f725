"""The asset `db_url_rewrites`, in both directions."""

from typing import Literal

import dagster as dg
from pydantic import Field

from photo_pipeline.assets import columns
from photo_pipeline.assets.links import Links, page_links, runbook
from photo_pipeline.assets.presentation import change_table
from photo_pipeline.assets.running import Stopwatch, explained_failures, leased_batch, log_progress
from photo_pipeline.assets.s3_objects import s3_objects
from photo_pipeline.core.catalog.tables import BatchState
from photo_pipeline.core.migration.rewrite import Rewritten, rewrite_batch
from photo_pipeline.core.migration.rollback import OpenStore, RolledBack, rollback_batch
from photo_pipeline.core.migration.state import settle_back, settle_forward
from photo_pipeline.core.report.sizes import FormatSize, batch_size
from photo_pipeline.partitions import photo_batches
from photo_pipeline.resources.cdn import CdnResource
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.photo_store import PhotoStoreResource
from photo_pipeline.resources.settings import PipelineSettings


class RewriteConfig(dg.Config):
    """Where the batch's rows shall point."""

    target: Literal["cdn", "local"] = Field(
        default="cdn", description="cdn: rewrite the rows to the CDN; local: roll them back."
    )


@dg.asset(
    partitions_def=photo_batches,
    deps=[s3_objects],
    group_name="photo_migration",
    kinds={"sql"},
    owners=["team:photos"],
    metadata=columns.REWRITES | runbook("runbooks/rollback-under-pressure.md"),
)
def db_url_rewrites(
    context: dg.AssetExecutionContext,
    config: RewriteConfig,
    settings: PipelineSettings,
    database: ApplicationDatabase,
    photo_store: PhotoStoreResource,
    cdn: CdnResource,
) -> dg.MaterializeResult[None]:
    """The application's rows, pointing to the CDN, or back to the local files (target `local`).

    Only rows whose every object is proven, after a test fetch through the CDN. A row is changed only while it
    still says what was read, and its old value is kept in the same transaction; a row that the application
    edited meanwhile is reported and left. Next: `validation_report`. To take a batch back, run the job
    `rollback` on its partition.
    """
    # A run of `rollback` that was launched with an empty configuration (GraphQL can) would go forward.
    target = "local" if context.job_name == "rollback" else config.target
    state = BatchState.RUNNING if target == "cdn" else BatchState.ROLLING_BACK
    progress, watch = log_progress(context), Stopwatch()
    with explained_failures(), database.open() as opened, leased_batch(context, opened, state) as lease:
        loaded = settings.load()
        links = page_links(loaded)
        if target == "cdn":
            with cdn.open() as delivery:
                done = rewrite_batch(opened, loaded, lease, photo_store.open(), delivery, progress=progress)
            with opened.read() as connection:
                size = batch_size(connection, loaded, lease.batch)
            return _rewritten(done, settle_forward(opened, lease), size, watch, links)
        undone = rollback_batch(opened, loaded, lease, OpenStore(photo_store.open), progress=progress)
        return _rolled_back(undone, settle_back(opened, lease), links)


def _rewritten(
    done: Rewritten, state: BatchState, size: FormatSize | None, watch: Stopwatch, links: Links
) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(
        tags={"url_target": "cdn"},
        metadata={
            "dagster/partition_row_count": done.rows,
            **links,
            "batch_state": str(state),
            "rewritten": done.rewritten,
            "already_done": done.already_done,
            "conflicts": done.conflicts,
            "failed": done.failed,
            "not_ready": done.not_ready,
            "urls_tested": done.canary_urls,
            **watch.per_second(done.rewritten),
            **({"bytes_before": size.before_bytes, "bytes_after": size.after_bytes} if size else {}),
            **({"bytes_saved": size.before_bytes - size.after_bytes} if size else {}),
            "sample": change_table(done.samples),
        },
    )


def _rolled_back(undone: RolledBack, state: BatchState, links: Links) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(
        tags={"url_target": "local"},
        metadata={
            "dagster/partition_row_count": undone.rows,
            **links,
            "batch_state": str(state),
            "rolled_back": undone.rolled_back,
            "conflicts": undone.conflicts,
            "failed": undone.failed,
            "kept_columns": undone.kept_columns,
            "files_restored": undone.files_restored,
            "files_lost": undone.files_lost,
            "sample": change_table(undone.samples),
        },
    )
