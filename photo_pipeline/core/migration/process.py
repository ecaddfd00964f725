"""Makes the variants that a batch's photos need into the staging folder, and catalogues them.

Idempotent: a variant that is proven in the store, or whole in staging, is not made again. Equal photos
are made once. How a variant is made belongs to `core.imaging`.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.checksums import hash_file
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import PhotoState, object_table, photo_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import PhotoChangedError, PhotoError
from photo_pipeline.core.imaging.pool import ImageWorkers, PhotoTask
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.imaging.variants import MadePhoto
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.photos import (
    ObjectNaming,
    Photo,
    WantedObject,
    batch_photos,
    object_rows,
    primaries,
    quarantine,
    set_state,
)
from photo_pipeline.core.progress import Progress, no_progress

# Photos in these states may (still) move forward.
FORWARD = (PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED, PhotoState.ROLLED_BACK)


class Workers(Protocol):
    """Opens a pool of image workers; opened only when there is something to make."""

    def __call__(self) -> AbstractContextManager[ImageWorkers]:
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
    variants_made: int = 0
    source_bytes: int = 0
    variant_bytes: int = 0
    encodes: int = 0
    missed_targets: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    samples: list[MadeSample] = field(default_factory=list)


def staged_path(config: PipelineConfig, key: str) -> Path:
    """Return where the variant with that key waits for its upload."""
    return config.state.staging_dir / key


def process_batch(
    database: Database,
    config: PipelineConfig,
    lease: BatchLease,
    workers: Workers,
    *,
    retry_failed: bool = False,
    progress: Progress = no_progress,
) -> Processed:
    """Make every missing variant of the batch.

    A photo that cannot be processed is quarantined with its reason, with the rows that show it; the others
    go on. A photo is `processed` once all its variants are whole.

    Args:
        database: The application's database.
        config: Presets, roots and the staging folder.
        lease: The held lease on the batch.
        workers: Opens the worker pool.
        retry_failed: Try quarantined photos of this batch again.
        progress: Told after each photo.

    Raises:
        LeaseLostError: another run has taken the batch over.
        InfrastructureError: the staging folder cannot be written, or the pool broke.
    """
    if retry_failed:
        _release_quarantined(database, lease)
    photos = batch_photos(database, lease.batch, FORWARD)
    outcome = Processed(photos=len(photos))
    maker = _BatchMaker(database, config, lease, outcome)
    maker.run([photo for photo in photos if not photo.is_copy], workers, progress)
    maker.settle_copies([photo for photo in photos if photo.is_copy], photos)
    return outcome


def _release_quarantined(database: Database, lease: BatchLease) -> None:
    photo = photo_table.c
    with database.write() as connection:
        lease.hold(connection)
        connection.execute(
            sa.update(photo_table)
            .where(photo.batch == lease.batch, photo.state == PhotoState.QUARANTINED)
            .values(state=PhotoState.PENDING, error_type=None, error_detail=None)
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
        self._naming = ObjectNaming(config)
        self._twins: dict[str, list[Photo]] = defaultdict(list)

    def run(self, photos: list[Photo], workers: Workers, progress: Progress) -> None:
        for photo in photos:
            self._twins[f"{photo.sha256}/{self._naming.recipe(photo.source).digest}"].append(photo)
        missing = self._missing()
        finished = [twins for name, twins in self._twins.items() if name not in missing]
        self._reuse(finished)
        total, done = len(self._twins), len(finished)
        progress("variants", done, total)
        if not missing:
            return
        with workers() as pool:
            for task, result in pool.process(self._tasks(missing)):
                self._store(task, result)
                done += 1
                progress("variants", done, total)

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

    def _tasks(self, missing: dict[str, list[WantedObject]]) -> Iterator[PhotoTask]:
        # Largest first: a big photo that starts last would keep one core busy alone.
        for name, variants in sorted(missing.items(), key=lambda item: -self._twins[item[0]][0].size):
            twins = self._twins[name]
            recipe = self._naming.recipe(twins[0].source)
            specs = {spec.name: spec for spec in recipe.variants}
            try:
                source = _unchanged_source(twins, self._config)
            except PhotoError as error:
                self._fail(twins, error)
                continue
            yield PhotoTask(
                id=name,
                source=source,
                recipe=recipe,
                wanted=tuple((specs[each.variant], ImageFormat(each.format)) for each in variants),
                staging={
                    (each.variant, ImageFormat(each.format)): staged_path(self._config, each.key)
                    for each in variants
                },
            )

    def _store(self, task: PhotoTask, result: MadePhoto | PhotoError) -> None:
        twins = self._twins[task.id]
        if isinstance(result, PhotoError):
            self._fail(twins, result)
            return
        with self._database.write() as connection:
            self._lease.hold(connection)
            self._catalogue(connection, twins[0], result)
            connection.execute(
                sa.update(photo_table)
                .where(photo_table.c.id.in_([photo.id for photo in twins]))
                .values(width=result.info.width, height=result.info.height)
            )
            set_state(connection, twins, PhotoState.PROCESSED)
        self._count(task, twins, result)

    def _catalogue(self, connection: Connection, photo: Photo, made: MadePhoto) -> None:
        bucket = self._config.store.bucket
        rows = [
            {
                "bucket": bucket,
                "key": self._naming.variant_key(photo, each.variant, each.format.extension),
                "source_sha256": photo.sha256,
                "recipe": self._naming.recipe(photo.source).digest,
                "variant": each.variant,
                "format": each.format.value,
                "mime": each.format.mime,
                "bytes": each.bytes,
                "width": each.width,
                "height": each.height,
                "quality": each.quality,
                "encodes": each.encodes,
                "met_target": each.met_target,
                "checksum": each.sha256,
                "made_at": utc_now(),
            }
            for each in made.variants
        ]
        replace_object_rows(connection, bucket, rows)

    def _count(self, task: PhotoTask, twins: list[Photo], made: MadePhoto) -> None:
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

    def _fail(self, photos: list[Photo], error: PhotoError) -> None:
        with self._database.write() as connection:
            self._lease.hold(connection)
            quarantine(connection, photos, error)
        self._outcome.quarantined += len(photos)

    def settle_copies(self, copies: list[Photo], photos: list[Photo]) -> None:
        """A resized copy needs no variants of its own; it goes where its row's primary photo goes."""
        ready = primaries(batch_photos(self._database, self._lease.batch, (*FORWARD, PhotoState.MIGRATED)))
        with_primary = [copy for copy in copies if copy.row_id in ready]
        without = [copy for copy in copies if copy.row_id not in ready]
        with self._database.write() as connection:
            self._lease.hold(connection)
            waiting = [copy for copy in with_primary if copy.state != PhotoState.UPLOADED]
            set_state(connection, waiting, PhotoState.PROCESSED)
            for copy in without:
                quarantine(connection, [copy], _primary_unavailable(copy))
        self._outcome.done += len(with_primary)
        self._outcome.quarantined += len(without)


def is_at_hand(config: PipelineConfig, row: Any | None) -> bool:
    """Return whether a variant is proven in the store, or waits whole in staging."""
    if row is None or row.deleted_at is not None:
        return False
    if row.verified_at is not None:
        return True
    staged = staged_path(config, row.key)
    return staged.is_file() and staged.stat().st_size == row.bytes


def replace_object_rows(connection: Connection, bucket: str, rows: list[dict[str, Any]]) -> None:
    """Insert `pp_object` rows, replacing those of the same keys."""
    keys = [row["key"] for row in rows]
    connection.execute(
        sa.delete(object_table).where(object_table.c.bucket == bucket, object_table.c.key.in_(keys))
    )
    connection.execute(sa.insert(object_table), rows)


def _unchanged_source(twins: list[Photo], config: PipelineConfig) -> Path:
    """Return a local file that still has the catalogued content.

    Raises:
        PhotoChangedError: every file of these twins is gone, unreadable or different.
    """
    cause = ""
    for photo in twins:
        path = photo.location(config)
        try:
            if hash_file(path) == photo.sha256:
                return path
            cause = "its content is not the one that was catalogued"
        except OSError as error:
            cause = f"it cannot be read ({error.strerror})"
    raise PhotoChangedError(twins[0].path, cause=cause, fix="run the inventory again")


def _primary_unavailable(copy: Photo) -> PhotoError:
    return PhotoError(
        copy.path,
        cause="the primary photo of its row cannot be migrated, so there is nothing to make this copy from",
        fix="mend or replace the primary photo, then retry",
    )
