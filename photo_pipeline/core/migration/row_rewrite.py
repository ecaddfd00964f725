"""Rewrites one application row, inside the caller's transaction; what cannot be done costs this row only.

Which rows are ready, and in which chunks they go, is decided in `rewrite`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.faults import Fault, fault_of, one_line
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import PhotoState, RewriteOutcome, photo_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import DatabaseError, PhotoChangedError, RowNotReadyError
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.ledger import RowRefusedError
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import LocalFiles, Photo, quarantine
from photo_pipeline.core.migration.row_change import NewRow, RowChanges, by_column
from photo_pipeline.core.migration.row_rest import Lacking, RowRest

_EDITED = "the application changed the value after the inventory read it"
_DELETED = "the row was deleted"
_RACED = "the application changed the row during the rewrite"
_PRIMARY_EDITED = "the row's primary photo is no longer the one that this copy was made of"


@dataclass(frozen=True)
class RowChange:
    """One rewritten column, for samples and reports."""

    source: str
    row_key: str
    column: str
    before: str
    after: str


@dataclass(frozen=True)
class RowPreview:
    """What a rewrite would do to one row: its changed cells, or why it would be refused."""

    source: str
    row_key: str
    changes: tuple[RowChange, ...]
    refusal: str | None = None


@dataclass
class RowCounts:
    """What became of some rows; photos are counted by reference.

    `stored` are photos of fields that no rewrite changes: they are in the store, and that is all.
    """

    rewritten: int = 0
    stored: int = 0
    conflicts: int = 0
    failed: int = 0
    not_ready: int = 0
    rows: int = 0
    samples: list[RowChange] = field(default_factory=list)

    @property
    def numbers(self) -> dict[str, int]:
        """The counts by name."""
        return {name: count for name, count in vars(self).items() if name != "samples"}

    def add(self, other: "RowCounts") -> None:
        """Add another row's counts."""
        for name, count in other.numbers.items():
            setattr(self, name, getattr(self, name) + count)
        self.samples += other.samples[: max(0, 10 - len(self.samples))]


class RowRewriter:
    """Rewrites rows of one batch on the strength of the proven `objects` (`pp_object` rows by key).

    Only photos in `expected_state` are rewritten: uploaded ones for the first time, migrated ones once more.
    `gone` are the ids of rows that were not there to be backed up: no such row is rewritten.
    """

    def __init__(
        self,
        database: Database,
        config: PipelineConfig,
        naming: ObjectNaming,
        objects: Mapping[str, Any],
        *,
        batch: str,
        run: str,
        expected_state: PhotoState = PhotoState.UPLOADED,
        gone: frozenset[str] = frozenset(),
    ) -> None:
        self._database = database
        self._config = config
        self._naming = naming
        self._batch = batch
        self._run = run
        self._expected = expected_state
        self._gone = gone
        self._files = LocalFiles(config)
        self._becomes = RowChanges(config, naming, objects)
        self._rest = RowRest(config, naming)

    def rewrite(self, connection: Connection, photos: list[Photo], primary: Photo | None) -> RowCounts:
        """Rewrite the row of these photos, and return what became of it.

        Args:
            connection: In the chunk's write transaction.
            photos: The row's photos that are ready.
            primary: The photo that the row's resized copies are copies of, if it can be shown.
        """
        current, left = self._still_current(connection, photos)
        if not current:
            return left
        source = self._config.source(photos[0].source)
        if source.rewrite.mode == "none":
            left.add(self._leave(connection, current, primary))
            return left
        address = RowAddress.of(self._database, source, photos[0].row_key)
        try:
            with connection.begin_nested():
                counts = self._swap(connection, address, current, primary)
        except (RowRefusedError, DBAPIError) as error:
            counts = self._failed(connection, address, current, error)
        counts.add(left)
        return counts

    def _leave(self, connection: Connection, photos: list[Photo], primary: Photo | None) -> RowCounts:
        """Mark photos whose row is not touched: they are in the store, and that is all."""
        for photo in photos:
            shown = primary if photo.is_copy and primary is not None else photo
            recipe = self._naming.recipe_digest(shown)
            self._mark(connection, photo, PhotoState.STORED, recipe=recipe, validated_at=None)
        return RowCounts(stored=len(photos))

    def preview(self, connection: Connection, photos: list[Photo], primary: Photo | None) -> RowPreview:
        """Return what `rewrite` would change in the row of these photos; locks and writes nothing."""
        source = self._config.source(photos[0].source)
        address = RowAddress.of(self._database, source, photos[0].row_key)
        before = address.read(connection, list(source.cell_columns), lock=False)
        if before is None:
            return RowPreview(source.name, address.row_key, (), _DELETED)
        good = self._becomes.shown(address, before, photos)
        if not good:
            return RowPreview(source.name, address.row_key, (), _EDITED)
        changing = [photo for photo in good if self._becomes.is_written(address, photo, primary)]
        if source.rewrite.mode == "none" or not changing:
            return RowPreview(source.name, address.row_key, ())
        try:
            wanted = self._becomes.wanted(connection, address, changing, primary, before).cells
        except RowRefusedError as error:
            return RowPreview(source.name, address.row_key, (), str(error))
        changes = tuple(
            RowChange(source.name, address.row_key, name, _text(before[name]), _text(value))
            for name, value in wanted.items()
            if value != before[name]
        )
        return RowPreview(source.name, address.row_key, changes)

    def _still_current(self, connection: Connection, photos: list[Photo]) -> tuple[list[Photo], RowCounts]:
        """Leave out photos that an inventory took back, or whose file changed, since they were proven."""
        columns, counts = photo_table.c, RowCounts()
        query = sa.select(columns.id, columns.state, columns.sha256).where(
            columns.id.in_([photo.id for photo in photos])
        )
        live = {row.id: (row.state, row.sha256) for row in connection.execute(query.with_for_update())}
        current = []
        for photo in photos:
            if live.get(photo.id) != (self._expected, photo.sha256):
                counts.not_ready += 1
            elif self._expected is not PhotoState.MIGRATED and self._files.changed(photo):
                # Once the row shows the store its file may go: the objects are those of the file that it had.
                cause = "the file was changed after it was uploaded"
                error = PhotoChangedError(photo.path, cause=cause, fix="run the inventory again")
                quarantine(connection, [photo], error)
                counts.failed += 1
            else:
                current.append(photo)
        return current, counts

    def _failed(
        self, connection: Connection, address: RowAddress, photos: list[Photo], error: Exception
    ) -> RowCounts:
        reason = str(error)
        if isinstance(error, DBAPIError):
            fault, reason = fault_of(error), one_line(error)
            if fault is Fault.LOCKED:
                return RowCounts(not_ready=len(photos))
            if fault is not Fault.ROW:
                raise error
        self._refuse(connection, address, photos, RewriteOutcome.FAILED, reason)
        return RowCounts(failed=len(photos))

    def _swap(
        self, connection: Connection, address: RowAddress, photos: list[Photo], primary: Photo | None
    ) -> RowCounts:
        before = address.read(connection, list(address.source.cell_columns))
        if before is None:
            self._refuse(connection, address, photos, RewriteOutcome.CONFLICT, _DELETED)
            return RowCounts(conflicts=len(photos))
        if photos[0].row_id in self._gone:
            return RowCounts(not_ready=len(photos))  # There again, and not backed up.
        good = self._unedited(connection, address, photos, primary, before)
        if not good:
            return RowCounts(conflicts=len(photos))
        # A row that was rewritten once has been judged, and its columns say so already.
        if address.source.rewrite.markers and self._expected is not PhotoState.MIGRATED:
            lacking = self._rest.lacking(connection, address, before, good, primary)
            if lacking is not None:
                counts = self._not_ready(connection, good, lacking)
                counts.conflicts = len(photos) - len(good)
                return counts
        changing = [photo for photo in good if self._becomes.is_written(address, photo, primary)]
        idle = [photo for photo in good if photo not in changing]
        counts = self._leave(connection, idle, primary)
        counts.conflicts = len(photos) - len(good)
        if not changing:
            return counts
        new = self._becomes.wanted(connection, address, changing, primary, before)
        # A marker that says so already is written again: its ledger entry is what the way back goes by.
        markers = address.source.rewrite.markers
        changed = {n: value for n, value in new.cells.items() if value != before[n] or n in markers}
        if not ledger.swap(connection, address, before=before, after=changed):
            self._refuse(connection, address, changing, RewriteOutcome.CONFLICT, _RACED)
            return RowCounts(conflicts=len(photos) - len(idle), stored=len(idle))
        self._confirm(connection, address, changing, primary, before, changed, new.spelled)
        counts.rewritten, counts.rows = len(changing), 1
        counts.samples = [self._sample(changing[0], before, new)]
        return counts

    def _not_ready(self, connection: Connection, photos: list[Photo], lacking: Lacking) -> RowCounts:
        """Leave the row for later; quarantine its photos where somebody has to see to the other one first."""
        error = RowNotReadyError(
            f"{photos[0].source} {photos[0].row_key}",
            cause=lacking.reason,
            fix="the row is rewritten when all of its photos are in the store",
        )
        if not lacking.is_under_way:
            quarantine(connection, photos, error)
            return RowCounts(failed=len(photos))
        for photo in photos:
            self._mark(
                connection, photo, self._expected, error_type=error.error_type, error_detail=str(error)
            )
        return RowCounts(not_ready=len(photos))

    def _sample(self, first: Photo, before: Mapping[str, RawValue], new: NewRow) -> RowChange:
        markers = self._config.source(first.source).rewrite.markers
        if markers:
            name = markers[0]
            return RowChange(first.source, first.row_key, name, _text(before[name]), _text(new.cells[name]))
        after = new.spelled.get(first.id, "")
        return RowChange(first.source, first.row_key, first.field, str(first.shown), after)

    def _unedited(
        self,
        connection: Connection,
        address: RowAddress,
        photos: list[Photo],
        primary: Photo | None,
        before: Mapping[str, RawValue],
    ) -> list[Photo]:
        """Return the photos that the row still shows; refuse the others as conflicts."""
        good = self._becomes.shown(address, before, photos)
        edited = [photo for photo in photos if photo not in good]
        orphaned = [
            p for p in good if p.is_copy and not self._becomes.primary_stands(address, primary, good, before)
        ]
        self._refuse(connection, address, edited, RewriteOutcome.CONFLICT, _EDITED)
        self._refuse(connection, address, orphaned, RewriteOutcome.CONFLICT, _PRIMARY_EDITED)
        return [photo for photo in good if photo not in orphaned]

    def _confirm(
        self,
        connection: Connection,
        address: RowAddress,
        good: list[Photo],
        primary: Photo | None,
        before: Mapping[str, RawValue],
        changed: Mapping[str, RawValue],
        spelled: Mapping[int, str],
    ) -> None:
        """Record what the database really stored, and mark the photos as migrated."""
        stored = address.read(connection, list(changed))
        if stored is None:
            raise RowRefusedError("the row's key changed with its values (a trigger?)")
        rewrite = address.source.rewrite
        naming = by_column(good) if rewrite.names_photos else {}
        ledger.require_text(address, stored, {name: changed[name] for name in naming if name in changed})
        leader = next((photo for photo in good if photo.column is None), None)
        if leader is not None:
            # Nothing but these columns tells that this row shows the store.
            naming |= {name: [leader] for name in (*rewrite.set, *rewrite.write_back)}
        naming |= dict.fromkeys(rewrite.markers, good)
        entries = [
            self._entry(
                address,
                name,
                naming.get(name, []),
                RewriteOutcome.APPLIED,
                before=before[name],
                after=stored[name],
            )
            for name in changed
        ]
        ledger.record(connection, entries)
        for photo in good:
            source_photo = primary if photo.is_copy and primary is not None else photo
            self._mark(
                connection,
                photo,
                PhotoState.MIGRATED,
                # A computed field, and each one in mode columns, goes on naming the same file.
                new_value=spelled.get(photo.id, photo.shown),
                recipe=self._naming.recipe_digest(source_photo),
                validated_at=None,
            )

    def _refuse(
        self,
        connection: Connection,
        address: RowAddress,
        photos: list[Photo],
        outcome: RewriteOutcome,
        reason: str,
    ) -> None:
        """Record why the photos' columns were left as they are."""
        entries = [
            self._entry(address, p.column or p.field, [p], outcome, before=p.shown, reason=reason)
            for p in photos
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

    def _entry(
        self,
        address: RowAddress,
        column: str,
        photos: list[Photo],
        outcome: RewriteOutcome,
        **values: Any,
    ) -> ledger.Entry:
        return ledger.entry(
            batch=self._batch,
            run=self._run,
            address=address,
            column=column,
            photos=[photo.id for photo in photos],
            outcome=outcome,
            **values,
        )

    def _mark(self, connection: Connection, photo: Photo, state: PhotoState, **values: Any) -> None:
        changes: dict[str, Any] = {"error_type": None, "error_detail": None, **values}
        done = connection.execute(
            sa.update(photo_table)
            .where(photo_table.c.id == photo.id)
            .values(state=state, updated_at=utc_now(), **changes)
        )
        if done.rowcount != 1:
            # It was there and locked a moment ago; a row without its photo's state must not be committed.
            raise DatabaseError(
                f"pp_photo, row {photo.id}",
                cause="the database did not take its new state (a trigger or rule on the table?)",
                fix="remove what was added to the pp_* tables and run again; the rows are unchanged",
            )


def _text(value: RawValue) -> str:
    return "NULL" if value is None else str(value)
