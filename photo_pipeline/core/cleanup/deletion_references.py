"""Rows of other tables that go along, or are changed, when a row is deleted (ON DELETE CASCADE and its like).

The database does that by itself, so that neither the plan of a deletion shows them nor its undo brings them
back: a photo whose row has such rows is not deleted.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.rows import RowAddress

_ACTIONS = ("CASCADE", "SET NULL", "SET DEFAULT")
# https://www.postgresql.org/docs/current/catalog-pg-constraint.html; a partition has its table's constraint
# once more, which costs one more look.
_POSTGRES = """
SELECT space.nspname, referring.relname, has_table_privilege(referring.oid, 'SELECT'),
       CASE found.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END,
       ARRAY(SELECT own.attname::text FROM unnest(found.conkey) WITH ORDINALITY AS part(number, place)
             JOIN pg_attribute own ON own.attrelid = found.conrelid AND own.attnum = part.number
             ORDER BY part.place),
       ARRAY(SELECT theirs.attname::text FROM unnest(found.confkey) WITH ORDINALITY AS part(number, place)
             JOIN pg_attribute theirs ON theirs.attrelid = found.confrelid AND theirs.attnum = part.number
             ORDER BY part.place),
       found.conrelid = found.confrelid
FROM pg_constraint found
JOIN pg_class referring ON referring.oid = found.conrelid
JOIN pg_namespace space ON space.oid = referring.relnamespace
WHERE found.contype = 'f' AND found.confdeltype IN ('c', 'n', 'd')
  AND found.confrelid = CAST(:name AS regclass)
ORDER BY 1, 2, found.conname
"""
# https://www.sqlite.org/pragma.html#pragma_foreign_key_list
_SQLITE = """
SELECT id, "table" AS referred, "from" AS own, "to", on_delete
FROM pragma_foreign_key_list(:name, :schema) ORDER BY id, seq
"""


@dataclass(frozen=True)
class _Reference:
    """A foreign key: its table and columns, the columns it points at, and what happens on a delete."""

    table: str
    schema: str | None
    action: str
    columns: Sequence[str]
    referred: Sequence[str]
    is_readable: bool
    is_own_table: bool


def rows_that_go_along(connection: Connection, address: RowAddress) -> str | None:
    """Return what of other rows (for people) a delete of the row would delete or change, or None.

    Args:
        connection: In any transaction. Where the row is locked in it, nothing can begin to refer to the row
            before it ends.
        address: The row.
    """
    references = _of_sqlite if address.is_sqlite else _of_postgres
    for each in references(connection, address):
        if not each.is_readable:
            return f"rows of {each.table} may go along (ON DELETE {each.action}): grant SELECT on it"
        if connection.execute(_rows(each, address)).first() is not None:
            fate = "be deleted" if each.action == "CASCADE" else "be changed"
            return (
                f"rows of {each.table} that refer to its row would {fate} with it (ON DELETE {each.action}), "
                "and not come back: delete those first, or declare on_delete: set_null (or leave)"
            )
    return None


def _rows(reference: _Reference, address: RowAddress) -> sa.Select[Any]:
    names = {*reference.columns, *(address.source.key if reference.is_own_table else ())}
    referring = sa.table(
        reference.table, *(sa.column(name) for name in names), schema=reference.schema
    ).alias("referring")
    columns = address.table.columns
    pairs = zip(reference.columns, reference.referred, strict=True)
    refers = [referring.c[own] == columns[theirs] for own, theirs in pairs]
    if reference.is_own_table:  # A row that refers to itself takes nothing else along.
        refers.append(sa.not_(sa.and_(*(referring.c[name] == columns[name] for name in address.source.key))))
    query = sa.select(sa.literal(1)).select_from(address.table.join(referring, sa.and_(*refers)))
    return query.where(*address.condition()).limit(1)


def _of_postgres(connection: Connection, address: RowAddress) -> Iterator[_Reference]:
    name = connection.dialect.identifier_preparer.format_table(address.table)
    for schema, table, is_readable, action, own, theirs, is_own_table in connection.execute(
        sa.text(_POSTGRES), {"name": name}
    ).all():
        yield _Reference(table, schema, action, own, theirs, is_readable, is_own_table)


def _of_sqlite(connection: Connection, address: RowAddress) -> Iterator[_Reference]:
    schema, here = address.table.schema, address.table.name.lower()
    master = sa.table("sqlite_master", sa.column("name"), sa.column("type"), schema=schema)
    names = {column.name.lower(): column.name for column in address.table.columns}
    primary_key = [column.name for column in address.table.primary_key]
    tables = connection.execute(sa.select(master.c.name).where(master.c.type == "table")).scalars().all()
    for table in tables:
        parts: dict[int, list[Any]] = defaultdict(list)
        for part in connection.execute(sa.text(_SQLITE), {"name": table, "schema": schema or "main"}):
            if part.referred.lower() == here and part.on_delete in _ACTIONS:
                parts[part.id].append(part)
        for key in parts.values():
            # Without columns, a foreign key points at the primary key.
            theirs = [names[part.to.lower()] for part in key] if key[0].to else primary_key
            own = [part.own for part in key]
            yield _Reference(table, schema, key[0].on_delete, own, theirs, True, table.lower() == here)
