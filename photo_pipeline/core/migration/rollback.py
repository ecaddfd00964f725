"""Takes rewritten rows back to their local values, exactly as the ledger has them.

A compare-and-swap on what was written (DESIGN rule 5): a photo column that the application has edited
since is reported and left. S3 objects stay; a local file that is gone is restored from its original first.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import (
    PhotoState,
    RewriteOutcome,
    photo_table,
    rewrite_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import PhotoError, PhotoPipelineError
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.ledger import RowRefusedError
from photo_pipeline.core.migration.photos import ObjectNaming, Photo, batch_photos
from photo_pipeline.core.migration.rewrite import RowChange
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.store import PhotoStore


class OpenStore:
    """Opens the store when it is first needed: a rollback with all local files there needs none."""

    def __init__(self, opener: Any) -> None:
        self._opener = opener
        self._store: PhotoStore | None = None

    def __call__(self) -> PhotoStore:
        """Return the store."""
        if self._store is None:
            self._store = self._opener()
        return self._store


@dataclass
class RolledBack:
    """What one rollback of a batch did; photos are counted by reference, `kept_columns` by column.

    `kept_columns` are write-back and touched columns that the application has changed since.
    """

    photos: int = 0
    rolled_back: int = 0
    conflicts: int = 0
    failed: int = 0
    kept_columns: int = 0
    files_restored: int = 0
    rows: int = 0
    samples: list[RowChange] = field(default_factory=list)


def rollback_batch(
    database: Database,
    config: PipelineConfig,
    lease: BatchLease,
    store: OpenStore,
    *,
    only_photos: Sequence[int] | None = None,
    progress: Progress = no_progress,
) -> RolledBack:
    """Restore every rewritten row of the batch (or only the rows of the given photos).

    Raises:
        DatabaseError: the database went away; committed chunks stand, the rest is untouched.
        LeaseLostError: another run has taken the batch over.
    """
    return _BatchRollback(database, config, lease, store).run(only_photos, progress)


class _BatchRollback:
    def __init__(
        self, database: Database, config: PipelineConfig, lease: BatchLease, store: OpenStore
    ) -> None:
        self._database = database
        self._config = config
        self._lease = lease
        self._store = store
        self._naming = ObjectNaming(config)
        self._outcome = RolledBack()
        self._photos = {photo.id: photo for photo in batch_photos(database, lease.batch)}

    def run(self, only_photos: Sequence[int] | None, progress: Progress) -> RolledBack:
        rows = self._ledger_rows(only_photos)
        self._outcome.photos = len({each.photo_id for row in rows for each in row} - {None})
        size = self._config.rewrite.rows_per_transaction
        for start in range(0, len(rows), size):
            chunk = [row for row in rows[start : start + size] if self._files_are_there(row)]
            self._roll_back_chunk(chunk)
            progress("rows", min(start + size, len(rows)), len(rows))
        return self._outcome

    def _ledger_rows(self, only_photos: Sequence[int] | None) -> list[list[Any]]:
        """Return the applied entries, grouped by application row, the last rewritten first."""
        columns = rewrite_table.c
        query = (
            sa.select(rewrite_table)
            .where(columns.batch == self._lease.batch, columns.outcome == RewriteOutcome.APPLIED)
            .order_by(columns.id.desc())
        )
        grouped: dict[tuple[str, str], list[Any]] = defaultdict(list)
        with self._database.read() as connection:
            for entry in connection.execute(query):
                grouped[entry.source, entry.row_key].append(entry)
        rows = list(grouped.values())
        if only_photos is None:
            return rows
        wanted = set(only_photos)
        return [row for row in rows if any(entry.photo_id in wanted for entry in row)]

    def _files_are_there(self, row: list[Any]) -> bool:
        """Make sure that every local file the row will point to exists again."""
        try:
            for entry in row:
                photo = self._photos.get(entry.photo_id)
                if photo is not None and self._restore_file(photo):
                    self._outcome.files_restored += 1
        except (PhotoPipelineError, OSError) as error:
            self._give_up(row, str(error))
            return False
        return True

    def _restore_file(self, photo: Photo) -> bool:
        """Bring a missing local file back from its original; return whether that was needed.

        Raises:
            PhotoError: there is no original, or it is not the file that was catalogued.
            StoreError: the store cannot be asked.
        """
        path = photo.location(self._config)
        if path.is_file():
            return False
        original = self._naming.original(photo)
        data = self._store().read(original.key, size=photo.size) if original else None
        if data is None or sha256_hex(data) != photo.sha256:
            cause = "the local file is gone and the store has no proven original of it"
            raise PhotoError(str(path), cause=cause, fix="put the file back, then roll back again")
        _write_durably(path, data, mtime_ns=photo.mtime_ns)
        return True

    def _give_up(self, row: list[Any], reason: str) -> None:
        photos = [self._photos[e.photo_id] for e in row if e.photo_id in self._photos]
        with self._database.write() as connection:
            self._lease.hold(connection)
            for photo in photos:
                self._mark(connection, photo, None, error_type="rollback_failed", error_detail=reason)
        self._outcome.failed += len(photos)

    def _roll_back_chunk(self, chunk: list[list[Any]]) -> None:
        counted = RolledBack()
        with self._database.write() as connection:
            self._lease.hold(connection)
            for row in chunk:
                self._roll_back_row(connection, row, counted)
        outcome = self._outcome
        outcome.rolled_back += counted.rolled_back
        outcome.conflicts += counted.conflicts
        outcome.failed += counted.failed
        outcome.kept_columns += counted.kept_columns
        outcome.rows += counted.rows
        outcome.samples += counted.samples[: max(0, 10 - len(outcome.samples))]

    def _roll_back_row(self, connection: Connection, row: list[Any], counted: RolledBack) -> None:
        try:
            with connection.begin_nested():
                self._swap_row_back(connection, row, counted)
        except (RowRefusedError, DBAPIError) as error:
            if isinstance(error, OperationalError):
                raise
            reason = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
            photos = [self._photos[e.photo_id] for e in row if e.photo_id in self._photos]
            for photo in photos:
                self._mark(connection, photo, None, error_type="rollback_failed", error_detail=reason)
            counted.failed += len(photos)

    def _swap_row_back(self, connection: Connection, row: list[Any], counted: RolledBack) -> None:
        source = self._config.source(row[0].source)
        address = RowAddress.of(self._database, source, row[0].row_key)
        current = address.read(connection, [entry.column for entry in row])
        intact = [e for e in row if current is not None and current[e.column] == _after(e)]
        restored = any(entry.photo_id is not None for entry in intact)
        if restored and current is not None:
            before = {entry.column: _before(entry) for entry in intact}
            if not ledger.swap(connection, address, before=current, after=before):
                # Locked rows cannot change under us; a trigger may still refuse.
                raise RowRefusedError(f"{source.name} {row[0].row_key} changed during its rollback")
        self._settle(connection, row, intact if restored else [], current, counted)

    def _settle(
        self,
        connection: Connection,
        row: list[Any],
        restored: list[Any],
        current: dict[str, Any] | None,
        counted: RolledBack,
    ) -> None:
        reason = "the row was deleted" if current is None else "the application changed the value since"
        done = {entry.id for entry in restored}
        counted.rows += bool(restored)
        for entry in row:
            outcome = RewriteOutcome.ROLLED_BACK if entry.id in done else RewriteOutcome.ROLLBACK_CONFLICT
            connection.execute(
                sa.update(rewrite_table)
                .where(rewrite_table.c.id == entry.id)
                .values(
                    outcome=outcome,
                    rolled_back_at=utc_now(),
                    reason=None if entry.id in done else reason,
                )
            )
            photo = self._photos.get(entry.photo_id)
            if photo is None:
                counted.kept_columns += entry.id not in done
            elif entry.id in done:
                self._mark(connection, photo, PhotoState.ROLLED_BACK)
                # A value that the application took back by itself was rewritten, and is listed, twice.
                counted.rolled_back += photo.id not in {each.photo_id for each in row[: row.index(entry)]}
                counted.samples.append(
                    RowChange(entry.source, entry.row_key, entry.column, entry.after, entry.before)
                )
            else:
                detail = f"{entry.source} {entry.row_key} {entry.column}: {reason}; it was left as it is."
                self._mark(connection, photo, PhotoState.CONFLICT, error_type="conflict", error_detail=detail)
                counted.conflicts += 1

    def _mark(self, connection: Connection, photo: Photo, state: PhotoState | None, **values: Any) -> None:
        changes: dict[str, Any] = {"error_type": None, "error_detail": None, "updated_at": utc_now()}
        changes |= values
        if state is not None:
            changes |= {"state": state}
        connection.execute(sa.update(photo_table).where(photo_table.c.id == photo.id).values(**changes))


def _before(entry: Any) -> raw.RawValue:
    return raw.decode(entry.before, entry.before_type)


def _after(entry: Any) -> raw.RawValue:
    return raw.decode(entry.after, entry.after_type)


def _write_durably(path: Path, data: bytes, *, mtime_ns: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.restoring")
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.utime(partial, ns=(mtime_ns, mtime_ns))
    partial.replace(path)
