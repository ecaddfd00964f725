"""Finds and reads the application's rows as the source mapping declares them. Never writes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.exc import DBAPIError

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.errors import ConfigurationError, DatabaseError
from photo_pipeline.core.sources.mapping import Source, Where

_CHUNK_ROWS = 500
# What a BIGINT holds; milliseconds since 1970 are common positions.
_POSITION_LIMIT = 2**63


@dataclass(frozen=True)
class SourceRow:
    """One row of a source: its key and the raw values of its fields, by column."""

    row_key: str
    values: dict[str, raw.RawValue]
    entity_id: str | None
    position: int | None


@dataclass(frozen=True)
class RowAddress:
    """One row of the application, ready to be read and changed."""

    table: sa.Table
    source: Source
    row_key: str
    is_sqlite: bool

    @classmethod
    def of(cls, database: Database, source: Source, row_key: str) -> Self:
        """Return the address of the row with that key."""
        return cls(database.table(source.table, source.schema_name), source, row_key, database.is_sqlite)

    def condition(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions that find the row by its key."""
        values = raw.decode_key(self.row_key)
        return [
            raw.key_equals(self.table.columns[name], value, is_sqlite=self.is_sqlite)
            for name, value in zip(self.source.key, values, strict=True)
        ]

    def read(
        self, connection: Connection, columns: list[str], *, lock: bool = True
    ) -> dict[str, raw.RawValue] | None:
        """Return the raw values of the row's columns, or None if the row is gone.

        With `lock`, the row stays locked until the transaction ends where the database can (PostgreSQL).
        """
        expressions = [
            raw.read_expression(self.table.columns[name], is_sqlite=self.is_sqlite).label(f"c{i}")
            for i, name in enumerate(columns)
        ]
        query = sa.select(*expressions).select_from(self.table).where(*self.condition())
        found = connection.execute(query.with_for_update() if lock else query).first()
        return None if found is None else dict(zip(columns, found, strict=True))


def check_source(database: Database, source: Source) -> sa.Table:
    """Check that the database has the table and every column that the source names; return the table.

    Raises:
        ConfigurationError: the table or a column does not exist.
    """
    table = database.table(source.table, source.schema_name)
    for column in source.columns:
        if column not in table.columns:
            raise ConfigurationError(
                f"source {source.name}: column {column!r}",
                cause=f"table {source.table!r} has no such column (it has {', '.join(table.columns.keys())})",
                fix="correct the source mapping",
            )
    return table


def count_rows(database: Database, source: Source) -> int:
    """Return how many rows the source selects."""
    table = check_source(database, source)
    with database.read() as connection:
        query = sa.select(sa.func.count()).select_from(table).where(*_conditions(table, source))
        return int(connection.execute(query).scalar_one())


def read_rows(database: Database, source: Source) -> Iterator[list[SourceRow]]:
    """Yield the source's rows in chunks, ordered by key, in constant memory.

    Raises:
        ConfigurationError: two rows share the declared key.
        DatabaseError: the query fails.
    """
    table = check_source(database, source)
    previous: str | None = None
    try:
        with database.read() as connection:
            result = connection.execution_options(yield_per=_CHUNK_ROWS).execute(
                _select(database, table, source)
            )
            for partition in result.mappings().partitions():
                chunk = [_as_source_row(source, row) for row in partition]
                previous = _require_unique_keys(source, previous, chunk)
                yield chunk
    except DBAPIError as error:
        raise DatabaseError(
            f"source {source.name}", cause=f"its rows cannot be read ({error.orig})", fix="check `where`"
        ) from error


def _select(database: Database, table: sa.Table, source: Source) -> sa.Select[Any]:
    # Underscored labels keep a column named twice (key and entity id, say) apart.
    wanted = {f"key_{i}": name for i, name in enumerate(source.key)}
    wanted |= {f"field_{i}": field.column for i, field in enumerate(source.fields)}
    if source.entity and source.entity.id:
        wanted["entity_id"] = source.entity.id
    if source.position:
        wanted["position"] = source.position
    expressions = [
        raw.read_expression(table.columns[name], is_sqlite=database.is_sqlite).label(label)
        for label, name in wanted.items()
    ]
    order = [table.columns[name] for name in source.key]
    return sa.select(*expressions).where(*_conditions(table, source)).order_by(*order)


def _as_source_row(source: Source, row: Any) -> SourceRow:
    entity_id = row.get("entity_id")
    return SourceRow(
        row_key=raw.encode_key([row[f"key_{i}"] for i in range(len(source.key))]),
        values={field.column: row[f"field_{i}"] for i, field in enumerate(source.fields)},
        entity_id=None if entity_id is None else str(entity_id),
        position=_as_position(row.get("position")),
    )


def _as_position(value: Any) -> int | None:
    try:
        position = int(value)
    except (TypeError, ValueError, OverflowError):
        return None  # The position only orders the batches; a name or a NULL orders nothing.
    return position if abs(position) < _POSITION_LIMIT else None


def _require_unique_keys(source: Source, previous: str | None, chunk: list[SourceRow]) -> str | None:
    for row in chunk:
        if row.row_key == previous:
            raise ConfigurationError(
                f"source {source.name}: key {list(source.key)}",
                cause=f"it does not identify one row: {row.row_key} appears more than once",
                fix="name all the columns that identify a row of this table",
            )
        previous = row.row_key
    return previous


def _conditions(table: sa.Table, source: Source) -> list[ColumnElement[bool]]:
    return [_condition(table.columns[clause.column], clause) for clause in source.where]


def _condition(column: sa.Column[Any], clause: Where) -> ColumnElement[bool]:
    value = clause.value
    if clause.op in ("in", "not_in"):
        listed = value if isinstance(value, list) else [value]
        return column.in_(listed) if clause.op == "in" else column.not_in(listed)
    simple: dict[str, Any] = {
        "eq": lambda: column == value,
        "ne": lambda: column != value,
        "is_null": lambda: column.is_(None),
        "not_null": lambda: column.is_not(None),
        "like": lambda: column.like(str(value)),
        "gt": lambda: column > value,
        "lt": lambda: column < value,
    }
    condition: ColumnElement[bool] = simple[clause.op]()
    return condition
