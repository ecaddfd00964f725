"""Takes one rewritten row back, inside the caller's transaction; what cannot be done costs this row only.

Which rows those are, in which chunks they go, and that their local files are there, is decided in `rollback`.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.cells import row_names
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.faults import refusal
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import (
    PhotoState,
    RewriteOutcome,
    photo_table,
    rewrite_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.cell_steps import CellSteps, deferred_back, steps_back
from photo_pipeline.core.migration.ledger import RowRefusedError
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.migration.row_parts import RowPart, runs_of_another_primary
from photo_pipeline.core.migration.row_rewrite import RowChange
from photo_pipeline.core.migration.shared_cells import SharedCells

_EDITED = "the application changed the value since"
_OTHER_PHOTO = "the row does not name that photo any more"
_GONE = "the row was deleted"
_AGAIN = "batch {batch} has rewritten it again since"
_STILL_SAID = "it goes back with the last photo of its row"
_NO_COLUMN = "the column no longer exists"


@dataclass
class RowRollbackCounts:
    """What became of some rows; photos are counted by reference, `kept_columns` by column.

    `kept_columns` are write-back and touched columns that the application has changed since.
    """

    rolled_back: int = 0
    conflicts: int = 0
    failed: int = 0
    kept_columns: int = 0
    rows: int = 0
    samples: list[RowChange] = field(default_factory=list)

    @property
    def numbers(self) -> dict[str, int]:
        """The counts by name."""
        return {name: count for name, count in vars(self).items() if name != "samples"}

    def add(self, other: "RowRollbackCounts") -> None:
        """Add other rows' counts."""
        for name, count in other.numbers.items():
            setattr(self, name, getattr(self, name) + count)
        self.samples += other.samples[: max(0, 10 - len(self.samples))]


class RowRollback:
    """Takes rows of one batch back, by their applied ledger entries.

    Args:
        database: The application's database.
        config: With the sources of the rows.
        photos: The batch's photos by id.
        batch: Its key; entries of later batches on the same cells stay on top.
    """

    def __init__(
        self, database: Database, config: PipelineConfig, photos: Mapping[int, Photo], *, batch: str
    ) -> None:
        self._database = database
        self._config = config
        self._photos = photos
        self._batch = batch
        self._shared = SharedCells(config)
        self._put_off: set[int] = set()
        self._held: set[int] = set()  # entries that tell where photos are, below another batch's
        self._stuck: set[int] = set()  # photos that stay in a text

    def roll_back(self, connection: Connection, part: RowPart) -> RowRollbackCounts:
        """Set the row (or the part of it) back to what the ledger has, and return what became of it.

        Args:
            connection: In the chunk's write transaction.
            part: The applied `pp_rewrite` rows of one application row, and the photos that go back.
        """
        counts = RowRollbackCounts()
        for noted in (self._put_off, self._held, self._stuck):
            noted.clear()
        try:
            with connection.begin_nested():
                self._swap_row_back(connection, part, counts)
        except (RowRefusedError, ConfigurationError, DBAPIError) as error:
            counts = RowRollbackCounts(failed=self.give_up(connection, part, refusal(error)))
        return counts

    def give_up(self, connection: Connection, part: RowPart, reason: str) -> int:
        """Note on the photos why their row was left as it is; return how many they are."""
        photos = self._photos_of(part)
        for photo in photos:
            self._mark(connection, photo, None, error_type="rollback_failed", error_detail=reason)
        return len(photos)

    def _photos_of(self, part: RowPart) -> list[Photo]:
        return [self._photos[photo_id] for photo_id in sorted(part.photos) if photo_id in self._photos]

    def _swap_row_back(self, connection: Connection, part: RowPart, counts: RowRollbackCounts) -> None:
        row = part.entries
        source = self._config.source(row[0].source)
        address = RowAddress.of(self._database, source, row[0].row_key)
        present = [entry for entry in row if entry.column in address.table.columns]
        names = list(dict.fromkeys([*(entry.column for entry in present), *_said_of_the_row(address)]))
        current = address.read(connection, names) if present else None
        verdicts: dict[int, str | None] = {e.id: _GONE if e in present else _NO_COLUMN for e in row}
        if current is not None:
            verdicts |= self._restore_cells(connection, address, present, current, part.photos)
        self._settle(connection, part, verdicts, counts)

    def _restore_cells(
        self,
        connection: Connection,
        address: RowAddress,
        row: list[Any],
        current: dict[str, raw.RawValue],
        going: Collection[int],
    ) -> dict[int, str | None]:
        """Set back what still is as it was written; return, by entry, None or why it was left."""
        standing = self._standing(connection, address, row)
        cells = _cells(row)
        said = _said_of_the_row(address)
        still_said = bool(said) and self._shows_others(connection, row[0].row_id, going)
        steps: dict[str, CellSteps] = {}
        verdicts: dict[int, str | None] = {}
        targets: dict[str, raw.RawValue] = {}
        later = {
            name
            for name, chain in cells.items()
            if any(
                each.batch != self._batch and each.outcome == RewriteOutcome.APPLIED and each.id > chain[0].id
                for each in standing[name]
            )
        }
        replaced = runs_of_another_primary(address.source, cells, current, later)
        stale = self._of_other_photos(connection, address, cells, current, going)
        for name, chain in cells.items():
            if name in stale:
                verdicts |= _left(chain, _OTHER_PHOTO)
                continue
            if any(each.embedded for each in address.source.fields_on(name)):
                # The same text may show photos of other batches: theirs stay, ours go back.
                target, walked, stuck = self._shared.without(
                    connection, address, name, current[name], chain, going
                )
                self._stuck |= stuck
                verdicts |= _left(chain, _EDITED) | {entry.id: None for entry in walked}
                if walked:
                    targets[name] = target
                continue
            if still_said and name in said and not any(each.photo_id for each in chain):
                verdicts |= _left(chain, _STILL_SAID)
                continue
            left = replaced if name in address.source.rewrite.write_back else set[str]()
            ours = [entry for entry in chain if entry.run not in left]
            steps[name] = done = steps_back(current[name], ours, standing[name])
            verdicts |= _left(chain, _EDITED) | {entry.id: None for entry in done.undone}
            verdicts |= {each: _AGAIN.format(batch=newer.batch) for each, newer in done.below.items()}
            if done.undone:
                targets[name] = done.target
        elsewhere = [] if still_said else [name for name in said if name not in cells]
        waited = {name: deferred_back(current[name], standing[name]) for name in elsewhere}
        steps |= waited
        targets |= {name: done.target for name, done in waited.items() if done.deferred}
        if not any(verdicts[e.id] is None and e.photo_id is not None for e in row):
            _require_nothing_waits(row, steps, verdicts)
            return _left(row, _EDITED) | {k: v for k, v in verdicts.items() if v}
        self._note_what_waits(connection, row, steps, verdicts)
        if not ledger.swap(connection, address, before=current, after=targets):
            # Locked rows cannot change under us; a trigger may still refuse.
            raise RowRefusedError(f"{row[0].source} {row[0].row_key} changed during its rollback")
        return verdicts | self._set_again(connection, address, cells, targets)

    def _of_other_photos(
        self,
        connection: Connection,
        address: RowAddress,
        cells: Mapping[str, list[Any]],
        current: Mapping[str, raw.RawValue],
        going: Collection[int],
    ) -> set[str]:
        """Return the columns that speak of photos which they do not name, and which the row names no more.

        That is a marker of mode columns, say: going back, it would say of another photo where that one is.
        """
        source = address.source
        speaking = {name: chain for name, chain in cells.items() if not source.fields_on(name)}
        entries = [each for chain in speaking.values() for each in chain if each.photo_id is not None]
        if not entries:
            return set()
        there = [name for name in source.read_columns if name in address.table.columns]
        values = dict(address.read(connection, there) or {})
        # A name may be computed of what the rewrite has written, too.
        values |= {
            name: ledger.walk_back(current[name], cells[name])[0] for name in there if name in speaking
        }
        links = ledger.photos_of(connection, entries)
        known = self._photos.keys() & going
        return {
            entry.column
            for entry in entries
            for photo in (self._photos[each] for each in links[entry.id] if each in known)
            if photo.column not in cells and not row_names(source.field(photo.field), values, photo.value)
        }

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

    def _shows_others(self, connection: Connection, row: str, going: Collection[int]) -> bool:
        """Return whether other photos of the row stay migrated, of whatever batch."""
        columns = photo_table.c
        query = sa.select(columns.id).where(
            columns.row_id == row, columns.state == PhotoState.MIGRATED, columns.id.not_in(list(going))
        )
        return connection.execute(query.limit(1)).first() is not None

    def _standing(self, connection: Connection, address: RowAddress, row: list[Any]) -> dict[str, list[Any]]:
        """Return, by column, every entry of the row that is applied or whose rollback was put off.

        But for those of this batch above its oldest here that are not in this row part: they stay.
        """
        columns = rewrite_table.c
        oldest = {name: chain[-1].id for name, chain in _cells(row).items()}
        own = {entry.id for entry in row}
        query = (
            sa.select(rewrite_table)
            .where(
                columns.row_id == row[0].row_id,
                columns.column.in_([*oldest, *_said_of_the_row(address)]),
                columns.outcome.in_([RewriteOutcome.APPLIED, RewriteOutcome.ROLLBACK_DEFERRED]),
            )
            .order_by(columns.id.desc())
        )
        found: dict[str, list[Any]] = defaultdict(list)
        for entry in connection.execute(query):
            if entry.id in own or entry.batch != self._batch or entry.id < oldest.get(entry.column, math.inf):
                found[entry.column].append(entry)
        return found

    def _note_what_waits(
        self,
        connection: Connection,
        row: list[Any],
        steps: dict[str, CellSteps],
        verdicts: Mapping[int, str | None],
    ) -> None:
        """Leave what another batch's entries, or other photos, stand on; end what had waited for this batch.

        Of columns that name no photo, the other batch's rollback brings back what is below it.
        """
        waiting = _waiting(row, steps)
        self._held |= {each.id for each in waiting if each.photo_id is not None}
        self._put_off |= {each.id for each in waiting} - self._held
        self._put_off |= {each for each, reason in verdicts.items() if reason == _STILL_SAID}
        deferred = [each for done in steps.values() for each in done.deferred]
        self._end(connection, deferred, RewriteOutcome.ROLLED_BACK)

    def _end(
        self,
        connection: Connection,
        entries: list[Any],
        outcome: RewriteOutcome,
        reason: str | None = None,
    ) -> None:
        connection.execute(
            sa.update(rewrite_table)
            .where(rewrite_table.c.id.in_([entry.id for entry in entries]))
            .values(outcome=outcome, rolled_back_at=utc_now(), reason=reason)
        )

    def _settle(
        self,
        connection: Connection,
        part: RowPart,
        verdicts: dict[int, str | None],
        counts: RowRollbackCounts,
    ) -> None:
        """Write the outcome of each entry into the ledger, and of each photo into the catalog."""
        counts.rows += any(reason is None for reason in verdicts.values())
        links = ledger.photos_of(connection, part.entries)
        for entry in part.entries:
            reason = verdicts[entry.id]
            if reason and not part.photos.issuperset(links[entry.id]):
                continue  # It stands, for the photos that stay.
            if entry.id in self._held:
                continue  # It goes back when the batch above it has.
            if entry.id in self._put_off:
                self._end(connection, [entry], RewriteOutcome.ROLLBACK_DEFERRED, reason)
                continue
            outcome = RewriteOutcome.ROLLBACK_CONFLICT if reason else RewriteOutcome.ROLLED_BACK
            self._end(connection, [entry], outcome, reason)
            counts.kept_columns += bool(reason) and entry.photo_id is None
        for photo in self._photos_of(part):
            entries = [each for each in part.entries if photo.id in links[each.id]]
            self._settle_photo(connection, photo, entries, verdicts, counts)

    def _settle_photo(
        self,
        connection: Connection,
        photo: Photo,
        entries: list[Any],
        verdicts: dict[int, str | None],
        counts: RowRollbackCounts,
    ) -> None:
        entry = entries[0]
        left = [reason for each in entries if (reason := verdicts[each.id])]
        if held := [reason for each in entries if each.id in self._held and (reason := verdicts[each.id])]:
            self._mark(connection, photo, None, error_type="rollback_failed", error_detail=held[0])
            counts.failed += 1
            return
        if photo.id in self._stuck:
            left = left or [_EDITED]
        embedded = self._config.source(photo.source).is_embedded(photo.field, photo.column)
        # A whole value is back as soon as one step was undone; of a text, each step may have left a place.
        if len(left) == len(entries) or (embedded and left):
            cell = f"{entry.source} {entry.row_key} {entry.column}"
            detail = f"{cell}: {left[0]}; it was left as it is."
            self._mark(connection, photo, PhotoState.CONFLICT, error_type="conflict", error_detail=detail)
            counts.conflicts += 1
            return
        self._mark(connection, photo, PhotoState.ROLLED_BACK)
        counts.rolled_back += 1
        shown = (photo.new_value, photo.value) if embedded else (entry.after, entry.before)
        counts.samples.append(
            RowChange(entry.source, entry.row_key, entry.column, str(shown[0]), str(shown[1]))
        )

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


def _said_of_the_row(address: RowAddress) -> list[str]:
    """Return the columns under `set` that speak of the row, and do not tell where its photos are."""
    rewrite = address.source.rewrite
    return [] if rewrite.markers else [name for name in rewrite.set if name in address.table.columns]


def _waiting(row: list[Any], steps: Mapping[str, CellSteps]) -> list[Any]:
    """Return the entries that can be undone as soon as those of other batches above them are."""
    reachable = {id_ for done in steps.values() for id_ in done.below.keys() & done.reachable}
    return [entry for entry in row if entry.id in reachable]


def _require_nothing_waits(
    row: list[Any], steps: Mapping[str, CellSteps], verdicts: Mapping[int, str | None]
) -> None:
    """Check that no photo of the row waits for another batch's rollback.

    Raises:
        RowRefusedError: one does.
    """
    for entry in _waiting(row, steps):
        if entry.photo_id is not None:
            raise RowRefusedError(f"{verdicts[entry.id]}: that is to be rolled back first")
