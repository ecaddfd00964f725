"""The job `orphan_cleanup`: list, compare, mark, and after the grace period look again and delete.

Each op does its part by itself, in this order; listing and references live in a file of the op that needs
them, since the look before a delete has to be a new one. Deciding what is an orphan is `core.cleanup`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from photo_pipeline.assets.presentation import count_table, finding_table
from photo_pipeline.assets.running import explained_failures, log_progress
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cleanup.drift import Drift, look_for_drift
from photo_pipeline.core.cleanup.listing import Listing
from photo_pipeline.core.cleanup.listing_inventory import InventoryListing
from photo_pipeline.core.cleanup.orphans_bucket import LiveListing, StoreBucket
from photo_pipeline.core.cleanup.orphans_budget import within_limits
from photo_pipeline.core.cleanup.orphans_delete import delete_orphans
from photo_pipeline.core.cleanup.orphans_guards import require_state
from photo_pipeline.core.cleanup.orphans_marks import mark
from photo_pipeline.core.cleanup.orphans_scan import Scan, scan
from photo_pipeline.core.cleanup.orphans_workspace import Workspace
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.photo_store import PhotoStoreResource
from photo_pipeline.resources.settings import PipelineSettings


class OrphanConfig(dg.Config):
    """How far the clean-up goes."""

    do: Literal["report", "mark", "delete"] = Field(
        default="report",
        description="report: look only; mark: also mark orphans; delete: also delete what was marked before.",
    )
    inventory: str = Field(
        default="", description="manifest.json of an S3 Inventory report; empty: the bucket is listed."
    )
    checksums: bool = Field(
        default=True, description="Ask for the checksum of each object that is not known by its ETag yet."
    )
    max_share: float = Field(
        default=0,
        ge=0,
        le=1,
        description="Share of orphans above which to refuse; 0: `orphans.max_share` of the file.",
    )
    unversioned: bool = Field(
        default=False, description="Delete also in a bucket without versions, where nothing can be undone."
    )
    foreign: bool = Field(default=False, description="Also objects whose keys are not of our spelling.")


@contextmanager
def _parts(
    context: dg.OpExecutionContext,
    database: ApplicationDatabase,
    settings: PipelineSettings,
    photo_store: PhotoStoreResource,
) -> Iterator[tuple[Workspace, Database, PipelineConfig, StoreBucket]]:
    with explained_failures(context), database.open() as opened, Workspace() as workspace:
        require_state(opened)
        yield workspace, opened, settings.load(), StoreBucket(opened, photo_store.open())


def _listing(bucket: StoreBucket, inventory: str) -> Listing:
    if inventory:
        return InventoryListing(Path(inventory), bucket=bucket.name)
    return LiveListing(bucket)


@dg.op
def compare_bucket_and_rows(
    context: dg.OpExecutionContext,
    config: OrphanConfig,
    settings: PipelineSettings,
    database: ApplicationDatabase,
    photo_store: PhotoStoreResource,
) -> dict[str, Any]:
    """List the bucket, and compare it with everything that refers to objects, in both directions."""
    progress = log_progress(context)
    with _parts(context, database, settings, photo_store) as (workspace, opened, loaded, bucket):
        listing = _listing(bucket, config.inventory)
        with within_limits(opened, loaded, bucket, checksums=config.checksums):
            found = scan(workspace, opened, loaded, bucket, listing, progress=progress)
            drift = look_for_drift(
                workspace,
                opened,
                loaded,
                bucket,
                checksums=config.checksums,
                remember=True,
                progress=progress,
            )
    context.add_output_metadata(_scan_metadata(found) | _drift_metadata(drift))
    if drift.total:
        context.log.error(
            f"{drift.total} rows whose object is not as it should be, such as {drift.findings[0].key}: "
            f"{drift.findings[0].detail}. Fix: {drift.findings[0].fix}"
        )
    return config.model_dump() | {"drift": drift.total}


@dg.op
def mark_orphans(
    context: dg.OpExecutionContext,
    wish: dict[str, Any],
    settings: PipelineSettings,
    database: ApplicationDatabase,
    photo_store: PhotoStoreResource,
) -> dict[str, Any]:
    """Mark orphans, and take back the marks of what is none any more; nothing if `do` is `report`."""
    if wish["do"] == "report":
        context.log.info("Nothing is marked: `do` says report.")
        return wish
    with _parts(context, database, settings, photo_store) as (workspace, opened, loaded, bucket):
        _, done = mark(
            workspace,
            opened,
            loaded,
            bucket,
            _listing(bucket, wish["inventory"]),
            run=context.run_id,
            apply=True,
            with_foreign=wish["foreign"],
            max_share=wish["max_share"] or None,
            progress=log_progress(context),
        )
    context.add_output_metadata(asdict(done))
    return wish


@dg.op
def delete_orphans_past_grace(
    context: dg.OpExecutionContext,
    wish: dict[str, Any],
    settings: PipelineSettings,
    database: ApplicationDatabase,
    photo_store: PhotoStoreResource,
) -> None:
    """Look again, and delete what was marked long enough ago and is an orphan still; it can be undone."""
    if wish["do"] == "delete":
        _delete(context, wish, settings, database, photo_store)
    else:
        context.log.info("Nothing is deleted: `do` does not say so.")
    if wish["drift"]:
        # A failed run is what people (and alerts) notice.
        raise dg.Failure(
            description=f"{wish['drift']} rows whose object is missing or wrong; see compare_bucket_and_rows",
            allow_retries=False,
        )


def _delete(
    context: dg.OpExecutionContext,
    wish: dict[str, Any],
    settings: PipelineSettings,
    database: ApplicationDatabase,
    photo_store: PhotoStoreResource,
) -> None:
    with _parts(context, database, settings, photo_store) as (workspace, opened, loaded, bucket):
        _, done = delete_orphans(
            workspace,
            opened,
            loaded,
            bucket,
            _listing(bucket, wish["inventory"]),
            run=context.run_id,
            apply=True,
            unversioned=wish["unversioned"],
            with_foreign=wish["foreign"],
            max_share=wish["max_share"] or None,
            progress=log_progress(context),
        )
    numbers = {name: value for name, value in asdict(done).items() if isinstance(value, int)}
    keys = finding_table([(key, "deleted") for key in done.keys], first="key", second="what")
    context.add_output_metadata(numbers | {"keys": keys})
    if done.lost:
        raise dg.Failure(
            description=f"{len(done.lost)} objects are gone, and something refers to them: {done.lost[0]}",
            allow_retries=False,
        )


def _scan_metadata(found: Scan) -> dict[str, Any]:
    census = found.census
    classes = {
        "referred to": census.referenced,
        "fresh": census.fresh,
        "orphans": census.orphans,
        "foreign": census.foreign,
    }
    return {
        "objects": count_table(classes, name="class"),
        "orphans": census.orphans,
        "orphan_bytes": census.orphan_bytes,
        "share": census.share,
        "listing": f"{found.origin}, {found.made_at:%Y-%m-%d %H:%M:%S} UTC",
        "sample": finding_table([(o.key, o.reason) for o in found.orphans], first="key", second="reason"),
    }


def _drift_metadata(drift: Drift) -> dict[str, Any]:
    rows = [(f"{each.where}: {each.key}", f"{each.detail}. {each.fix}") for each in drift.findings]
    return {
        "drift": drift.total,
        "objects_asked_about": drift.asked,
        "drift_findings": finding_table(rows, first="row", second="finding"),
    }


@dg.job(
    description="Finds objects that nothing refers to, and rows whose object is gone; marks orphans, and "
    "deletes those marked long ago, so that it can be undone. Reports only, unless `do` says more."
)
def orphan_cleanup() -> None:
    """List, compare, mark, look again, delete."""
    delete_orphans_past_grace(mark_orphans(compare_bucket_and_rows()))
