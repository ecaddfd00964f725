"""Moves rows that are migrated already to where the configuration points now (PRODUCT E8).

To another CDN domain, another key prefix or mode, or the present recipe. With the guarantees of the first
rewrite: objects proven, canary, backup, compare-and-swap, ledger. A rollback afterwards ends at the very
first value, because it walks all the rewrites of a cell back. An interrupted one is continued by the next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import PhotoState, photo_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.canary import run_canary
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.migration.backup import BackedUp, back_up_ledger, back_up_rows
from photo_pipeline.core.migration.expected_delivery import canary_urls
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import Photo, batch_photos, object_rows, row_primaries
from photo_pipeline.core.migration.process import Workers
from photo_pipeline.core.migration.proof import is_proven_row
from photo_pipeline.core.migration.row_chunks import RowChunks
from photo_pipeline.core.migration.row_rewrite import RowChange
from photo_pipeline.core.migration.supply import ObjectSupply
from photo_pipeline.core.migration.watch import ControlWatch
from photo_pipeline.core.migration.whereabouts import Whereabouts
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.probe import probe_store
from photo_pipeline.core.storage.proof import is_proven
from photo_pipeline.core.storage.store import PhotoStore


@dataclass
class Repointed:
    """What one repoint of a batch did; photos are counted by reference, `objects` are new ones by key."""

    photos: int = 0
    repointed: int = 0
    already_there: int = 0
    conflicts: int = 0
    failed: int = 0
    not_ready: int = 0
    rows: int = 0
    objects: int = 0
    canary_urls: int = 0
    reasons: list[str] = field(default_factory=list)
    samples: list[RowChange] = field(default_factory=list)


def repoint_batch(
    database: Database,
    config: PipelineConfig,
    lease: BatchLease,
    store: PhotoStore,
    cdn: Cdn,
    workers: Workers,
    *,
    present_recipe: bool = False,
    progress: Progress = no_progress,
) -> Repointed:
    """Rewrite every migrated row of the batch that does not show what the configuration says now.

    Args:
        database: The application's database.
        config: With the new address, prefix or presets.
        lease: On the batch.
        store: The bucket, which stays the same.
        cdn: The delivery side under its new address.
        workers: Make the variants of a new recipe.
        present_recipe: Also move rows from the recipe they were migrated under to the present one.
        progress: Told after each chunk of rows.

    Raises:
        DeliveryError: the CDN does not deliver under the new address; no row was changed.
        StoreError: the store cannot be asked; no row was changed.
        DatabaseError: the database went away; committed chunks stand, the rest is untouched.
        LeaseLostError: another run has taken the batch over.
        PausedError: somebody paused the migration; the next repoint goes on.
    """
    naming = ObjectNaming(config, database, keep_recipes=not present_recipe)
    return _Repointer(database, config, lease, store, cdn, naming).run(workers, progress)


class _Repointer:
    def __init__(
        self,
        database: Database,
        config: PipelineConfig,
        lease: BatchLease,
        store: PhotoStore,
        cdn: Cdn,
        naming: ObjectNaming,
    ) -> None:
        self._database = database
        self._config = config
        self._lease = lease
        self._store = store
        self._cdn = cdn
        self._naming = naming
        self._outcome = Repointed()
        self._objects: dict[str, Any] = {}

    def run(self, workers: Workers, progress: Progress) -> Repointed:
        photos = batch_photos(self._database, self._lease.batch, (PhotoState.MIGRATED,))
        leading = row_primaries(self._database, self._config, photos)
        whereabouts = Whereabouts(self._database, self._config, self._naming, bucket=self._store.bucket)
        moving = whereabouts.elsewhere(photos, leading)
        self._outcome.photos = len(photos)
        self._outcome.already_there = len(photos) - len(moving)
        if moving:
            ready = self._supplied(moving, leading, workers)
            self._run_canary(ready, leading)
            safe = back_up_rows(self._database, self._config, self._lease, self._store, ready, leading)
            self._outcome.not_ready += len(moving) - len(safe.photos)
            self._rewrite(safe, leading, progress)
        back_up_ledger(self._database, self._config, self._lease, self._store)
        return self._outcome

    def _supplied(
        self, moving: Sequence[Photo], leading: Mapping[str, Photo], workers: Workers
    ) -> list[Photo]:
        """Bring the objects; return the photos each of whose needed objects the store holds by checksum."""
        shown = [leading.get(p.row_id, p) if p.is_copy else p for p in moving]
        supply = ObjectSupply(self._database, self._config, self._lease, self._store, self._naming)
        failed = supply.bring([*shown, *(p for p in moving if not p.is_copy)], workers)
        self._outcome.objects = supply.brought
        self._outcome.reasons += failed.values()
        wanted = {p.id: self._naming.needed(p, leading.get(p.row_id)) for p in moving}
        keys = {each.key for needed in wanted.values() for each in needed}
        with self._database.read() as connection:
            rows = object_rows(connection, self._store.bucket, keys)
        probe = probe_store(self._database, self._store)
        self._objects = {
            key: row
            for key, row in rows.items()
            if is_proven_row(row)
            and is_proven(self._store, probe, key, row.checksum, size=row.bytes, md5=row.md5)
        }
        return [p for p in moving if all(each.key in self._objects for each in wanted[p.id])]

    def _run_canary(self, ready: Sequence[Photo], leading: Mapping[str, Photo]) -> None:
        """Fetch one URL of each class under the new address."""
        primaries = [leading.get(photo.row_id, photo) if photo.is_copy else photo for photo in ready]
        urls = canary_urls(self._config, self._naming, primaries, self._objects)
        run_canary(self._cdn, urls)
        self._outcome.canary_urls = len(urls)

    def _rewrite(self, safe: BackedUp, leading: dict[str, Photo], progress: Progress) -> None:
        chunks = RowChunks(
            self._database,
            self._config,
            self._lease,
            self._naming,
            self._objects,
            watch=ControlWatch(self._database),
            expected_state=PhotoState.MIGRATED,
            gone=safe.gone,
            settle=_stay_migrated,
        )
        outcome = self._outcome
        for counts in chunks.rewrite(safe.photos, leading, progress):
            outcome.repointed += counts.rewritten
            outcome.conflicts += counts.conflicts
            outcome.failed += counts.failed
            outcome.not_ready += counts.not_ready
            outcome.rows += counts.rows
            outcome.samples += counts.samples[: max(0, 10 - len(outcome.samples))]


def _stay_migrated(connection: Connection, photos: Sequence[Photo]) -> None:
    """Keep refused photos migrated, with the reason: the rows show what the last rewrite wrote, or an edit.

    Whatever else they were would let a later run take them for photos that were never migrated.
    """
    columns = photo_table.c
    connection.execute(
        sa.update(photo_table)
        .where(
            columns.id.in_([photo.id for photo in photos]),
            columns.state.in_([PhotoState.CONFLICT, PhotoState.QUARANTINED]),
        )
        .values(state=PhotoState.MIGRATED, updated_at=utc_now())
    )
