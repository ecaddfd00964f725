"""Whole operations on batches, one step after the other, for faces without a scheduler of their own.

Dagster runs the same steps as assets, each under the same lease rules.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import (
    BatchState,
    PhotoState,
    RewriteOutcome,
    batch_table,
    photo_table,
    rewrite_table,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration.lease import BatchLease, no_such_batch
from photo_pipeline.core.migration.process import Processed, Workers, process_batch, release_photos
from photo_pipeline.core.migration.repoint import Repointed, repoint_batch
from photo_pipeline.core.migration.rewrite import Rewritten, rewrite_batch
from photo_pipeline.core.migration.rollback import OpenStore, RolledBack, rollback_batch
from photo_pipeline.core.migration.state import (
    batch_statuses,
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


def batches_to_migrate(
    database: Database, *, wanted: Sequence[str] | None = None, retry_failed: bool = False
) -> list[str]:
    """Return the wanted batches, or all that are neither completed nor rolled (or rolling) back.

    Going forward again after a rollback is a decision: such a batch has to be named. With `retry_failed`,
    completed batches with quarantined photos count as open.

    Raises:
        ConfigurationError: a wanted batch does not exist.
    """
    if wanted:
        return _known(database, wanted)
    closed = (BatchState.COMPLETED, BatchState.ROLLED_BACK, BatchState.ROLLING_BACK)
    return [
        each.key
        for each in batch_statuses(database)
        if each.state not in closed or (retry_failed and each.photos.get(PhotoState.QUARANTINED))
    ]


def batches_to_roll_back(
    database: Database, *, wanted: Sequence[str] | None = None, config: PipelineConfig | None = None
) -> list[str]:
    """Return the wanted batches, or all with rewritten rows, the last migrated first.

    Also those whose rollback was interrupted when no row was left, which nobody else would close; with
    `config`, those too whose rows are back while a local file that they show is not.

    Raises:
        ConfigurationError: a wanted batch does not exist.
    """
    if wanted:
        return _known(database, wanted)
    columns, batch = rewrite_table.c, batch_table.c
    standing = (
        sa.select(columns.batch)
        .where(columns.outcome == RewriteOutcome.APPLIED)
        .group_by(columns.batch)
        .order_by(sa.func.max(columns.id).desc())
    )
    interrupted = sa.select(batch.key).where(batch.state == BatchState.ROLLING_BACK).order_by(batch.key)
    with database.read() as connection:
        keys = [*connection.execute(standing).scalars(), *connection.execute(interrupted).scalars()]
    return list(dict.fromkeys([*keys, *(_batches_without_their_files(database, config) if config else ())]))


def _batches_without_their_files(database: Database, config: PipelineConfig) -> list[str]:
    columns = photo_table.c
    query = (
        sa.select(columns.batch, columns.root, columns.path)
        .where(
            columns.state == PhotoState.ROLLED_BACK, columns.sha256.is_not(None), columns.batch.is_not(None)
        )
        .order_by(columns.batch)
    )
    # A root that is missing as a whole looks like an unmounted disk.
    roots = {root.name: root.dir for root in config.roots if root.dir.is_dir()}
    found: dict[str, None] = {}
    with database.read() as connection:
        for batch, root, path in connection.execute(query):
            if batch not in found and root in roots and not (roots[root] / path).exists():
                found[batch] = None
    return list(found)


def batches_to_validate(database: Database, *, wanted: Sequence[str] | None = None) -> list[str]:
    """Return the wanted batches, or all that have migrated photos.

    Raises:
        ConfigurationError: a wanted batch does not exist.
    """
    if wanted:
        return _known(database, wanted)
    done = (PhotoState.MIGRATED, PhotoState.STORED)
    return [each.key for each in batch_statuses(database) if any(each.photos.get(state) for state in done)]


def batches_to_rehearse(database: Database, *, wanted: Sequence[str] | None = None) -> list[str]:
    """Return the wanted batches, or the first of each kind: migrated, and not migrated yet.

    Raises:
        ConfigurationError: a wanted batch does not exist.
    """
    if wanted:
        return _known(database, wanted)
    statuses = batch_statuses(database)
    forward = (PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED)
    migrated = [each.key for each in statuses if each.photos.get(PhotoState.MIGRATED)]
    waiting = [each.key for each in statuses if any(each.photos.get(state) for state in forward)]
    return list(dict.fromkeys([*migrated[:1], *waiting[:1]]))


def batches_never_validated(database: Database) -> list[str]:
    """Return the batches with migrated photos none of which was validated since its rewrite."""
    photo = photo_table.c
    with database.read() as connection:
        keys = connection.execute(
            sa.select(photo.batch)
            .where(photo.state.in_([PhotoState.MIGRATED, PhotoState.STORED]), photo.batch.is_not(None))
            .group_by(photo.batch)
            .having(sa.func.count(photo.validated_at) == 0)
            .order_by(photo.batch)
        )
        return list(keys.scalars())


def locate_photos(database: Database, photos: Sequence[int]) -> dict[str, list[int]]:
    """Return the photos by the batch they are in.

    Raises:
        ConfigurationError: one of them does not exist or is in no batch.
    """
    columns = photo_table.c
    with database.read() as connection:
        rows = connection.execute(
            sa.select(columns.id, columns.batch).where(columns.id.in_(photos), columns.batch.is_not(None))
        ).all()
    missing = sorted(set(photos) - {row.id for row in rows})
    if missing:
        raise ConfigurationError(
            f"photo {missing[0]}", cause="no batch has it", fix="ids are in the report's photos.csv"
        )
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(row.batch, []).append(row.id)
    return found


def locate_with_copies(
    database: Database, config: PipelineConfig, photos: Sequence[int]
) -> dict[str, list[int]]:
    """Return the photos, and the migrated copies of those that are their row's primary, by batch.

    A copy names its row's primary photo: left behind, it would show a photo that the row no longer shows.

    Raises:
        ConfigurationError: one of them does not exist or is in no batch.
    """
    columns = photo_table.c
    wanted = [photo for members in locate_photos(database, photos).values() for photo in members]
    with database.read() as connection:
        query = sa.select(columns.row_id, columns.source, columns.field).where(columns.id.in_(wanted))
        rows = [
            row.row_id
            for row in connection.execute(query)
            if config.source(row.source).primary_field == row.field
        ]
        copies = sa.select(columns.id).where(
            columns.row_id.in_(rows), columns.role == "variant", columns.state == PhotoState.MIGRATED
        )
        wanted += connection.execute(copies.order_by(columns.id)).scalars()
    return locate_photos(database, list(dict.fromkeys(wanted)))


def _known(database: Database, wanted: Sequence[str]) -> list[str]:
    known = {each.key for each in batch_statuses(database)}
    unknown = [key for key in wanted if key not in known]
    if unknown:
        raise no_such_batch(unknown[0], sorted(known))
    return list(wanted)
