"""Reads and sets many rows of one application table at once, each found by its key.

Compares as `ledger.swap` does; finds only keys that an ordinary comparison finds. What may be set is
decided by `chunk_rewrite`.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.bulk import ManyTimes, Row, arrays, unnested

_BULK_DIALECTS = ("sqlite", "postgresql")


def can_do_many(connection: Connection) -> bool:
    """Return whether rows of this kind of database can be read and set together."""
    return connection.dialect.name in _BULK_DIALECTS


def findable_keys(row_keys: Sequence[str], *, is_sqlite: bool) -> dict[str, Row]:
    """Return the values of each key that an ordinary comparison finds: no NULL, bytes or fractions."""
    kinds: frozenset[type] = frozenset((int, str) if is_sqlite else (str,))
    # All in one: a tenth of the time of each by itself.
    decoded = json.loads(f"[{','.join(row_keys)}]")
    return {
        row_key: tuple(values)
        for row_key, values in zip(row_keys, decoded, strict=True)
        if kinds.issuperset(map(type, values))
    }


class ManyRows:
    """Rows of one table; the connection is the caller's write transaction each time."""

    def __init__(self, table: sa.Table, key: Sequence[str], *, is_sqlite: bool) -> None:
        self._table = table
        self._key = [table.columns[name] for name in key]
        self._key_names = [f"k{i}" for i in range(len(key))]
        self._is_sqlite = is_sqlite
        self._reads: dict[tuple[str, ...], sa.Select[Any]] = {}
        self._swaps: dict[tuple[str, ...], ManyTimes | sa.Update] = {}

    def read(self, connection: Connection, names: Sequence[str], keys: Sequence[Row]) -> dict[Row, Row]:
        """Return the raw values of those columns by key, and lock the rows.

        Left out is a row that is gone, that the application keeps locked, that shares its key with another
        one, or whose key the database spells differently.
        """
        query = self._reads.get(tuple(names))
        if query is None:
            query = self._reads[tuple(names)] = self._read_query(names)
        if self._is_sqlite:
            listed = [key[0] for key in keys] if len(self._key) == 1 else keys
            parameters = {"keys": json.dumps(listed)}
        else:
            parameters = arrays(self._key_names, keys)
        width = len(self._key)
        found: dict[Row, Row] = {}
        several: set[Row] = set()
        for row in connection.execute(query, parameters).all():
            key = tuple(row[:width])
            if key in found:
                several.add(key)
            found[key] = tuple(row[width:])
        # 1.0 equals 1 here, and is another spelling of it.
        other = [key for key in found if float in map(type, key)] if self._is_sqlite else []
        for key in (*several, *other):
            found.pop(key, None)
        return found

    def _read_query(self, names: Sequence[str]) -> sa.Select[Any]:
        columns = [*self._key, *(self._table.columns[name] for name in names)]
        query = sa.select(
            *(
                raw.read_expression(column, is_sqlite=self._is_sqlite).label(f"c{i}")
                for i, column in enumerate(columns)
            )
        )
        if not self._is_sqlite:
            wanted = unnested(dict.fromkeys(self._key_names, sa.Text()))
            joined = self._table.join(wanted, sa.and_(*self._same_key(wanted)))
            return query.select_from(joined).with_for_update(of=self._table, skip_locked=True)
        each = sa.func.json_each(sa.bindparam("keys", type_=sa.Text)).table_valued("value", name="v")
        if len(self._key) == 1:
            return query.where(self._key[0].in_(sa.select(each.c.value)))
        parts = [sa.func.json_extract(each.c.value, f"$[{i}]") for i in range(len(self._key))]
        return query.where(sa.tuple_(*self._key).in_(sa.select(*parts)))

    def swap(
        self,
        connection: Connection,
        names: Sequence[str],
        rows: Iterable[tuple[Row, Row, Row]],
    ) -> int:
        """Set those columns of each row where all of them hold what they held; return how many were set.

        Args:
            connection: The caller's write transaction.
            names: The columns.
            rows: For each row its key, the values that the columns must still have, and the new ones.
        """
        flat = [(*key, *before, *after) for key, before, after in rows]
        parameters = [
            *self._key_names,
            *(f"b{i}" for i in range(len(names))),
            *(f"a{i}" for i in range(len(names))),
        ]
        change = self._swaps.get(tuple(names))
        if change is None:
            change = (
                self._sqlite_swap(connection, names, parameters) if self._is_sqlite else self._swap(names)
            )
            self._swaps[tuple(names)] = change
        if isinstance(change, ManyTimes):
            return change.run(connection, flat)
        return connection.execute(change, arrays(parameters, flat)).rowcount

    def _swap(self, names: Sequence[str]) -> sa.Update:
        count = range(len(names))
        values = unnested(
            dict.fromkeys([*self._key_names, *(f"b{i}" for i in count), *(f"a{i}" for i in count)], sa.Text())
        )
        columns = [self._table.columns[name] for name in names]
        same = [
            sa.cast(column, sa.Text).is_not_distinct_from(values.c[f"b{i}"])
            for i, column in enumerate(columns)
        ]
        return (
            sa.update(self._table)
            .where(*self._same_key(values), *same)
            .values({column: sa.cast(values.c[f"a{i}"], column.type) for i, column in enumerate(columns)})
        )

    def _same_key(self, values: sa.TableValuedAlias) -> list[ColumnElement[bool]]:
        return [column == sa.cast(values.c[f"k{i}"], column.type) for i, column in enumerate(self._key)]

    def _sqlite_swap(
        self, connection: Connection, names: Sequence[str], parameters: Sequence[str]
    ) -> ManyTimes:
        """Return the swap of one row. Values and their storage classes are compared, as `raw.equals` does."""
        bound = {name: sa.bindparam(name, type_=sa.types.NullType()) for name in parameters}
        columns = [self._table.columns[name] for name in names]
        same: list[ColumnElement[bool]] = []
        for i, column in enumerate(columns):
            same.append(column.op("IS")(bound[f"b{i}"]))
            same.append(sa.func.typeof(column) == sa.func.typeof(bound[f"b{i}"]))
        found = [column == bound[f"k{i}"] for i, column in enumerate(self._key)]
        change = (
            sa.update(self._table)
            .where(*found, *same)
            .values({column: bound[f"a{i}"] for i, column in enumerate(columns)})
        )
        return ManyTimes(connection, change, list(parameters))
