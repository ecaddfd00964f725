"""Rewrites a batch's rows to the CDN: proven objects only, compare-and-swap, ledger in the same transaction.

A row that cannot be rewritten costs only itself (DESIGN rule 4): it is recorded as a conflict or a
failure and left exactly as it is. The way back is `rollback`.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import (
    PhotoState,
    object_table,
    photo_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.canary import run_canary
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.migration.backup import BackedUp, back_up_ledger, back_up_rows
from photo_pipeline.core.migration.expected_delivery import canary_urls
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.naming import ObjectNaming, staged_path
from photo_pipeline.core.migration.photos import Photo, batch_photos, object_rows, row_primaries
from photo_pipeline.core.migration.proof import ready_photos
from photo_pipeline.core.migration.row_chunks import RowChunks
from photo_pipeline.core.migration.row_rewrite import RowChange
from photo_pipeline.core.migration.watch import ControlWatch
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.probe import probe_store
from photo_pipeline.core.storage.proof import is_proven
from photo_pipeline.core.storage.store import PhotoStore

# A proof older than this is renewed before rows are rewritten on its strength.
PROOF_VALID_FOR = timedelta(hours=1)


@dataclass
class Rewritten:
    """What one pass over a batch did; photos are counted by reference.

    `stored` are photos whose row is not touched.
    """

    photos: int = 0
    rewritten: int = 0
    stored: int = 0
    already_done: int = 0
    conflicts: int = 0
    failed: int = 0
    not_ready: int = 0
    rows: int = 0
    canary_urls: int = 0
    samples: list[RowChange] = field(default_factory=list)


def rewrite_batch(
    database: Database,
    config: PipelineConfig,
    lease: BatchLease,
    store: PhotoStore,
    cdn: Cdn,
    *,
    progress: Progress = no_progress,
) -> Rewritten:
    """Rewrite every row of the batch whose photos are proven in the store and delivered by the CDN.

    Raises:
        DeliveryError: the CDN does not deliver what the store holds; no row was changed.
        StoreError: the store cannot be asked; no row was changed.
        DatabaseError: the database went away; committed chunks stand, the rest is untouched.
        PausedError: a person stopped the migration; rewritten rows stand, the rest is untouched.
        LeaseLostError: another run has taken the batch over.
    """
    return _BatchRewriter(database, config, lease, store, cdn).run(progress)


class _BatchRewriter:
    def __init__(
        self, database: Database, config: PipelineConfig, lease: BatchLease, store: PhotoStore, cdn: Cdn
    ) -> None:
        self._database = database
        self._config = config
        self._lease = lease
        self._store = store
        self._cdn = cdn
        self._naming = ObjectNaming(config, database)
        self._watch = ControlWatch(database)
        self._outcome = Rewritten()
        self._objects: dict[str, Any] = {}

    def run(self, progress: Progress) -> Rewritten:
        photos = batch_photos(self._database, self._lease.batch)
        uploaded = [photo for photo in photos if photo.state == PhotoState.UPLOADED]
        ready = ready_photos(self._database, self._config, uploaded)
        self._outcome.photos = len(photos)
        self._outcome.already_done = sum(
            photo.state in (PhotoState.MIGRATED, PhotoState.STORED) for photo in photos
        )
        self._outcome.not_ready = len(uploaded) - len(ready)
        if ready:
            leading = row_primaries(self._database, self._config, ready)
            self._prove(ready, leading)
            self._run_canary(ready)
            safe = back_up_rows(self._database, self._config, self._lease, self._store, ready, leading)
            self._outcome.not_ready += len(ready) - len(safe.photos)
            self._rewrite(safe, leading, progress)
        back_up_ledger(self._database, self._config, self._lease, self._store)
        return self._outcome

    def _prove(self, ready: list[Photo], leading: dict[str, Photo]) -> None:
        """Load the objects behind the photos; ask the store again about old proofs."""
        wanted = {each.key for p in ready for each in self._naming.needed(p, leading.get(p.row_id))}
        with self._database.read() as connection:
            self._objects = object_rows(connection, self._store.bucket, wanted)
        limit = utc_now() - PROOF_VALID_FOR
        old = [row for row in self._objects.values() if row.verified_at < limit]
        probe = probe_store(self._database, self._store) if old else None
        lost = [
            row
            for row in old
            if probe and not is_proven(self._store, probe, row.key, row.checksum, size=row.bytes, md5=row.md5)
        ]
        if lost:
            self._forget_proofs(lost)
            keys = {row.key for row in lost}
            self._drop_unproven(ready, leading, keys)

    def _forget_proofs(self, rows: list[Any]) -> None:
        columns = object_table.c
        with self._database.write() as connection:
            self._lease.hold(connection)
            connection.execute(
                sa.update(object_table)
                .where(columns.bucket == self._store.bucket, columns.key.in_([row.key for row in rows]))
                .values(verified_at=None, uploaded_at=None)
            )

    def _drop_unproven(self, ready: list[Photo], leading: dict[str, Photo], lost: set[str]) -> None:
        kept = [p for p in ready if not lost & {e.key for e in self._naming.needed(p, leading.get(p.row_id))}]
        self._outcome.not_ready += len(ready) - len(kept)
        ready[:] = kept

    def _run_canary(self, ready: list[Photo]) -> None:
        """Fetch one URL of each class (variant and format, and `.auto` where rows will carry it)."""
        primaries = [photo for photo in ready if not photo.is_copy]
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
            watch=self._watch,
            gone=safe.gone,
        )
        outcome = self._outcome
        for counts in chunks.rewrite(safe.photos, leading, progress):
            outcome.rewritten += counts.rewritten
            outcome.stored += counts.stored
            outcome.conflicts += counts.conflicts
            outcome.failed += counts.failed
            outcome.not_ready += counts.not_ready
            outcome.rows += counts.rows
            outcome.samples += counts.samples[: max(0, 10 - len(outcome.samples))]
        self._clear_staging(safe.photos)

    def _clear_staging(self, photos: list[Photo]) -> None:
        """Remove what is proven in the store and shown by rows now, and no other batch is about to read."""
        columns = photo_table.c
        unfinished = [PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED]
        contents = {photo.sha256 for photo in photos}
        with self._database.read() as connection:
            query = sa.select(columns.sha256).where(
                columns.sha256.in_(contents), columns.state.in_(unfinished)
            )
            wanted = set(connection.execute(query).scalars())
        for photo in photos:
            if not photo.is_copy and photo.sha256 not in wanted:
                for each in self._naming.variants(photo):
                    staged_path(self._config, each.key).unlink(missing_ok=True)
