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
    rewrite_photo_table,
    rewrite_table,
)
from photo_pipeline.core.migration.ledger_audit import WRITTEN, WrittenEntries, as_text
from photo_pipeline.core.migration.photos import ObjectNaming
from photo_pipeline.core.migration.plain_rows import PlainRow

_LEDGER = (*WRITTEN, "outcome")
_LINK = ("rewrite_id", "photo_id")
_MARK = ("id", "new_value", "recipe", "state", "updated_at")
_PHOTO_ID = WRITTEN.index("photo_id")


class ChunkLedger:
    """Writes for one batch and run; the connection is the chunk's write transaction each time."""

    def __init__(self, connection: Connection, naming: ObjectNaming, *, batch: str, run: str) -> None:
        self._naming = naming
        self._batch = batch
        self._run = run
        self._is_sqlite = connection.dialect.name == "sqlite"

    def record(
        self, connection: Connection, source: str, rows: Sequence[PlainRow], now: datetime
    ) -> WrittenEntries:
        """Write everything about those rows of one source; return the ledger entries."""
        entries = self._ledger_entries(connection, source, rows)
        links = [(entry[0], entry[_PHOTO_ID]) for entry in entries if entry[_PHOTO_ID] is not None]
        marks = [mark for row in rows for mark in self._photo_marks(row)]
        if self._is_sqlite:
            at = bound(rewrite_table.c.applied_at, now, connection)
            ones = _Ones.of(connection.dialect)
            outcome, state = RewriteOutcome.APPLIED.value, PhotoState.MIGRATED.value
            ones.entry.run(connection, [(*entry, at, outcome) for entry in entries])
            ones.link.run(connection, links)
            marked = ones.mark.run(connection, [(*mark, state, at) for mark in marks])
        else:
            outcome = RewriteOutcome.APPLIED.value
            connection.execute(
                _INSERT_ENTRIES, arrays(WRITTEN[:-1], entries) | {"now": now, "outcome": outcome}
            )
            connection.execute(_INSERT_LINKS, arrays(_LINK, links))
            parameters = arrays(_MARK[:3], marks) | {"now": now}
            marked = connection.execute(_MARK_PHOTOS, parameters).rowcount
        if marked != len(marks):
            raise RuntimeError(f"{marked} of {len(marks)} locked photos could be marked")
        spelled = as_text(now)
        return WrittenEntries.of([(*entry, spelled) for entry in entries])

    def _ledger_entries(self, connection: Connection, source: str, rows: Sequence[PlainRow]) -> list[Row]:
        """Return the ledger rows as `WRITTEN` names their values, but for the last one, the time."""
        ids = iter(self._next_ids(connection, sum(len(row.changed) for row in rows)))
        batch, run = self._batch, self._run
        entries: list[Row] = []
        for row in rows:
            named = {photo.column: photo.id for photo in row.photos}
            first = row.photos[0]
            for name in row.changed:
                before, after = row.before[name], row.stored[name]
                before_type = after_type = "text"
                if type(before) is not str:
                    before, before_type = raw.encode(before)
                if type(after) is not str:
                    after, after_type = raw.encode(after)
                cell = (first.row_id, first.row_key, name, before, before_type, after, after_type)
                entries.append((next(ids), batch, named.get(name), source, *cell, run))
        return entries

    def _next_ids(self, connection: Connection, count: int) -> Sequence[int]:
        """Return so many ids for new ledger rows, ascending."""
        if self._is_sqlite:
            # Nobody else can write before this transaction ends.
            last = connection.execute(sa.select(sa.func.max(rewrite_table.c.id))).scalar() or 0
            return range(last + 1, last + 1 + count)
        return sorted(connection.execute(_NEXT_IDS, {"count": count}).scalars())

    def _photo_marks(self, row: PlainRow) -> list[Row]:
        marks: list[Row] = []
        for photo in row.photos:
            shown = row.primary if photo.is_copy and row.primary is not None else photo
            column = str(photo.column)
            # A column that said the new value already was not set, and holds it all the same.
            value = row.stored[column] if column in row.stored else row.before[column]
            marks.append((photo.id, str(value), self._naming.recipe_digest(shown)))
        return marks


@dataclass(frozen=True)
class _Ones:
    """The statements that SQLite's driver runs row by row."""

    entry: ManyTimes
    link: ManyTimes
    mark: ManyTimes

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, dialect: sa.Dialect) -> Self:
        """Return them compiled; that takes as long as some hundred rows, and each batch needs them."""
        return cls(
            ManyTimes(dialect, _insertion_of_one(rewrite_table, _LEDGER), _named(_LEDGER)),
            ManyTimes(dialect, _insertion_of_one(rewrite_photo_table, _LINK), _named(_LINK)),
            ManyTimes(dialect, _mark_of_one(), _named(_MARK)),
        )


def _insertion_of_one(table: sa.Table, names: Sequence[str]) -> sa.Insert:
    return sa.insert(table).values(_parameters(names))


def _mark_of_one() -> sa.Update:
    values = _parameters(_MARK)
    return sa.update(photo_table).where(photo_table.c.id == values.pop("id")).values(values | _FORGOTTEN)


def _named(names: Sequence[str]) -> list[str]:
    return [f"{name}_" for name in names]


def _parameters(names: Sequence[str]) -> dict[str, sa.BindParameter[Any]]:
    # Not called as the columns, which SQLAlchemy keeps for itself.
    return {name: sa.bindparam(f"{name}_", type_=sa.types.NullType()) for name in names}


_FORGOTTEN: dict[str, Any] = {name: sa.null() for name in ("error_type", "error_detail", "validated_at")}


def _insertion_of_many(table: sa.Table, names: Sequence[str], **fixed: Any) -> sa.Insert:
    values = unnested({name: table.c[name].type for name in names})
    chosen = [values.c[name] for name in names]
    return sa.insert(table).from_select([*names, *fixed], sa.select(*chosen, *fixed.values()))


def _mark_of_many() -> sa.Update:
    values = unnested({name: photo_table.c[name].type for name in _MARK[:3]})
    return (
        sa.update(photo_table)
        .where(photo_table.c.id == values.c.id)
        .values(
            new_value=values.c.new_value,
            recipe=values.c.recipe,
            state=PhotoState.MIGRATED.value,
            updated_at=sa.bindparam("now", type_=photo_table.c.updated_at.type),
            **_FORGOTTEN,
        )
    )


_INSERT_ENTRIES = _insertion_of_many(
    rewrite_table,
    WRITTEN[:-1],
    applied_at=sa.bindparam("now", type_=rewrite_table.c.applied_at.type),
    outcome=sa.bindparam("outcome", type_=sa.String),
)
_INSERT_LINKS = _insertion_of_many(rewrite_photo_table, _LINK)
_MARK_PHOTOS = _mark_of_many()
_SEQUENCE = sa.select(sa.func.pg_get_serial_sequence(rewrite_table.name, "id")).scalar_subquery()
_NEXT_IDS = sa.select(sa.func.nextval(sa.cast(_SEQUENCE, REGCLASS))).select_from(
    sa.func.generate_series(1, sa.bindparam("count", type_=sa.Integer)).alias("n")
)
