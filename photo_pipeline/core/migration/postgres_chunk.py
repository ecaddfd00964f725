"""Writes a chunk of plain rows to PostgreSQL by one statement: the rows, their photos' states, the ledger.

Each part of the statement hands its rows on to the next: only a row that nobody else holds and whose cells
are what we think is set, only its photos are marked, only its cells go to the ledger. What the database
stored is what the ledger gets, and comes back where it is not what was asked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, reduce
from operator import add
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.dialects.postgresql import OID, REGCLASS

from photo_pipeline.core.catalog.bulk import Row, array, unnested
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
from photo_pipeline.core.migration.ledger_audit import WrittenEntries
from photo_pipeline.core.migration.many_rows import ManyRows, same_key
from photo_pipeline.core.migration.plain_rows import PlainRow

# Triggers of foreign keys that write; the others only look.
_WRITING = ("RI_FKey_cascade_upd", "RI_FKey_setnull_upd", "RI_FKey_setdefault_upd")


class PostgresChunks(ChunkWriter):
    """Writes by one statement."""

    def write(
        self, connection: Connection, source: str, many: ManyRows, rows: Sequence[PlainRow], now: datetime
    ) -> Written:
        """Write those rows, as `ChunkWriter.write` says."""
        written = Written()
        for group in groups(rows):
            ids = _next_ids(connection, len(group) * len(group[0].changed))
            cells = self._write_group(connection, source, many, ChunkCells.of(group, ids), now)
            entries = WrittenEntries.alike(
                cells.entries(), batch=self._batch, source=source, run=self._run, applied_at=now
            )
            written.add(Written(cells.rows, entries))
        return written

    def _write_group(
        self, connection: Connection, source: str, many: ManyRows, cells: ChunkCells, now: datetime
    ) -> ChunkCells:
        """Write these rows; return those that were written, and what they hold now."""
        common = (self._batch, source, self._run, RewriteOutcome.APPLIED.value, now)
        fixed: dict[str, Any] = dict(zip((f"{name}_" for name in COMMON_COLUMNS), common, strict=True))
        fixed |= {
            "state_": PhotoState.MIGRATED.value,
            "expected_": self._expected,
            # As a value: the driver's own spelling of % is for the text of a statement.
            "table_": connection.dialect.identifier_preparer.format_table(many.table).replace("%%", "%"),
        }
        statement = _statement(_Shape(many.table, many.key, cells.changed, cells.named))
        done = connection.execute(statement, _parameters(cells) | fixed).one()
        if done.marked != done.swapped * len(cells.named):
            raise UnusualError
        if not done.swapped:
            return cells.without(frozenset(row.photos[0].id for row in cells.rows))
        if done.missing:
            cells = cells.without(frozenset(done.missing))
        places = {row.photos[0].id: i for i, row in enumerate(cells.rows)} if done.converted else {}
        for photo, *stored in done.converted or ():
            cells.correct(places[photo], stored)
        if not done.is_plain and not many.hold(connection, cells.changed, _keys_and_cells(cells)):
            raise UnusualError  # a trigger has changed them again
        return cells


@dataclass(frozen=True)
class _Shape:
    """What a group of rows has in common: table, key, and the columns that change and that name photos."""

    table: sa.Table
    key: tuple[str, ...]
    changed: tuple[str, ...]
    named: tuple[str, ...]


def _parameters(cells: ChunkCells) -> dict[str, str]:
    """Return what `_statement` takes by these names, as arrays."""
    columns: dict[str, Iterable[Any]] = {}
    for i in range(len(cells.rows[0].key)):
        columns[_key(i)] = [row.key[i] for row in cells.rows]
    for i in range(len(cells.changed)):
        columns |= {_id(i): cells.ids[i], _old(i): cells.before[i], _new(i): cells.after[i]}
    for i, name in enumerate(cells.named):
        photos = cells.photos(i)
        columns[_photo(i)] = [photo.id for photo in photos]
        columns[_sha256(i)] = [photo.sha256 for photo in photos]
        columns[_recipe(i)] = [row.recipes[i] for row in cells.rows]
        if name not in cells.changed:
            columns[_kept(i)] = cells.shown(i)
    return {f"v_{name}": array(values) for name, values in columns.items()}


def _keys_and_cells(cells: ChunkCells) -> list[Row]:
    after = zip(*cells.after, strict=True)
    return [(*row.key, *values) for row, values in zip(cells.rows, after, strict=True)]


def _next_ids(connection: Connection, count: int) -> list[int]:
    """Return so many ids for new ledger rows, ascending."""
    text = str(connection.execute(_NEXT_IDS, {"count": count}).scalar_one())
    return sorted(map(int, text[1:-1].split(",")))


def _key(i: int) -> str:
    return f"pp_key_{i}"


def _id(i: int) -> str:
    return f"pp_id_{i}"


def _old(i: int) -> str:
    return f"pp_old_{i}"


def _new(i: int) -> str:
    return f"pp_new_{i}"


def _stored(i: int) -> str:
    return f"pp_stored_{i}"


def _photo(i: int) -> str:
    return f"pp_photo_{i}"


def _sha256(i: int) -> str:
    return f"pp_sha256_{i}"


def _recipe(i: int) -> str:
    return f"pp_recipe_{i}"


def _kept(i: int) -> str:
    return f"pp_kept_{i}"


# Compiling takes as long as some hundred rows, and each batch asks for the same few.
@lru_cache(maxsize=256)
def _statement(shape: _Shape) -> sa.Select[Any]:
    """Return the statement; its parts are called like no table of the application."""
    given = sa.select(*unnested(_types(shape)).c).cte("pp_given")
    held = _held(shape, given)
    swapped = _swapped(shape, held)
    marked = [_marked(shape, swapped, i) for i in range(len(shape.named))]
    marks = [sa.select(sa.func.count()).select_from(each).scalar_subquery() for each in marked]
    stored = [swapped.c[_stored(i)] for i in range(len(shape.changed))]
    asked = [swapped.c[_new(i)] for i in range(len(shape.changed))]
    other = sa.or_(*(is_now.is_distinct_from(new) for is_now, new in zip(stored, asked, strict=True)))
    first = _photo(0)
    missing = sa.select(sa.func.json_agg(given.c[first])).where(
        given.c[first].not_in(sa.select(swapped.c[first]))
    )
    converted = sa.select(sa.func.json_agg(sa.func.json_build_array(swapped.c[first], *stored))).where(other)
    return sa.select(
        sa.select(sa.func.count()).select_from(swapped).scalar_subquery().label("swapped"),
        reduce(add, marks).label("marked"),
        missing.scalar_subquery().label("missing"),
        converted.scalar_subquery().label("converted"),
        _is_plain_table().label("is_plain"),
    ).add_cte(_written(shape, marked[0]))


def _types(shape: _Shape) -> dict[str, sa.types.TypeEngine[Any]]:
    types: dict[str, sa.types.TypeEngine[Any]] = {_key(i): sa.Text() for i in range(len(shape.key))}
    for i in range(len(shape.changed)):
        types |= {_id(i): sa.BigInteger(), _old(i): sa.Text(), _new(i): sa.Text()}
    for i, name in enumerate(shape.named):
        types |= {_photo(i): sa.BigInteger(), _sha256(i): sa.Text(), _recipe(i): sa.Text()}
        if name not in shape.changed:
            types[_kept(i)] = sa.Text()
    return types


def _held(shape: _Shape, given: sa.CTE) -> sa.CTE:
    """Return the given rows that are there and locked now; those that others keep locked are left out."""
    keys = [shape.table.columns[name] for name in shape.key]
    found = sa.select(*given.c).select_from(shape.table.join(given, sa.and_(*same_key(keys, given.c, _key))))
    return found.with_for_update(of=shape.table, skip_locked=True, key_share=True).cte("pp_held")


def _swapped(shape: _Shape, held: sa.CTE) -> sa.CTE:
    """Return the rows that were set, which held what they were thought to, and what is stored there now."""
    keys = [shape.table.columns[name] for name in shape.key]
    columns = [shape.table.columns[name] for name in shape.changed]
    texts = [sa.cast(column, sa.Text) for column in columns]
    same = [text.is_not_distinct_from(held.c[_old(i)]) for i, text in enumerate(texts)]
    return (
        sa.update(shape.table)
        .where(*same_key(keys, held.c, _key), *same)
        .values({column: sa.cast(held.c[_new(i)], column.type) for i, column in enumerate(columns)})
        .returning(*held.c, *(text.label(_stored(i)) for i, text in enumerate(texts)))
        .cte("pp_swapped")
    )


def _marked(shape: _Shape, swapped: sa.CTE, i: int) -> sa.CTE:
    """Return the rows' i-th photos that were as they were when they were proven, and are migrated now.

    With all that is known of the row: joined to it later, each would be compared with each, because
    PostgreSQL takes such a result for one row.
    """
    columns, name = photo_table.c, shape.named[i]
    # A column that said the new value already was not set, and holds it all the same.
    shown = _stored(shape.changed.index(name)) if name in shape.changed else _kept(i)
    values = {
        "new_value": swapped.c[shown],
        "recipe": swapped.c[_recipe(i)],
        "state": sa.bindparam("state_", type_=sa.String),
        "updated_at": sa.bindparam("applied_at_", type_=columns.updated_at.type),
    }
    forgotten = {name: sa.null() for name in ("error_type", "error_detail", "validated_at")}
    same = (
        columns.id == swapped.c[_photo(i)],
        # In this form, so that no photo is looked for among all that have its content.
        columns.sha256.is_not_distinct_from(swapped.c[_sha256(i)]),
        columns.state == sa.bindparam("expected_", type_=sa.String),
    )
    marked = sa.update(photo_table).where(*same).values(values | forgotten)
    return marked.returning(*swapped.c, columns.row_id, columns.row_key).cte(f"pp_marked_{i}")


def _written(shape: _Shape, row: sa.CTE) -> sa.CTE:
    """Return the insertion of the ledger's rows, one for each cell that was set."""
    common = [sa.bindparam(f"{name}_", type_=rewrite_table.c[name].type) for name in COMMON_COLUMNS]
    cells = []
    for i, name in enumerate(shape.changed):
        photo = row.c[_photo(shape.named.index(name))] if name in shape.named else sa.null()
        before, after = row.c[_old(i)], row.c[_stored(i)]
        entry = (row.c[_id(i)], photo, row.c.row_id, row.c.row_key, sa.literal(name))
        cells.append(sa.select(*entry, before, _kind(before), after, _kind(after), *common))
    names = (*LEDGER_COLUMNS, *COMMON_COLUMNS)
    return sa.insert(rewrite_table).from_select(names, sa.union_all(*cells)).cte("pp_written")


def _kind(text: ColumnElement[Any]) -> ColumnElement[str]:
    return sa.case((text.is_(None), "null"), else_="text")


def _is_plain_table() -> sa.ScalarSelect[Any]:
    """Return whether nothing but the statement itself can have a say in what the table's rows hold.

    Asked under the statement's own lock, which keeps new triggers out.
    """
    table, trigger, function = (
        sa.table("pg_class", *map(sa.column, ("oid", "relkind", "relhassubclass", "relhasrules"))),
        sa.table("pg_trigger", *map(sa.column, ("tgrelid", "tgfoid", "tgisinternal"))),
        sa.table("pg_proc", *map(sa.column, ("oid", "proname"))),
    )
    acting = (
        sa.select(sa.literal(1))
        .select_from(trigger.join(function, function.c.oid == trigger.c.tgfoid))
        .where(
            trigger.c.tgrelid == table.c.oid,
            sa.or_(sa.not_(trigger.c.tgisinternal), function.c.proname.in_(_WRITING)),
        )
        .correlate(table)
    )
    plain = (
        table.c.relkind == "r",
        sa.not_(table.c.relhassubclass),
        sa.not_(table.c.relhasrules),
        sa.not_(acting.exists()),
    )
    named = sa.cast(sa.cast(sa.bindparam("table_", type_=sa.Text), REGCLASS), OID)
    return sa.select(sa.and_(*plain)).where(table.c.oid == named).scalar_subquery()


_SEQUENCE = sa.select(sa.func.pg_get_serial_sequence(rewrite_table.name, "id")).scalar_subquery()
# As one text: the driver takes 1 us for each row of an answer.
_NEXT_IDS = sa.select(
    sa.cast(sa.func.array_agg(sa.func.nextval(sa.cast(_SEQUENCE, REGCLASS))), sa.Text)
).select_from(sa.func.generate_series(1, sa.bindparam("count", type_=sa.Integer)).alias("n"))
