"""Writes a chunk of plain rows to SQLite by the driver's executemany: rows, photos' states, ledger."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from itertools import repeat
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.bulk import ManyTimes, bound
from photo_pipeline.core.catalog.tables import PhotoState, RewriteOutcome, photo_table, rewrite_table
from photo_pipeline.core.migration.chunk_cells import (
    COMMON_COLUMNS,
    LEDGER_COLUMNS,
    ChunkCells,
    ChunkWriter,
    UnusualError,
    Written,
    groups,
)
from photo_pipeline.core.migration.ledger_audit import WrittenEntries, last_ledger_id
from photo_pipeline.core.migration.many_rows import ManyRows
from photo_pipeline.core.migration.plain_rows import PlainRow

_MARK = ("id", "sha256", "new_value", "recipe", "state", "updated_at", "expected")


class SqliteChunks(ChunkWriter):
    """Writes by executemany."""

    def write(
        self, connection: Connection, source: str, many: ManyRows, rows: Sequence[PlainRow], now: datetime
    ) -> Written:
        """Write those rows, as `ChunkWriter.write` says."""
        written = Written()
        for group in groups(rows):
            # Nobody else can write before this transaction ends.
            first = last_ledger_id(connection) + 1
            cells = ChunkCells.of(group, range(first, first + len(group) * len(group[0].changed)))
            _swap(connection, many, cells)
            self._mark(connection, cells, now)
            entries = list(cells.entries())
            self._record(connection, source, entries, now)
            lines = WrittenEntries.alike(
                entries, batch=self._batch, source=source, run=self._run, applied_at=now
            )
            written.add(Written(group, lines))
        return written

    def _mark(self, connection: Connection, cells: ChunkCells, now: datetime) -> None:
        """Mark the photos as migrated where state and content are what they were."""
        at = bound(photo_table.c.updated_at, now, connection)
        marks: list[tuple[Any, ...]] = []
        for i in range(len(cells.named)):
            photos = cells.photos(i)
            columns = (
                [photo.id for photo in photos],
                [photo.sha256 for photo in photos],
                cells.shown(i),
                [row.recipes[i] for row in cells.rows],
            )
            same = (repeat(PhotoState.MIGRATED.value), repeat(at), repeat(self._expected))
            marks += zip(*columns, *same, strict=False)
        if _marking(connection.dialect).run(connection, marks) != len(marks):
            raise UnusualError

    def _record(
        self, connection: Connection, source: str, entries: list[tuple[Any, ...]], now: datetime
    ) -> None:
        at = bound(rewrite_table.c.applied_at, now, connection)
        common = (self._batch, source, self._run, RewriteOutcome.APPLIED.value, at)
        _insertion(connection.dialect).run(connection, [(*entry, *common) for entry in entries])


def _swap(connection: Connection, many: ManyRows, cells: ChunkCells) -> None:
    """Set every row by compare-and-swap; put what the database stored into the cells.

    Raises:
        UnusualError: a row was not set, or a cell that names a photo stores something else.
    """
    keys = zip(*(row.key for row in cells.rows), strict=True)
    swaps = list(zip(*keys, *cells.before, *cells.after, strict=True))
    if many.swap(connection, cells.changed, swaps) != len(swaps):
        raise UnusualError
    # An address in a text is stored letter for letter, whatever the column's type, unless a trigger acts.
    if set(cells.changed) <= set(cells.named) and not many.may_change_by_itself(connection):
        return
    found = many.read(connection, cells.changed, [row.key for row in cells.rows])
    for i, row in enumerate(cells.rows):
        stored = found.get(row.key)
        if stored is None:
            raise UnusualError
        if tuple(stored) != tuple(row.changed.values()):
            cells.correct(i, stored)


def _parameters(names: Sequence[str]) -> dict[str, Any]:
    # Not called as the columns, which SQLAlchemy keeps for itself.
    return {name: sa.bindparam(f"{name}_", type_=sa.types.NullType()) for name in names}


# Compiling takes as long as some hundred rows, and each batch needs both.
@lru_cache(maxsize=8)
def _insertion(dialect: sa.Dialect) -> ManyTimes:
    """Return the statement that inserts a ledger row."""
    names = (*LEDGER_COLUMNS, *COMMON_COLUMNS)
    statement = sa.insert(rewrite_table).values(_parameters(names))
    return ManyTimes(dialect, statement, [f"{name}_" for name in names])


@lru_cache(maxsize=8)
def _marking(dialect: sa.Dialect) -> ManyTimes:
    """Return the statement that marks a photo, if its content and state are what they were."""
    columns, values = photo_table.c, _parameters(_MARK)
    same = (
        columns.id == values["id"],
        columns.sha256 == values["sha256"],
        columns.state == values["expected"],
    )
    changed = {name: values[name] for name in ("new_value", "recipe", "state", "updated_at")}
    forgotten = {name: sa.null() for name in ("error_type", "error_detail", "validated_at")}
    statement = sa.update(photo_table).where(*same).values(changed | forgotten)
    return ManyTimes(dialect, statement, [f"{name}_" for name in _MARK])
