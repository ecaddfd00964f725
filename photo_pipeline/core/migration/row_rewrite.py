"""Rewrites one application row, inside the caller's transaction; what cannot be done costs this row only.

Which rows are ready, and in which chunks they go, is decided in `rewrite`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from photo_pipeline.core.catalog.cells import CellReader
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.faults import Fault, fault_of, one_line
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import PhotoState, RewriteOutcome, photo_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import PhotoChangedError
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.ledger import RowRefusedError
from photo_pipeline.core.migration.photos import LocalFiles, ObjectNaming, Photo, quarantine
from photo_pipeline.core.migration.proof import is_proven_row
from photo_pipeline.core.migration.touch import touched
from photo_pipeline.core.migration.values import RowValues

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
    ) -> None:
        self._database = database
        self._config = config
        self._naming = naming
        self._objects = objects
        self._batch = batch
        self._run = run
        self._expected = expected_state
        self._cells = CellReader(config)
        self._files = LocalFiles(config)
        self._values: dict[str, RowValues] = {}

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
        good = self._shown(address, before, photos)
        if not good:
            return RowPreview(source.name, address.row_key, (), _EDITED)
        changing = [photo for photo in good if self._is_written(address, photo, primary)]
        if source.rewrite.mode == "none" or not changing:
            return RowPreview(source.name, address.row_key, ())
        try:
            wanted = self._wanted(connection, address, changing, primary, before).cells
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
        good = self._unedited(connection, address, photos, primary, before)
        if not good:
            return RowCounts(conflicts=len(photos))
        changing = [photo for photo in good if self._is_written(address, photo, primary)]
        idle = [photo for photo in good if photo not in changing]
        counts = self._leave(connection, idle, primary)
        counts.conflicts = len(photos) - len(good)
        if not changing:
            return counts
        new = self._wanted(connection, address, changing, primary, before)
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

    def _sample(self, first: Photo, before: Mapping[str, RawValue], new: "_NewRow") -> RowChange:
        markers = self._config.source(first.source).rewrite.markers
        if markers:
            name = markers[0]
            return RowChange(first.source, first.row_key, name, _text(before[name]), _text(new.cells[name]))
        after = new.spelled.get(first.id, "")
        return RowChange(first.source, first.row_key, first.field, str(first.shown), after)

    def _is_written(self, address: RowAddress, photo: Photo, primary: Photo | None) -> bool:
        """Return whether the row's rewrite changes a cell on behalf of the photo."""
        source = address.source
        if source.rewrite.markers or source.field(photo.field).written:
            return True
        is_leader = primary is not None and photo.id == primary.id
        return photo.column is None and is_leader and bool(source.rewrite.set or source.rewrite.write_back)

    def _shown(self, address: RowAddress, before: Mapping[str, RawValue], photos: list[Photo]) -> list[Photo]:
        """Return the photos that the row still says; each cell is looked through once for all of its."""
        source = address.source
        # Nothing is written for the others, so that nothing can be overwritten.
        written = [photo for photo in photos if source.field(photo.field).written]
        there = set()
        for column, named in _by_column(written).items():
            names = {(photo.field, photo.shown or "") for photo in named}
            there |= {each.name for each in self._cells.mentions(source, column, before[column], names)}
        return [p for p in photos if p not in written or (p.field, p.shown or "") in there]

    def _unedited(
        self,
        connection: Connection,
        address: RowAddress,
        photos: list[Photo],
        primary: Photo | None,
        before: Mapping[str, RawValue],
    ) -> list[Photo]:
        """Return the photos that the row still shows; refuse the others as conflicts."""
        good = self._shown(address, before, photos)
        edited = [photo for photo in photos if photo not in good]
        orphaned = [p for p in good if p.is_copy and not self._primary_stands(address, primary, good, before)]
        self._refuse(connection, address, edited, RewriteOutcome.CONFLICT, _EDITED)
        self._refuse(connection, address, orphaned, RewriteOutcome.CONFLICT, _PRIMARY_EDITED)
        return [photo for photo in good if photo not in orphaned]

    def _primary_stands(
        self,
        address: RowAddress,
        primary: Photo | None,
        good: list[Photo],
        before: Mapping[str, RawValue],
    ) -> bool:
        if primary is None:
            return False
        migrated = primary.state == PhotoState.MIGRATED and self._shown(address, before, [primary])
        return bool(migrated) or any(photo.id == primary.id for photo in good)

    def _wanted(
        self,
        connection: Connection,
        address: RowAddress,
        good: list[Photo],
        primary: Photo | None,
        before: Mapping[str, RawValue],
    ) -> "_NewRow":
        """Return the new value of every column that the row's rewrite sets.

        Raises:
            RowRefusedError: a value would name an object that is not proven, or does not fit its column.
        """
        values = self._row_values(address)
        for photo in good:
            for key in values.named_keys(photo, primary):
                if not is_proven_row(self._objects.get(key)):
                    raise RowRefusedError(f"the new value would name {key}, which is not proven")
        new = _NewRow({}, {})
        if address.source.rewrite.names_photos:
            new = self._new_cells(address, good, primary, before)
        wanted = new.cells
        wanted |= values.literals(is_sqlite=address.is_sqlite)
        leader = self._leader(address, good, primary)
        if leader is not None:
            wanted |= values.write_back(leader, self._objects)
        now = utc_now()
        for name in address.source.rewrite.touch:
            wanted[name] = touched(connection, address.table.columns[name], before[name], now)
        for name, value in wanted.items():
            ledger.check_fits(address, name, value)
        return new

    def _new_cells(
        self,
        address: RowAddress,
        good: list[Photo],
        primary: Photo | None,
        before: Mapping[str, RawValue],
    ) -> "_NewRow":
        """Return the photos' cells with these photos' URLs replaced; all else in them is as it was."""
        values, new = self._row_values(address), _NewRow({}, {})
        for column, photos in _by_column(good).items():
            urls = {(p.field, p.shown or ""): values.field_value(p, primary) for p in photos}
            edited = self._cells.replaced(address.source, column, str(before[column]), urls)
            new.cells[column] = edited.text
            new.spelled |= {p.id: edited.spelled[p.field, p.shown or ""] for p in photos}
        return new

    def _row_values(self, address: RowAddress) -> RowValues:
        source = address.source
        if source.name not in self._values:
            self._values[source.name] = RowValues(self._naming, source, self._config.store.bucket)
        return self._values[source.name]

    def _leader(self, address: RowAddress, good: list[Photo], primary: Photo | None) -> Photo | None:
        """Return the photo whose facts are written back: the row's primary, never another one's."""
        if address.source.primary_field is None:
            return next((photo for photo in good if not address.source.field(photo.field).embedded), None)
        return next((photo for photo in good if primary is not None and photo.id == primary.id), None)

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
        naming = _by_column(good) if rewrite.names_photos else {}
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
        connection.execute(
            sa.update(photo_table)
            .where(photo_table.c.id == photo.id)
            .values(state=state, updated_at=utc_now(), **changes)
        )


def _text(value: RawValue) -> str:
    return "NULL" if value is None else str(value)


@dataclass
class _NewRow:
    """A row's new cells by column, and by photo id how its new URL is spelled in its cell."""

    cells: dict[str, RawValue]
    spelled: dict[int, str]


def _by_column(photos: list[Photo]) -> dict[str, list[Photo]]:
    """Return the photos by the column that names them; those without one are left out."""
    grouped: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        if photo.column is not None:
            grouped[photo.column].append(photo)
    return grouped
