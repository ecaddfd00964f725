"""Reads and sets many rows of one table at once, each found by its key; compares as `ledger.swap` does.

On PostgreSQL one statement with arrays, on SQLite the driver's executemany. What may be set is decided by
`chunk_rewrite`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.dialects.postgresql import ARRAY

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.raw import RawValue

# SQLite before 3.32 takes 999 parameters per statement.
_PARAMETERS = 900

Cells = tuple[str, Mapping[str, RawValue], Mapping[str, RawValue]]
"""A row's key, the values that it must still have, and those that it is to get."""


class ManyRows:
    """Rows of one table, inside the caller's write transaction."""

    def __init__(self, connection: Connection, table: sa.Table, key: Sequence[str]) -> None:
        self._connection = connection
        self._table = table
        self._key = [table.columns[name] for name in key]
        self._is_sqlite = connection.dialect.name == "sqlite"

    def can_find(self, row_key: str) -> bool:
        """Return whether the key is one that an ordinary comparison finds: no NULL, no bytes."""
        return not any(value is None or isinstance(value, bytes) for value in raw.decode_key(row_key))

    def read(self, row_keys: list[str], names: list[str]) -> dict[str, dict[str, RawValue]]:
        """Return the raw values of those columns by row key, and lock the rows.

        A row that is gone, or whose key the database spells differently, is left out.
        """
        columns = [*self._key, *(self._table.columns[name] for name in names)]
        chosen = [
            raw.read_expression(column, is_sqlite=self._is_sqlite).label(f"c{i}")
            for i, column in enumerate(columns)
        ]
        wanted, width = set(row_keys), len(self._key)
        found: dict[str, dict[str, RawValue]] = {}
        for query in self._queries(sa.select(*chosen), row_keys):
            for row in self._connection.execute(query):
                cells: list[Any] = list(row)
                key = raw.encode_key(cells[:width])
                if key in wanted:
                    found[key] = dict(zip(names, cells[width:], strict=True))
        return found

    def _queries(
        self, query: sa.Select[tuple[RawValue, ...]], row_keys: list[str]
    ) -> Iterator[sa.Select[tuple[RawValue, ...]]]:
        keys = [raw.decode_key(each) for each in row_keys]
        if not self._is_sqlite:
            arrays = self._arrays({f"k{i}": [key[i] for key in keys] for i in range(len(self._key))})
            yield query.select_from(
                self._table.join(arrays, sa.and_(*self._same_key(arrays)))
            ).with_for_update(of=self._table)
            return
        step = max(1, _PARAMETERS // len(self._key))
        for start in range(0, len(keys), step):
            page = keys[start : start + step]
            if len(self._key) == 1:
                # An expanding parameter: the statement is compiled once, and not for each page.
                listed = sa.bindparam("keys", [key[0] for key in page], sa.types.NullType(), expanding=True)
                yield query.where(self._key[0].in_(listed))
            else:
                spelled = [sa.tuple_(*(sa.literal(v, sa.types.NullType()) for v in key)) for key in page]
                yield query.where(sa.or_(*(sa.tuple_(*self._key) == each for each in spelled)))

    def swap(self, names: list[str], rows: Sequence[Cells]) -> int:
        """Set those columns of each row where all of them hold what they held; return how many were set."""
        keys = [raw.decode_key(row_key) for row_key, _, _ in rows]
        values: dict[str, list[RawValue]] = {}
        for i in range(len(self._key)):
            values[f"k{i}"] = [key[i] for key in keys]
        for i, name in enumerate(names):
            values[f"b{i}"] = [before[name] for _, before, _ in rows]
            values[f"a{i}"] = [after[name] for _, _, after in rows]
        if self._is_sqlite:
            return self._swap_by_executemany(names, values)
        return self._swap_by_arrays(names, values)

    def _swap_by_arrays(self, names: list[str], values: dict[str, list[RawValue]]) -> int:
        arrays = self._arrays(values)
        columns = [self._table.columns[name] for name in names]
        same = [
            sa.cast(column, sa.Text).is_not_distinct_from(arrays.c[f"b{i}"])
            for i, column in enumerate(columns)
        ]
        change = (
            sa.update(self._table)
            .where(*self._same_key(arrays), *same)
            .values({column: sa.cast(arrays.c[f"a{i}"], column.type) for i, column in enumerate(columns)})
        )
        return self._connection.execute(change).rowcount

    def _arrays(self, values: dict[str, list[RawValue]]) -> sa.TableValuedAlias:
        """Return the values as a table of texts, one array per column; PostgreSQL only."""
        arrays = [
            sa.cast([None if v is None else str(v) for v in column], ARRAY(sa.Text))
            for column in values.values()
        ]
        columns = [sa.column(name, sa.Text) for name in values]
        return sa.func.unnest(*arrays).table_valued(*columns, name="v").render_derived()

    def _same_key(self, arrays: sa.TableValuedAlias) -> list[ColumnElement[bool]]:
        return [column == sa.cast(arrays.c[f"k{i}"], column.type) for i, column in enumerate(self._key)]

    def _swap_by_executemany(self, names: list[str], values: dict[str, list[RawValue]]) -> int:
        """SQLite. Values and their storage classes are compared, as `raw.equals` does for one row."""
        bound = {name: sa.bindparam(name, type_=sa.types.NullType()) for name in values}
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
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        return self._connection.execute(change, rows).rowcount
