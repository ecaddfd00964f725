"""Rewrites a batch's rows to the CDN: proven objects only, compare-and-swap, ledger in the same transaction.

A row that cannot be rewritten costs only itself (DESIGN rule 4): it is recorded as a conflict or a
failure and left exactly as it is. The way back is `rollback`.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import (
    PhotoState,
    RewriteOutcome,
    object_table,
    photo_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.canary import Expected, run_canary
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.ledger import RowRefusedError
from photo_pipeline.core.migration.photos import ObjectNaming, Photo, batch_photos, object_rows, primaries
from photo_pipeline.core.migration.process import staged_path
from photo_pipeline.core.migration.touch import touched
from photo_pipeline.core.migration.upload import CACHE_CONTROL, is_proven, ready_photos
from photo_pipeline.core.migration.values import RowValues
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.probe import probe_store
from photo_pipeline.core.storage.store import PhotoStore

# A proof older than this is renewed before rows are rewritten on its strength.
PROOF_VALID_FOR = timedelta(hours=1)


@dataclass(frozen=True)
class RowChange:
    """One rewritten column, for samples and reports."""

    source: str
    row_key: str
    column: str
    before: str
    after: str


@dataclass
class Rewritten:
    """What one pass over a batch did; photos are counted by reference."""

    photos: int = 0
    rewritten: int = 0
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
        self._naming = ObjectNaming(config)
        self._outcome = Rewritten()
        self._objects: dict[str, Any] = {}
        self._values: dict[str, RowValues] = {}

    def run(self, progress: Progress) -> Rewritten:
        batch = self._lease.batch
        photos = batch_photos(self._database, batch)
        uploaded = [photo for photo in photos if photo.state == PhotoState.UPLOADED]
        ready = ready_photos(self._database, self._config, batch, uploaded)
        self._outcome.photos = len(photos)
        self._outcome.already_done = sum(photo.state == PhotoState.MIGRATED for photo in photos)
        self._outcome.not_ready = len(uploaded) - len(ready)
        if ready:
            leading = primaries(photos)
            self._prove(ready, leading)
            self._run_canary(ready)
            self._rewrite(ready, leading, progress)
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
            if probe and not is_proven(self._store, probe, row.key, row.checksum, size=row.bytes)
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
        seen: dict[tuple[str, str], Expected] = {}
        for photo in ready:
            if photo.is_copy:
                continue
            for each in self._naming.variants(photo):
                expected = self._expected(each.key, each.format)
                seen.setdefault((each.variant, each.format), expected)
                if self._config.source(photo.source).rewrite.format == "auto":
                    auto = self._naming.variant_key(photo, each.variant, "auto")
                    seen.setdefault(
                        (each.variant, f"auto {each.format}"),
                        Expected(
                            self._naming.urls.url(auto),
                            expected.sha256,
                            expected.mime,
                            expected.cache_control,
                            accept=expected.mime,
                        ),
                    )
        run_canary(self._cdn, list(seen.values()))
        self._outcome.canary_urls = len(seen)

    def _expected(self, key: str, image_format: str) -> Expected:
        row = self._objects[key]
        return Expected(self._naming.urls.url(key), row.checksum, row.mime, CACHE_CONTROL[image_format])

    def _rewrite(self, ready: list[Photo], leading: dict[str, Photo], progress: Progress) -> None:
        rows: dict[str, list[Photo]] = defaultdict(list)
        for photo in ready:
            rows[photo.row_id].append(photo)
        queue, done = iter(rows.values()), 0
        while chunk := list(islice(queue, self._config.rewrite.rows_per_transaction)):
            self._rewrite_chunk(chunk, leading)
            done += len(chunk)
            progress("rows", done, len(rows))
        self._clear_staging(ready)

    def _rewrite_chunk(self, chunk: list[list[Photo]], leading: dict[str, Photo]) -> None:
        """One transaction: changed rows, their ledger entries and the photos' states, or nothing."""
        counted = _Counts()
        with self._database.write() as connection:
            self._lease.hold(connection)
            for photos in chunk:
                self._rewrite_row(connection, photos, leading.get(photos[0].row_id), counted)
        counted.add_to(self._outcome)

    def _rewrite_row(
        self, connection: Connection, photos: list[Photo], primary: Photo | None, counted: "_Counts"
    ) -> None:
        source = self._config.source(photos[0].source)
        address = RowAddress.of(self._database, source, photos[0].row_key)
        try:
            with connection.begin_nested():
                row = self._swap_row(connection, address, photos, primary)
            counted.add(row)
        except (RowRefusedError, DBAPIError) as error:
            if isinstance(error, OperationalError):
                raise
            reason = str(error.orig if isinstance(error, DBAPIError) else error)
            self._refuse(connection, address, photos, RewriteOutcome.FAILED, " ".join(reason.split()))
            counted.failed += len(photos)

    def _swap_row(
        self,
        connection: Connection,
        address: RowAddress,
        photos: list[Photo],
        primary: Photo | None,
    ) -> "_Counts":
        columns = list(address.source.written_columns)
        current = address.read(connection, columns)
        if current is None:
            self._refuse(connection, address, photos, RewriteOutcome.CONFLICT, "the row was deleted")
            return _Counts(conflicts=len(photos))
        good = [photo for photo in photos if current[photo.field] == photo.value]
        edited = [photo for photo in photos if current[photo.field] != photo.value]
        if edited:
            reason = "the application changed the value after the inventory read it"
            self._refuse(connection, address, edited, RewriteOutcome.CONFLICT, reason)
        if not good:
            return _Counts(conflicts=len(edited))
        wanted = self._wanted(connection, address, good, primary, current)
        changed = {name: value for name, value in wanted.items() if value != current[name]}
        if not ledger.swap(connection, address, before=current, after=changed):
            reason = "the application changed the row during the rewrite"
            self._refuse(connection, address, good, RewriteOutcome.CONFLICT, reason)
            return _Counts(conflicts=len(photos))
        self._confirm(connection, address, good, current, changed)
        first = good[0]
        sample = RowChange(first.source, first.row_key, first.field, first.value, str(changed[first.field]))
        return _Counts(rewritten=len(good), conflicts=len(edited), rows=1, samples=[sample])

    def _wanted(
        self,
        connection: Connection,
        address: RowAddress,
        good: list[Photo],
        primary: Photo | None,
        current: dict[str, RawValue],
    ) -> dict[str, RawValue]:
        """Return the new value of every column that the row's rewrite sets."""
        source = address.source
        if source.name not in self._values:
            self._values[source.name] = RowValues(self._naming, source, self._store.bucket)
        values = self._values[source.name]
        wanted: dict[str, RawValue] = {p.field: values.field_value(p, primary) for p in good}
        leader = primary or good[0]
        if leader in good:
            wanted |= values.write_back(leader, self._objects)
        now = utc_now()
        for name in source.rewrite.touch:
            wanted[name] = touched(connection, address.table.columns[name], current[name], now)
        for name, value in wanted.items():
            ledger.check_length(address, name, value)
        return wanted

    def _confirm(
        self,
        connection: Connection,
        address: RowAddress,
        good: list[Photo],
        before: dict[str, RawValue],
        changed: dict[str, RawValue],
    ) -> None:
        """Record what the database really stored, and mark the photos as migrated."""
        stored = address.read(connection, list(changed))
        if stored is None:
            raise RowRefusedError("the row's key changed with its values (a trigger?)")
        by_field = {photo.field: photo for photo in good}
        ledger.require_text(address, stored, {name: changed[name] for name in by_field})
        ledger.record(
            connection,
            [
                ledger.entry(
                    batch=self._lease.batch,
                    run=self._lease.run,
                    address=address,
                    column=name,
                    photo_id=by_field[name].id if name in by_field else None,
                    outcome=RewriteOutcome.APPLIED,
                    before=before[name],
                    after=stored[name],
                )
                for name in changed
            ],
        )
        for photo in good:
            self._mark(connection, photo, PhotoState.MIGRATED, new_value=str(stored[photo.field]))

    def _refuse(
        self,
        connection: Connection,
        address: RowAddress,
        photos: list[Photo],
        outcome: RewriteOutcome,
        reason: str,
    ) -> None:
        entries = [
            ledger.entry(
                batch=self._lease.batch,
                run=self._lease.run,
                address=address,
                column=photo.field,
                photo_id=photo.id,
                outcome=outcome,
                before=photo.value,
                reason=reason,
            )
            for photo in photos
        ]
        ledger.record(connection, entries)
        is_conflict = outcome is RewriteOutcome.CONFLICT
        for photo in photos:
            self._mark(
                connection,
                photo,
                PhotoState.CONFLICT if is_conflict else PhotoState.QUARANTINED,
                error_type="conflict" if is_conflict else "rewrite_failed",
                error_detail=f"{photo.source} {photo.row_key} {photo.field}: {reason}.",
            )

    def _mark(self, connection: Connection, photo: Photo, state: PhotoState, **values: Any) -> None:
        cleared: dict[str, Any] = {"error_type": None, "error_detail": None}
        connection.execute(
            sa.update(photo_table)
            .where(photo_table.c.id == photo.id)
            .values(state=state, updated_at=utc_now(), **(cleared | values))
        )

    def _clear_staging(self, photos: list[Photo]) -> None:
        """Remove what is proven in the store and shown by rows now."""
        for photo in photos:
            if not photo.is_copy:
                for each in self._naming.variants(photo):
                    staged_path(self._config, each.key).unlink(missing_ok=True)


@dataclass
class _Counts:
    """A chunk's counts; they become the outcome's only when the chunk has committed."""

    rewritten: int = 0
    conflicts: int = 0
    failed: int = 0
    rows: int = 0
    samples: list[RowChange] = field(default_factory=list)

    def add(self, row: "_Counts") -> None:
        self.rewritten += row.rewritten
        self.conflicts += row.conflicts
        self.rows += row.rows
        self.samples += row.samples

    def add_to(self, outcome: Rewritten) -> None:
        outcome.rewritten += self.rewritten
        outcome.conflicts += self.conflicts
        outcome.failed += self.failed
        outcome.rows += self.rows
        outcome.samples += self.samples[: max(0, 10 - len(outcome.samples))]
