"""Takes rewritten rows back to their local values, exactly as the ledger has them.

Batch by batch here, row by row in `row_rollback`: a compare-and-swap on what was written (DESIGN rule 5). A
photo column that the application has edited since is reported and left. S3 objects stay; a local file that
is gone comes back first, from the trash of the clean-up or else from its original.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.catalog.database import ROW_LOCK_TIMEOUT_S, Database
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.scan import require_listable
from photo_pipeline.core.catalog.tables import PhotoState, RewriteOutcome, rewrite_table, utc_now
from photo_pipeline.core.cleanup.undo import bring_back_file
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.durable import write_durably
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError, PhotoError, StoreError
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.ledger_audit import audit_rewritten_again, audit_rollbacks, last_ledger_id
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.originals import read_original
from photo_pipeline.core.migration.photos import Photo, batch_photos
from photo_pipeline.core.migration.row_parts import RowPart, part_with, whole_row, without
from photo_pipeline.core.migration.row_rewrite import RowChange
from photo_pipeline.core.migration.row_rollback import RowRollback, RowRollbackCounts
from photo_pipeline.core.migration.watch import ControlWatch, Wish
from photo_pipeline.core.progress import Progress, no_progress
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
    `files_lost` names files that rows show already and that could not be brought back, each with the reason.
    """

    photos: int = 0
    rolled_back: int = 0
    conflicts: int = 0
    failed: int = 0
    kept_columns: int = 0
    files_restored: int = 0
    rows: int = 0
    files_lost: list[str] = field(default_factory=list)
    samples: list[RowChange] = field(default_factory=list)


def rollback_batch(
    database: Database,
    config: PipelineConfig,
    lease: BatchLease,
    store: OpenStore,
    *,
    only_photos: Sequence[int] | None = None,
    wish_before: Wish | None = None,
    progress: Progress = no_progress,
) -> RolledBack:
    """Restore every rewritten row of the batch, or only what goes back with the given photos (`row_parts`).

    A pause stops it, unless it is `wish_before`: what was wanted already when the rollback (of which this
    batch may be a part) began; without that, when this batch began.

    Raises:
        DatabaseError: the database went away; committed chunks stand, the rest is untouched.
        LeaseLostError: another run has taken the batch over.
        PausedError: a person paused while it ran; committed chunks stand.
    """
    watch = ControlWatch(database, backwards=True, before=wish_before)
    return _BatchRollback(database, config, lease, store, watch).run(only_photos, progress)


class _BatchRollback:
    def __init__(
        self,
        database: Database,
        config: PipelineConfig,
        lease: BatchLease,
        store: OpenStore,
        watch: ControlWatch,
    ) -> None:
        self._database = database
        self._config = config
        self._lease = lease
        self._store = store
        self._naming = ObjectNaming(config, database)
        self._outcome = RolledBack()
        self._restored: list[str] = []  # files, since the last chunk
        self._photos = {photo.id: photo for photo in batch_photos(database, lease.batch)}
        self._links: dict[int, tuple[int, ...]] = {}  # photos by ledger row
        self._trusted: set[Path] = set()  # files whose content was compared in this rollback
        self._watch = watch
        self._rows = RowRollback(database, config, self._photos, batch=lease.batch)

    def run(self, only_photos: Sequence[int] | None, progress: Progress) -> RolledBack:
        rows = self._ledger_rows(only_photos)
        self._outcome.photos = len(frozenset[int]().union(*(part.photos for part in rows)))
        size = self._config.rewrite.rows_per_transaction
        for start in range(0, len(rows), size):
            self._watch.check()
            chunk = [row for row in rows[start : start + size] if self._files_are_there(row)]
            self._roll_back_chunk(chunk)
            progress("rows", min(start + size, len(rows)), len(rows))
        self._bring_back_shown_files(only_photos)
        return self._outcome

    def _ledger_rows(self, only_photos: Sequence[int] | None) -> list[RowPart]:
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
            self._links = ledger.photos_of(connection, [entry for row in rows for entry in row])
        # What `delete` has taken from a row does not go back to it.
        deleted = {photo.id for photo in self._photos.values() if photo.state == PhotoState.DELETED}
        if only_photos is None:
            whole = (whole_row(row, self._links) for row in rows)
            return [part for each in whole if (part := without(deleted, each, self._links)) is not None]
        only_photos = sorted(set(only_photos) - deleted)
        sources = self._config.source
        parts = (
            part_with(only_photos, row, self._links, self._photos, sources(row[0].source)) for row in rows
        )
        left = (without(deleted, part, self._links) for part in parts if part is not None)
        return [part for part in left if part is not None]

    def _files_are_there(self, part: RowPart) -> bool:
        """Make sure that every local file the row will point to exists again."""
        try:
            for photo_id in sorted(part.photos):
                photo = self._photos.get(photo_id)
                if photo is not None and self._restore_file(photo):
                    self._outcome.files_restored += 1
                    self._restored.append(f"{photo.root}/{photo.path}")
        except (PhotoError, StoreError, ConfigurationError, GuardRefusedError, OSError) as error:
            if not self._is_still_ours(part.entries):
                return True  # Nothing of it will be set back; that it was edited is what to report.
            self._give_up(part, str(error))
            return False
        return True

    def _bring_back_shown_files(self, only_photos: Sequence[int] | None) -> None:
        """Bring files back that rows show already, so that no ledger entry brings them along.

        The whole database was set back to a backup from before the migration, say, and the clean-up had
        taken the files meanwhile.
        """
        wanted = self._photos if only_photos is None else set(only_photos)
        for photo in self._photos.values():
            if photo.id not in wanted or photo.state != PhotoState.ROLLED_BACK:
                continue
            if photo.location(self._config).exists():
                continue
            try:
                if self._restore_file(photo):
                    self._outcome.files_restored += 1
                    self._restored.append(f"{photo.root}/{photo.path}")
            except (PhotoError, StoreError, GuardRefusedError, OSError) as error:
                self._outcome.files_lost.append(str(error))
            self._watch.check()
        if not self._restored:
            return
        with self._database.write() as connection:
            self._lease.hold(connection)
            audit.record(
                connection,
                action="restore_files",
                subject=f"{len(self._restored)} files of {self._lease.batch}",
                batch=self._lease.batch,
                details={"files_restored": self._restored},
                run=self._lease.run,
            )

    def _is_still_ours(self, row: list[Any]) -> bool:
        """Return whether a photo column of the row still holds what a rewrite wrote."""
        source = self._config.source(row[0].source)
        shown = [entry for entry in row if self._links[entry.id]]
        address = RowAddress.of(self._database, source, row[0].row_key)
        if any(field.embedded for entry in shown for field in source.fields_on(entry.column)):
            # A text is set back photo by photo: other batches may have written it since. A row that is gone
            # needs no file, and its original may have been cleaned up since.
            with self._database.read() as connection:
                return address.read(connection, [], lock=False) is not None
        names = [each.column for each in shown if each.column in address.table.columns]
        with self._database.read() as connection:
            current = address.read(connection, names, lock=False) if names else None
        return current is not None and any(
            each.column in current and current[each.column] == ledger.after_of(each) for each in shown
        )

    def _restore_file(self, photo: Photo) -> bool:
        """Bring a missing local file back from its original; return whether that was needed.

        Raises:
            PhotoError: there is no original, or it is not the file that was catalogued; or another file is
                in its place, which the row must not show.
            StoreError: the store cannot be asked.
        """
        path = photo.location(self._config)
        if path in self._trusted:
            return False
        if path.is_file():
            _require_same(path, photo)
            self._trusted.add(path)
            return False
        # A root that is missing as a whole looks like an unmounted disk; nothing is restored beside it.
        require_listable((self._config.root(photo.root),))
        if bring_back_file(self._database, self._config, photo.root, photo.path, run=self._lease.run):
            _require_same(path, photo)
            self._trusted.add(path)
            return True
        data = read_original(self._database, self._naming, self._store(), photo)
        if data is None:
            cause = "the local file is gone and the store has no proven original of it"
            raise PhotoError(str(path), cause=cause, fix="put the file back, then roll back again")
        write_durably(path, data, mtime_ns=photo.mtime_ns)
        self._trusted.add(path)
        return True

    def _give_up(self, part: RowPart, reason: str) -> None:
        with self._database.write() as connection:
            self._lease.hold(connection)
            left = self._rows.give_up(connection, part, reason)
        self._outcome.failed += left

    def _roll_back_chunk(self, chunk: list[RowPart]) -> None:
        def change(connection: Connection) -> RowRollbackCounts:
            counts, began = RowRollbackCounts(), utc_now()
            above, row_ids = last_ledger_id(connection), {part.entries[0].row_id for part in chunk}
            self._lease.hold(connection)
            for part in chunk:
                counts.add(self._rows.roll_back(connection, part))
            batch, run = self._lease.batch, self._lease.run
            audit_rewritten_again(connection, batch=batch, run=run, row_ids=row_ids, above=above)
            audit_rollbacks(
                connection,
                batch=batch,
                run=run,
                row_ids=row_ids,
                since=began,
                facts=counts.numbers | {"files_restored": self._restored},
            )
            return counts

        counts = self._database.transact(change, lock_timeout_s=ROW_LOCK_TIMEOUT_S)
        self._restored = []
        outcome = self._outcome
        outcome.rolled_back += counts.rolled_back
        outcome.conflicts += counts.conflicts
        outcome.failed += counts.failed
        outcome.kept_columns += counts.kept_columns
        outcome.rows += counts.rows
        outcome.samples += counts.samples[: max(0, 10 - len(outcome.samples))]


def _require_same(path: Path, photo: Photo) -> None:
    """Check that the file is the one that was catalogued.

    Raises:
        PhotoError: it is another one; it stays where it is.
        OSError: it cannot be read.
    """
    same = path.stat().st_size == photo.size
    if same:
        with path.open("rb") as stream:
            same = hashlib.file_digest(stream, "sha256").hexdigest() == photo.sha256
    if not same:
        raise PhotoError(
            str(path),
            cause="another file is there now than the one that the row showed before",
            fix="move it away (the old one is then restored from its original), and roll back again",
        )
