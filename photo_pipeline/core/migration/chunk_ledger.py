"""Records a chunk of plain rows at once: the ledger, its links to the photos, and the photos' states.

What was done to the rows is `chunk_rewrite`'s knowledge; one row's ledger entries are written by `ledger`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import REGCLASS

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.bulk import ManyTimes, Row, arrays, bound, unnested
from photo_pipeline.core.catalog.tables import (
    PhotoState,
    RewriteOutcome,
    photo_table,
    rewrite_table,
)
from photo_pipeline.core.migration.ledger_audit import WrittenEntries
from photo_pipeline.core.migration.plain_rows import PlainRow

# What tells one entry from another; the rest is the same for the whole chunk.
_ENTRY = (
    *("id", "photo_id", "row_id", "row_key", "column"),
    *("before", "before_type", "after", "after_type"),
)
_COMMON = ("batch", "source", "run", "outcome", "applied_at")
_MARK = ("id", "sha256", "new_value", "recipe")


class ChunkLedger:
    """Writes for one batch and run; the connection is the chunk's write transaction each time.

    Args:
        connection: Tells the kind of database.
        batch: The batch.
        run: The run.
        expected: The state that the photos must still be in, as they were when they were proven.
    """

    def __init__(self, connection: Connection, *, batch: str, run: str, expected: PhotoState) -> None:
        self._batch = batch
        self._run = run
        self._expected = expected.value
        self._is_sqlite = connection.dialect.name == "sqlite"

    def record(
        self, connection: Connection, source: str, rows: Sequence[PlainRow], now: datetime
    ) -> WrittenEntries | None:
        """Write everything about those rows of one source; return the ledger entries.

        None if a photo is no longer as it was when it was proven: then the transaction's savepoint must undo
        what was written.
        """
        marks = [mark for row in rows for mark in _photo_marks(row)]
        if self._mark(connection, marks, now) != len(marks):
            return None
        entries = self._ledger_entries(connection, rows)
        common: Row = (self._batch, source, self._run, RewriteOutcome.APPLIED.value)
        if self._is_sqlite:
            at = bound(rewrite_table.c.applied_at, now, connection)
            _Ones.of(connection.dialect).entry.run(connection, [(*entry, *common, at) for entry in entries])
        else:
            fixed = dict(zip((f"{name}_" for name in _COMMON), (*common, now), strict=True))
            connection.execute(_INSERT_ENTRIES, arrays(_ENTRY, entries) | fixed)
        return WrittenEntries.alike(entries, batch=self._batch, source=source, run=self._run, applied_at=now)

    def _mark(self, connection: Connection, marks: list[Row], now: datetime) -> int:
        """Mark the photos as migrated where state and content are what they were; return how many were."""
        if self._is_sqlite:
            at, state = bound(photo_table.c.updated_at, now, connection), PhotoState.MIGRATED.value
            more = (state, at, self._expected)
            return _Ones.of(connection.dialect).mark.run(connection, [(*mark, *more) for mark in marks])
        fixed = {"state_": PhotoState.MIGRATED.value, "updated_at_": now, "expected_": self._expected}
        return connection.execute(_MARK_PHOTOS, arrays(_MARK, marks) | fixed).rowcount

    def _ledger_entries(self, connection: Connection, rows: Sequence[PlainRow]) -> list[Row]:
        """Return what `_ENTRY` names of each ledger row."""
        ids = iter(self._next_ids(connection, sum([len(row.changed) for row in rows])))
        entries: list[Row] = []
        for row in rows:
            first = row.photos[0]
            for name in row.changed:
                before, after = row.before[name], row.stored[name]
                before_type = after_type = "text"
                if type(before) is not str:
                    before, before_type = raw.encode(before)
                if type(after) is not str:
                    after, after_type = raw.encode(after)
                photo = row.named.get(name)
                cell = (first.row_id, first.row_key, name, before, before_type, after, after_type)
                entries.append((next(ids), photo, *cell))
        return entries

    def _next_ids(self, connection: Connection, count: int) -> Sequence[int]:
        """Return so many ids for new ledger rows, ascending."""
        if self._is_sqlite:
            # Nobody else can write before this transaction ends.
            last = connection.execute(sa.select(sa.func.max(rewrite_table.c.id))).scalar() or 0
            return range(last + 1, last + 1 + count)
        return sorted(connection.execute(_NEXT_IDS, {"count": count}).scalars())


def _photo_marks(row: PlainRow) -> list[Row]:
    marks: list[Row] = []
    for photo, recipe in zip(row.photos, row.recipes, strict=True):
        column = str(photo.column)
        # A column that said the new value already was not set, and holds it all the same.
        value = row.stored[column] if column in row.stored else row.before[column]
        marks.append((photo.id, photo.sha256, str(value), recipe))
    return marks


@dataclass(frozen=True)
class _Ones:
    """The statements that SQLite's driver runs row by row."""

    entry: ManyTimes
    mark: ManyTimes

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, dialect: sa.Dialect) -> Self:
        """Return them compiled; that takes as long as some hundred rows, and each batch needs them."""
        entry = sa.insert(rewrite_table).values(_parameters((*_ENTRY, *_COMMON)))
        mark = (*_MARK, "state", "updated_at", "expected")
        return cls(
            ManyTimes(dialect, entry, _named((*_ENTRY, *_COMMON))),
            ManyTimes(dialect, _mark(_parameters(mark)), _named(mark)),
        )


def _named(names: Sequence[str]) -> list[str]:
    return [f"{name}_" for name in names]


def _parameters(names: Sequence[str]) -> dict[str, Any]:
    # Not called as the columns, which SQLAlchemy keeps for itself.
    return {name: sa.bindparam(f"{name}_", type_=sa.types.NullType()) for name in names}


def _mark(values: dict[str, Any]) -> sa.Update:
    """Return the update of photos by their `id`, if `sha256` and the `expected` state are still theirs."""
    columns = photo_table.c
    same = (
        columns.id == values["id"],
        columns.sha256 == values["sha256"],
        columns.state == values["expected"],
    )
    changed = {name: values[name] for name in ("new_value", "recipe", "state", "updated_at")}
    forgotten = {name: sa.null() for name in ("error_type", "error_detail", "validated_at")}
    return sa.update(photo_table).where(*same).values(changed | forgotten)


def _mark_of_many() -> sa.Update:
    values = unnested({name: photo_table.c[name].type for name in _MARK})
    common = {
        "state": sa.bindparam("state_", type_=sa.String),
        "updated_at": sa.bindparam("updated_at_", type_=photo_table.c.updated_at.type),
        "expected": sa.bindparam("expected_", type_=sa.String),
    }
    return _mark({name: values.c[name] for name in _MARK} | common)


def _insertion_of_many() -> sa.Insert:
    values = unnested({name: rewrite_table.c[name].type for name in _ENTRY})
    common = [sa.bindparam(f"{name}_", type_=rewrite_table.c[name].type) for name in _COMMON]
    chosen = sa.select(*(values.c[name] for name in _ENTRY), *common)
    return sa.insert(rewrite_table).from_select([*_ENTRY, *_COMMON], chosen)


_INSERT_ENTRIES = _insertion_of_many()
_MARK_PHOTOS = _mark_of_many()
_SEQUENCE = sa.select(sa.func.pg_get_serial_sequence(rewrite_table.name, "id")).scalar_subquery()
_NEXT_IDS = sa.select(sa.func.nextval(sa.cast(_SEQUENCE, REGCLASS))).select_from(
    sa.func.generate_series(1, sa.bindparam("count", type_=sa.Integer)).alias("n")
)
