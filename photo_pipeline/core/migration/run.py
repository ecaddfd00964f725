"""Whole operations on batches, one step after the other, for faces without a scheduler of their own.

Dagster runs the same steps as assets, each under the same lease rules.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import (
    BatchState,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.process import Processed, Workers, process_batch, release_photos
from photo_pipeline.core.migration.repoint import Repointed, repoint_batch
from photo_pipeline.core.migration.rewrite import Rewritten, rewrite_batch
from photo_pipeline.core.migration.rollback import OpenStore, RolledBack, rollback_batch
from photo_pipeline.core.migration.selection import locate_photos
from photo_pipeline.core.migration.state import (
    settle_back,
    settle_forward,
    settle_partly_back,
    working_on,
)
from photo_pipeline.core.migration.upload import Uploaded, upload_batch
from photo_pipeline.core.migration.validate import Validated, validate_batch
from photo_pipeline.core.migration.watch import Wish, require_running
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage.store import PhotoStore


def new_run_id() -> str:
    """Return an id for the ledger and the lease, unique to one run."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class MigratedBatch:
    """What one run of a batch did, step by step; `seconds` is wall time by step."""

    batch: str
    state: str
    processed: Processed
    uploaded: Uploaded
    rewritten: Rewritten
    validated: Validated
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def has_findings(self) -> bool:
        """Whether a person should look: quarantined photos, conflicts, failures, failed validation."""
        return bool(
            self.state != BatchState.COMPLETED
            or self.processed.quarantined
            or self.uploaded.quarantined
            or self.rewritten.conflicts
            or self.rewritten.failed
            or self.validated.failed
        )


class _Stopwatch:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def migrate_batch(
    project: Project,
    batch: str,
    *,
    run: str,
    retry_failed: bool = False,
    include_rolled_back: bool = False,
    validation_sample: float = 1.0,
    progress: Progress = no_progress,
) -> MigratedBatch:
    """Process, upload, rewrite and validate one batch. Safe to repeat: done work is not done again.

    Raises:
        PausedError: a person stopped the migration; what was done is kept and continued by the next run.
        PhotoPipelineError: the store, the CDN, the database or the configuration stops the batch as a
            whole; what was done until then is kept and continued by the next run.
    """
    database, config, watch = project.database, project.config, _Stopwatch()
    with BatchLease(database, batch, run=run) as lease, working_on(database, lease, BatchState.RUNNING):
        with watch.step("variants"):
            processed = process_batch(
                database,
                config,
                lease,
                project.workers,
                retry_failed=retry_failed,
                include_rolled_back=include_rolled_back,
                progress=progress,
            )
        with watch.step("upload"):
            uploaded = upload_batch(
                database, config, lease, project.store, project.workers, progress=progress
            )
        with watch.step("rewrite"):
            rewritten = rewrite_batch(database, config, lease, project.store, project.cdn, progress=progress)
        state = settle_forward(database, lease)
    require_running(database)  # what was not validated will be by the next run
    with watch.step("validation"):
        validated = validate_batch(
            database, config, project.cdn, batch, run=run, sample=validation_sample, progress=progress
        )
    return MigratedBatch(batch, state, processed, uploaded, rewritten, validated, watch.seconds)


def roll_back_batch(
    project: Project,
    batch: str,
    *,
    run: str,
    only_photos: Sequence[int] | None = None,
    wish_before: Wish | None = None,
    progress: Progress = no_progress,
) -> RolledBack:
    """Take one batch's rows back to their local values, or only what goes back with some photos.

    Args:
        project: The installation.
        batch: The batch's key.
        run: The id of this run.
        only_photos: Photos of the batch; None: all of it.
        wish_before: What was wanted of the migration before the first of several batches was begun: a pause
            between two of them shall stop the rest.
        progress: Told after each chunk of rows.

    Raises:
        PausedError: somebody paused it while it ran; what was done is kept.
        PhotoPipelineError: the database stops the rollback as a whole; what was done is kept.
    """
    database = project.database
    store = OpenStore(lambda: project.store)
    with BatchLease(database, batch, run=run) as lease:
        if only_photos is not None:
            # Not `rolling_back` meanwhile: an interruption would commit the whole batch to going back.
            outcome = rollback_batch(
                database,
                project.config,
                lease,
                store,
                only_photos=only_photos,
                wish_before=wish_before,
                progress=progress,
            )
            settle_partly_back(database, lease)
            return outcome
        with working_on(database, lease, BatchState.ROLLING_BACK):
            outcome = rollback_batch(
                database, project.config, lease, store, wish_before=wish_before, progress=progress
            )
            settle_back(database, lease)
    return outcome


def repoint_whole_batch(
    project: Project,
    batch: str,
    *,
    run: str,
    present_recipe: bool = False,
    progress: Progress = no_progress,
) -> Repointed:
    """Move one batch's migrated rows to the address (and recipe) that the configuration has now.

    Raises:
        PausedError: the migration is paused or aborted; what was done is kept.
        PhotoPipelineError: the store, the CDN or the database stops it; what was done is kept.
    """
    return repoint_leased(
        project.database,
        project.config,
        batch,
        project.store,
        project.cdn,
        project.workers,
        run=run,
        present_recipe=present_recipe,
        progress=progress,
    )


def repoint_leased(
    database: Database,
    config: PipelineConfig,
    batch: str,
    store: PhotoStore,
    cdn: Cdn,
    workers: Workers,
    *,
    run: str,
    present_recipe: bool = False,
    progress: Progress = no_progress,
) -> Repointed:
    """Do the same with parts that are open already."""
    with BatchLease(database, batch, run=run) as lease, working_on(database, lease, BatchState.RUNNING):
        outcome = repoint_batch(
            database,
            config,
            lease,
            store,
            cdn,
            workers,
            present_recipe=present_recipe,
            progress=progress,
        )
        settle_forward(database, lease)
    return outcome


def retry_photos(project: Project, photos: Sequence[int], *, run: str) -> list[str]:
    """Make those quarantined photos pending again, and return their batches, which are then to be migrated.

    Raises:
        ConfigurationError: one of them does not exist or is in no batch.
        GuardRefusedError: a living run works on one of the batches.
    """
    located = locate_photos(project.database, photos)
    for batch, members in located.items():
        with BatchLease(project.database, batch, run=run) as lease:
            release_photos(project.database, lease, members)
    return sorted(located)
