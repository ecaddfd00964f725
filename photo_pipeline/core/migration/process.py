"""Makes the variants that a batch's photos need into the staging folder, and catalogues them.

Idempotent: a variant that is proven in the store, or whole in staging, is not made again. Equal photos
are made once. How a variant is made belongs to `core.imaging`.
"""

import os
import stat
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from photo_pipeline.core import audit
from photo_pipeline.core.catalog.checksums import hash_file
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import (
    BatchState,
    PhotoState,
    photo_table,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import PhotoChangedError, PhotoError
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.made_objects import catalogue
from photo_pipeline.core.migration.measured_quality import MeasuredQuality
from photo_pipeline.core.migration.naming import ObjectNaming, WantedObject, staged_path
from photo_pipeline.core.migration.photos import (
    Photo,
    batch_photos,
    object_rows,
    quarantine,
    row_primaries,
    set_state,
)
from photo_pipeline.core.migration.watch import ControlWatch, heeding
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.retry_rules import after_tries, rule_of

if TYPE_CHECKING:  # numpy and the encoders, 0.3 s, are loaded when there is something to make.
    from photo_pipeline.core.imaging.pool import ImageWorkers, PhotoTask
    from photo_pipeline.core.imaging.variants import MadePhoto

# Photos in these states move forward; rolled-back ones only when somebody asks for it.
FORWARD = (PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED)


class Workers(Protocol):
    """Opens a pool of image workers; opened only when there is something to make."""

    def __call__(self) -> "AbstractContextManager[ImageWorkers]":
        """Return the pool as a context manager."""


@dataclass(frozen=True)
class MadeSample:
    """One processed photo, for before/after pictures."""

    name: str
    source: Path
    thumb: Path
    source_bytes: int
    made_bytes: int


@dataclass
class Processed:
    """What one pass over a batch did; photos are counted by reference, variants by file."""

    photos: int = 0
    done: int = 0
    reused: int = 0
    quarantined: int = 0
    retried: int = 0
    failures: Counter[str] = field(default_factory=Counter)  # quarantined photos by class of their error
    variants_made: int = 0
    source_bytes: int = 0
    variant_bytes: int = 0
    encodes: int = 0
    missed_targets: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    samples: list[MadeSample] = field(default_factory=list)
    quality: MeasuredQuality = field(default_factory=MeasuredQuality)


def process_batch(
    database: Database,
    config: PipelineConfig,
    lease: BatchLease,
    workers: Workers,
    *,
    retry_failed: bool = False,
    include_rolled_back: bool = False,
    progress: Progress = no_progress,
) -> Processed:
    """Make every missing variant of the batch.

    A photo that cannot be processed is quarantined with its reason, with the rows that show it; the others
    go on. A photo is `processed` once all its variants are whole. Then the visual quality of a sample is
    measured, where that was not done before.

    Args:
        database: The application's database.
        config: Presets, roots and the staging folder.
        lease: The held lease on the batch.
        workers: Opens the worker pool.
        retry_failed: Try quarantined photos of this batch again.
        include_rolled_back: Move single photos that were rolled back forward again; a batch that was rolled
            back as a whole moves forward by being run at all.
        progress: Told after each photo.

    Raises:
        LeaseLostError: another run has taken the batch over.
        PausedError: a person stopped the migration; the photos that are made are kept.
        InfrastructureError: the staging folder cannot be written, or the pool broke.
    """
    from photo_pipeline.core.migration.visual_quality import measure_batch  # loads the encoders

    if retry_failed:
        _release(database, lease, PhotoState.QUARANTINED)
    if include_rolled_back or lease.previous_state == BatchState.ROLLED_BACK:
        _release(database, lease, PhotoState.ROLLED_BACK)
    photos = batch_photos(database, lease.batch, FORWARD)
    outcome = Processed(photos=len(photos))
    maker = _BatchMaker(database, config, lease, outcome)
    maker.run([photo for photo in photos if not photo.is_copy], workers, progress)
    maker.settle_copies([photo for photo in photos if photo.is_copy])
    heeded = heeding(progress, database)
    outcome.quality = measure_batch(database, config, lease, retry_failed=retry_failed, progress=heeded)
    return outcome


def release_photos(database: Database, lease: BatchLease, photos: Collection[int]) -> int:
    """Make those quarantined photos of the batch pending again, with the others of their rows.

    Returns how many that were; a photo that is not quarantined stays as it is.
    """
    photo = photo_table.c
    rows = sa.select(photo.row_id).where(photo.id.in_(photos))
    with database.write() as connection:
        lease.hold(connection)
        released = connection.execute(
            sa.update(photo_table)
            .where(photo.batch == lease.batch, photo.row_id.in_(rows), photo.state == PhotoState.QUARANTINED)
            .values(state=PhotoState.PENDING, error_type=None, error_detail=None)
        ).rowcount
        if released:
            audit.record(
                connection,
                action="release",
                subject=f"{released} quarantined photos of {lease.batch}",
                batch=lease.batch,
                details={"photos": sorted(photos)},
                run=lease.run,
            )
    return int(released)


def _release(database: Database, lease: BatchLease, state: PhotoState) -> None:
    """Make the batch's photos in that state pending again."""
    photo = photo_table.c
    with database.write() as connection:
        lease.hold(connection)
        released = connection.execute(
            sa.update(photo_table)
            .where(photo.batch == lease.batch, photo.state == state)
            .values(state=PhotoState.PENDING, error_type=None, error_detail=None)
        ).rowcount
        if released:
            audit.record(
                connection,
                action="release",
                subject=f"{released} {state} photos of {lease.batch}",
                batch=lease.batch,
                details={"photos": released, "state": state},
                run=lease.run,
            )


class _BatchMaker:
    """Works through one batch; equal photos (same content, same recipe) are one task."""

    def __init__(
        self, database: Database, config: PipelineConfig, lease: BatchLease, outcome: Processed
    ) -> None:
        self._database = database
        self._config = config
        self._lease = lease
        self._outcome = outcome
        self._naming = ObjectNaming(config, database)
        self._watch = ControlWatch(database)
        self._twins: dict[str, list[Photo]] = defaultdict(list)
        self._again: list[str] = []
        self._failures: Counter[str] = Counter()

    def run(self, photos: list[Photo], workers: Workers, progress: Progress) -> None:
        for photo in photos:
            self._twins[f"{photo.sha256}/{self._naming.recipe(photo).digest}"].append(photo)
        missing = self._missing()
        finished = [twins for name, twins in self._twins.items() if name not in missing]
        self._reuse(finished)
        total, done = len(self._twins), len(finished)
        progress("variants", done, total)
        if not missing:
            return
        with workers() as pool:
            while missing:
                for task, result in pool.process(self._tasks(missing)):
                    self._store(task, result)
                    done += task.id not in self._again
                    progress("variants", done, total)
                    self._watch.check()
                # Those whose rule grants another try, and twins whose first file changed while it was worked
                # on, to be made from another one's file.
                missing = {name: missing[name] for name in self._again}
                self._again = []

    def _missing(self) -> dict[str, list[WantedObject]]:
        """Return, by task name, the variants that are neither proven in the store nor whole in staging."""
        wanted = {name: self._naming.variants(twins[0]) for name, twins in self._twins.items()}
        with self._database.read() as connection:
            keys = [each.key for variants in wanted.values() for each in variants]
            rows = object_rows(connection, self._config.store.bucket, keys)
        missing = {
            name: [each for each in variants if not is_at_hand(self._config, rows.get(each.key))]
            for name, variants in wanted.items()
        }
        return {name: variants for name, variants in missing.items() if variants}

    def _reuse(self, groups: list[list[Photo]]) -> None:
        photos = [photo for twins in groups for photo in twins]
        with self._database.write() as connection:
            self._lease.hold(connection)
            set_state(connection, [p for p in photos if p.state != PhotoState.UPLOADED], PhotoState.PROCESSED)
        self._outcome.reused += len(photos)

    def _tasks(self, missing: dict[str, list[WantedObject]]) -> "Iterator[PhotoTask]":
        from photo_pipeline.core.imaging.pool import PhotoTask

        # Largest first: a big photo that starts last would keep one core busy alone.
        for name, variants in sorted(missing.items(), key=lambda item: -self._twins[item[0]][0].size):
            twins = self._keep_intact(name)
            if not twins:
                continue
            recipe = self._naming.recipe(twins[0])
            specs = {spec.name: spec for spec in recipe.variants}
            yield PhotoTask(
                id=name,
                source=twins[0].location(self._config),
                recipe=recipe,
                wanted=tuple((specs[each.variant], ImageFormat(each.format)) for each in variants),
                staging={
                    (each.variant, ImageFormat(each.format)): staged_path(self._config, each.key)
                    for each in variants
                },
            )

    def _keep_intact(self, name: str) -> list[Photo]:
        """Quarantine the twins whose file is no longer what was catalogued; return the others."""
        intact = []
        for photo in self._twins[name]:
            try:
                require_unchanged(photo, self._config)
                intact.append(photo)
            except PhotoChangedError as error:
                self._fail([photo], error)
        self._twins[name] = intact
        return intact

    def _store(self, task: "PhotoTask", result: "MadePhoto | PhotoError") -> None:
        before = self._twins[task.id]
        # The worker read the file after it was hashed. Only if it is still the same was it the right one.
        twins = self._keep_intact(task.id)
        if twins[:1] != before[:1]:
            self._again += [task.id] if twins else []
            return
        if isinstance(result, PhotoError):
            self._try_again_or_fail(task, twins, result)
            return
        with self._database.write() as connection:
            self._lease.hold(connection)
            catalogue(connection, self._config, self._naming, twins[0], result)
            connection.execute(
                sa.update(photo_table)
                .where(photo_table.c.id.in_([photo.id for photo in twins]))
                .values(width=result.info.width, height=result.info.height)
            )
            set_state(connection, twins, PhotoState.PROCESSED)
        self._count(task, twins, result)

    def _count(self, task: "PhotoTask", twins: list[Photo], made: "MadePhoto") -> None:
        outcome = self._outcome
        outcome.done += len(twins)
        outcome.variants_made += len(made.variants)
        outcome.source_bytes += twins[0].size
        outcome.variant_bytes += sum(each.bytes for each in made.variants)
        outcome.encodes += sum(each.encodes for each in made.variants)
        outcome.missed_targets += sum(not each.met_target for each in made.variants)
        for stage, seconds in made.timings.items():
            outcome.seconds[stage] = outcome.seconds.get(stage, 0.0) + seconds
        smallest = min(made.variants, key=lambda each: (each.format is not ImageFormat.WEBP, each.width))
        largest = max(each.width * each.height for each in made.variants)
        full = [e.bytes for e in made.variants if e.width * e.height == largest]
        outcome.samples.append(
            MadeSample(twins[0].path, task.source, smallest.path, twins[0].size, min(full))
        )

    def _try_again_or_fail(self, task: "PhotoTask", twins: list[Photo], error: PhotoError) -> None:
        """Put a photo that failed back once the others are made, as often as its error's rule says."""
        self._failures[task.id] += 1
        if self._failures[task.id] <= rule_of(error).retries:
            self._outcome.retried += 1
            self._again.append(task.id)
            return
        self._fail(twins, after_tries(error, self._failures[task.id]))

    def _fail(self, photos: list[Photo], error: PhotoError) -> None:
        with self._database.write() as connection:
            self._lease.hold(connection)
            quarantine(connection, photos, error)
        self._outcome.quarantined += len(photos)
        self._outcome.failures[error.error_class] += len(photos)

    def settle_copies(self, copies: list[Photo]) -> None:
        """A resized copy needs no variants of its own; it goes where its row's primary photo goes."""
        ready = row_primaries(self._database, self._config, copies)
        with_primary = [copy for copy in copies if copy.row_id in ready]
        # In another batch, which comes later: the copy waits for it.
        coming = row_primaries(self._database, self._config, copies, [PhotoState.PENDING])
        without = [copy for copy in copies if copy.row_id not in ready and copy.row_id not in coming]
        with self._database.write() as connection:
            self._lease.hold(connection)
            waiting = [copy for copy in with_primary if copy.state != PhotoState.UPLOADED]
            set_state(connection, waiting, PhotoState.PROCESSED)
            for copy in without:
                quarantine(connection, [copy], primary_unavailable(copy))
        self._outcome.done += len(with_primary)
        self._outcome.quarantined += len(without)


def is_at_hand(config: PipelineConfig, row: Any | None) -> bool:
    """Return whether a variant is proven in the store, or waits whole in staging."""
    if row is None or row.deleted_at is not None:
        return False
    if row.verified_at is not None:
        return True
    try:
        # Not by pathlib, which takes four times as long as the question itself.
        found = os.stat(f"{config.state.staging_dir}/{row.key}")  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == row.bytes


def require_unchanged(photo: Photo, config: PipelineConfig) -> None:
    """Check that the local file still has the catalogued content.

    Raises:
        PhotoChangedError: it is gone, unreadable or different.
    """
    try:
        if hash_file(photo.location(config)) == photo.sha256:
            return
        cause = "its content is not the one that was catalogued"
    except OSError as error:
        cause = f"it cannot be read ({error.strerror})"
    raise PhotoChangedError(photo.path, cause=cause, fix="run the inventory again")


def primary_unavailable(copy: Photo) -> PhotoError:
    """Return why a resized copy whose row's primary photo does not move cannot move either."""
    return PhotoError(
        copy.path,
        cause="the primary photo of its row cannot be migrated, so there is nothing to make this copy from",
        fix="mend or replace the primary photo, then retry",
    )
