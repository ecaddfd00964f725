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
from photo_pipeline.core.catalog.database import ROW_LOCK_TIMEOUT_S, Database
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.scan import require_listable
from photo_pipeline.core.catalog.tables import (
    PhotoState,
    RewriteOutcome,
    photo_table,
    rewrite_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError, PhotoError, StoreError
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.ledger import RowRefusedError
from photo_pipeline.core.migration.photos import ObjectNaming, Photo, batch_photos
from photo_pipeline.core.migration.row_rewrite import LOCK_NOT_AVAILABLE, RowChange
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.store import PhotoStore

_EDITED = "the application changed the value since"
_GONE = "the row was deleted"
_NO_COLUMN = "the column no longer exists"


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
        self._naming = ObjectNaming(config, database)
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
        except (PhotoError, StoreError, ConfigurationError, OSError) as error:
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
        # A root that is missing as a whole looks like an unmounted disk; nothing is restored beside it.
        require_listable((self._config.root(photo.root),))
        original = self._naming.original(photo)
        data = self._store().read(original.key, size=photo.size) if original else None
        if data is None or sha256_hex(data) != photo.sha256:
            cause = "the local file is gone and the store has no proven original of it"
            raise PhotoError(str(path), cause=cause, fix="put the file back, then roll back again")
        _write_durably(path, data, mtime_ns=photo.mtime_ns)
        return True

    def _give_up(self, row: list[Any], reason: str) -> None:
        photos = self._photos_of(row)
        with self._database.write() as connection:
            self._lease.hold(connection)
            for photo in photos:
                self._mark(connection, photo, None, error_type="rollback_failed", error_detail=reason)
        self._outcome.failed += len(photos)

    def _roll_back_chunk(self, chunk: list[list[Any]]) -> None:
        counted = RolledBack()
        with self._database.write(lock_timeout_s=ROW_LOCK_TIMEOUT_S) as connection:
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
        except (RowRefusedError, ConfigurationError, DBAPIError) as error:
            locked = getattr(getattr(error, "orig", None), "sqlstate", None) == LOCK_NOT_AVAILABLE
            if isinstance(error, OperationalError) and not locked:
                raise
            reason = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
            photos = self._photos_of(row)
            for photo in photos:
                self._mark(connection, photo, None, error_type="rollback_failed", error_detail=reason)
            counted.failed += len(photos)

    def _photos_of(self, row: list[Any]) -> list[Photo]:
        ids = dict.fromkeys(entry.photo_id for entry in row)
        return [self._photos[photo_id] for photo_id in ids if photo_id in self._photos]

    def _swap_row_back(self, connection: Connection, row: list[Any], counted: RolledBack) -> None:
        source = self._config.source(row[0].source)
        address = RowAddress.of(self._database, source, row[0].row_key)
        present = [entry for entry in row if entry.column in address.table.columns]
        names = list(dict.fromkeys(entry.column for entry in present))
        current = address.read(connection, names) if names else None
        verdicts: dict[int, str | None] = {e.id: _GONE if e in present else _NO_COLUMN for e in row}
        if current is not None:
            verdicts |= self._restore_cells(connection, address, present, current)
        self._settle(connection, row, verdicts, counted)

    def _restore_cells(
        self,
        connection: Connection,
        address: RowAddress,
        row: list[Any],
        current: dict[str, raw.RawValue],
    ) -> dict[int, str | None]:
        """Set back what still is as it was written; return, by entry, None or why it was left."""
        later = self._later_entries(connection, row)
        cells = _cells(row)
        verdicts: dict[int, str | None] = {}
        targets: dict[str, raw.RawValue] = {}
        for name, chain in cells.items():
            if name in later:
                verdicts |= _left(chain, f"batch {later[name].batch} has rewritten it again since")
                continue
            target, walked = ledger.walk_back(current[name], chain)
            verdicts |= _left(chain, _EDITED) | {entry.id: None for entry in walked}
            if walked:
                targets[name] = target
        if not any(verdicts[e.id] is None and e.photo_id is not None for e in row):
            return _left(row, _EDITED) | {k: v for k, v in verdicts.items() if v}
        verdicts |= self._splice(connection, cells, later)
        if not ledger.swap(connection, address, before=current, after=targets):
            # Locked rows cannot change under us; a trigger may still refuse.
            raise RowRefusedError(f"{row[0].source} {row[0].row_key} changed during its rollback")
        return verdicts | self._set_again(connection, address, cells, targets)

    def _set_again(
        self,
        connection: Connection,
        address: RowAddress,
        cells: dict[str, list[Any]],
        targets: dict[str, raw.RawValue],
    ) -> dict[int, str | None]:
        """Read back what the database stored; return the entries of columns that it set to something else.

        Raises:
            RowRefusedError: a photo column, or the row itself, is not what it was set to.
        """
        stored = address.read(connection, list(targets))
        verdicts: dict[int, str | None] = {}
        for name, target in targets.items():
            if stored is None or stored[name] != target:
                if stored is None or any(entry.photo_id is not None for entry in cells[name]):
                    raise RowRefusedError(f"the database did not keep the old value of {name!r} (a trigger?)")
                verdicts |= _left(cells[name], "the database set it again (a trigger?)")
        return verdicts

    def _later_entries(self, connection: Connection, row: list[Any]) -> dict[str, Any]:
        """Return, by column, the next entry of another batch that stands on top of this batch's."""
        columns = rewrite_table.c
        newest = {name: chain[0].id for name, chain in _cells(row).items()}
        query = (
            sa.select(rewrite_table)
            .where(
                columns.row_id == row[0].row_id,
                columns.outcome == RewriteOutcome.APPLIED,
                columns.batch != self._lease.batch,
            )
            .order_by(columns.id.desc())
        )
        return {e.column: e for e in connection.execute(query) if e.id > newest.get(e.column, e.id)}

    def _splice(
        self, connection: Connection, cells: dict[str, list[Any]], later: dict[str, Any]
    ) -> dict[int, str | None]:
        """Hand the older value of a touched or written-back column on to the later batch's entry.

        So that rolling back both batches, in either order, ends at the value before the first.
        """
        verdicts: dict[int, str | None] = {}
        for name, newer in later.items():
            chain = cells.get(name, [])
            if any(entry.photo_id is not None for entry in chain):
                continue
            target, walked = ledger.walk_back(ledger.before_of(newer), chain)
            if walked:
                text, kind = raw.encode(target)
                connection.execute(
                    sa.update(rewrite_table)
                    .where(rewrite_table.c.id == newer.id)
                    .values(before=text, before_type=kind)
                )
                verdicts |= {entry.id: None for entry in walked}
        return verdicts

    def _settle(
        self,
        connection: Connection,
        row: list[Any],
        verdicts: dict[int, str | None],
        counted: RolledBack,
    ) -> None:
        """Write the outcome of each entry into the ledger, and of each photo into the catalog."""
        counted.rows += any(reason is None for reason in verdicts.values())
        restored = {entry.photo_id for entry in row if verdicts[entry.id] is None}
        for entry in row:
            reason = verdicts[entry.id]
            outcome = RewriteOutcome.ROLLBACK_CONFLICT if reason else RewriteOutcome.ROLLED_BACK
            connection.execute(
                sa.update(rewrite_table)
                .where(rewrite_table.c.id == entry.id)
                .values(outcome=outcome, rolled_back_at=utc_now(), reason=reason)
            )
            counted.kept_columns += bool(reason) and entry.photo_id is None
        for photo in self._photos_of(row):
            entry = next(each for each in row if each.photo_id == photo.id)
            if photo.id in restored:
                self._mark(connection, photo, PhotoState.ROLLED_BACK)
                counted.rolled_back += 1
                counted.samples.append(
                    RowChange(entry.source, entry.row_key, entry.column, entry.after, entry.before)
                )
            else:
                cell = f"{entry.source} {entry.row_key} {entry.column}"
                detail = f"{cell}: {verdicts[entry.id]}; it was left as it is."
                self._mark(connection, photo, PhotoState.CONFLICT, error_type="conflict", error_detail=detail)
                counted.conflicts += 1

    def _mark(self, connection: Connection, photo: Photo, state: PhotoState | None, **values: Any) -> None:
        changes: dict[str, Any] = {"error_type": None, "error_detail": None, "updated_at": utc_now()}
        changes |= values
        if state is not None:
            changes |= {"state": state}
        connection.execute(sa.update(photo_table).where(photo_table.c.id == photo.id).values(**changes))


def _cells(row: list[Any]) -> dict[str, list[Any]]:
    """Return the entries by column, the newest first."""
    cells: dict[str, list[Any]] = defaultdict(list)
    for entry in sorted(row, key=lambda each: -each.id):
        cells[entry.column].append(entry)
    return cells


def _left(entries: list[Any], reason: str) -> dict[int, str | None]:
    return {entry.id: reason for entry in entries}


def _write_durably(path: Path, data: bytes, *, mtime_ns: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.restoring")
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.utime(partial, ns=(mtime_ns, mtime_ns))
    partial.replace(path)
