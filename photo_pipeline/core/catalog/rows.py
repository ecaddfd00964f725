"""Finds and reads the application's rows as the source mapping declares them. Never writes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.exc import DBAPIError

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import WRITES_NOTHING, Database, UndecodableText
from photo_pipeline.core.errors import ConfigurationError, DatabaseError
from photo_pipeline.core.sources.mapping import Source, Where

_CHUNK_ROWS = 500  # per page of keys, and per list handed out
# What a BIGINT holds; milliseconds since 1970 are common positions.
_POSITION_LIMIT = 2**63


@dataclass(frozen=True)
class SourceRow:
    """One row of a source: its key and the raw values that its fields look into, by column."""

    row_key: str
    values: dict[str, raw.RawValue]
    entity_id: str | None
    position: int | None
    focal_point: tuple[float, float] | None


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

        With `lock`, the row stays locked until the transaction ends where the database can (PostgreSQL), and
        where the transaction may write at all.
        """
        lock = lock and not connection.get_execution_options().get(WRITES_NOTHING, False)
        expressions: list[ColumnElement[Any]] = [
            raw.read_expression(self.table.columns[name], is_sqlite=self.is_sqlite).label(f"c{i}")
            for i, name in enumerate(columns)
        ]
        if not expressions:  # Of no column at all: whether the row is there.
            expressions = [sa.literal(1).label("there")]
        query = sa.select(*expressions).select_from(self.table).where(*self.condition())
        found = connection.execute(query.with_for_update() if lock else query).first()
        return None if found is None else dict(zip(columns, found[: len(columns)], strict=True))


def row_id(source: str, row_key: str) -> str:
    """Return the digest by which all photos of one application row are found together."""
    return hashlib.sha256(f"{source}\0{row_key}".encode()).hexdigest()


def check_source(database: Database, source: Source) -> sa.Table:
    """Check that the database has the table and every column that the source names; return the table.

    Raises:
        ConfigurationError: the table or a column does not exist, or a column to be written is generated.
    """
    table = database.table(source.table, source.schema_name)
    for column in source.columns:
        if column not in table.columns:
            raise ConfigurationError(
                f"source {source.name}: column {column!r}",
                cause=f"table {source.table!r} has no such column (it has {', '.join(table.columns.keys())})",
                fix="correct the source mapping",
            )
    for column in source.written_columns:
        if table.columns[column].computed is not None:
            raise ConfigurationError(
                f"source {source.name}: column {column!r}",
                cause="the database generates its values, so that none can be written",
                fix="name the column that they are generated from",
            )
    return table


def read_rows(database: Database, source: Source) -> Iterator[list[SourceRow]]:
    """Yield the source's rows in chunks, ordered by key; no transaction stays open between chunks.

    Rows with a NULL in their key come first, and only they are held in memory all at once.

    Raises:
        ConfigurationError: two rows share the declared key.
        DatabaseError: the query fails.
    """
    table = check_source(database, source)
    try:
        for page in _KeyPages(database, table, source):
            _require_unique_keys(source, page)
            for start in range(0, len(page), _CHUNK_ROWS):
                yield page[start : start + _CHUNK_ROWS]
    except DBAPIError as error:
        raise DatabaseError(
            f"source {source.name}", cause=f"its rows cannot be read ({error.orig})", fix="check `where`"
        ) from error


class _KeyPages:
    """A source's rows in ranges of their key, each read in a short transaction of its own.

    One cursor over all rows would be one transaction, and SQLite cannot shorten its write-ahead log past
    the oldest open one. Each range ends at the key of its 500th row and includes every row whose key
    compares equal to that: keys that are equal but spelled differently ('a' and 'A' under NOCASE, 1.0 and
    1.00) share a page, so `>` the border skips none of them, and two rows with one key always meet.
    """

    def __init__(self, database: Database, table: sa.Table, source: Source) -> None:
        self._database = database
        self._source = source
        self._key = [table.columns[name] for name in source.key]
        self._conditions = _conditions(table, source)
        self._rows = _select(database, table, source).order_by(*self._key)

    def __iter__(self) -> Iterator[list[SourceRow]]:
        with self._database.read() as connection:
            # Nothing compares with NULL, so these rows have no place in any range.
            unplaced = self._read(connection, [sa.or_(*(column.is_(None) for column in self._key))])
        yield unplaced
        page, border = self._next(None)
        yield page
        while border is not None:
            page, border = self._next(border)
            yield page

    def _next(self, after: sa.Tuple | None) -> tuple[list[SourceRow], sa.Tuple | None]:
        """Return the rows after that key, and the key where the page ends (None after the last page)."""
        key = sa.tuple_(*self._key)
        place: list[ColumnElement[bool]] = [column.is_not(None) for column in self._key]
        if after is not None:
            place.append(key > after)
        with self._database.read() as connection:
            border = self._border(connection, place)
            if border is not None:
                place.append(key <= border)
            return self._read(connection, place), border

    def _read(self, connection: Connection, place: list[ColumnElement[bool]]) -> list[SourceRow]:
        found = connection.execute(self._rows.where(*place)).mappings()
        return [_as_source_row(self._source, row) for row in found]

    def _border(self, connection: Connection, place: list[ColumnElement[bool]]) -> sa.Tuple | None:
        is_sqlite = self._database.is_sqlite
        keys = [
            raw.read_expression(column, is_sqlite=is_sqlite).label(f"key_{i}")
            for i, column in enumerate(self._key)
        ]
        query = sa.select(*keys).where(*self._conditions, *place).order_by(*self._key)
        found = connection.execute(query.offset(_CHUNK_ROWS - 1).limit(1)).first()
        if found is None:
            return None
        pairs = zip(self._key, found, strict=True)
        return sa.tuple_(*(_bound(column, value, is_sqlite=is_sqlite) for column, value in pairs))


def _bound(column: sa.Column[Any], value: raw.RawValue, *, is_sqlite: bool) -> ColumnElement[Any]:
    bound = raw.write_expression(column, value, is_sqlite=is_sqlite)
    if isinstance(value, UndecodableText):
        # Bytes are bound as a blob, which sorts after every text: this page would hold all the rest.
        return sa.cast(bound, sa.Text)
    return bound


def _select(database: Database, table: sa.Table, source: Source) -> sa.Select[Any]:
    # Underscored labels keep a column named twice (key and entity id, say) apart.
    wanted = {f"key_{i}": name for i, name in enumerate(source.key)}
    wanted |= {f"field_{i}": name for i, name in enumerate(source.read_columns)}
    if source.entity and source.entity.id:
        wanted["entity_id"] = source.entity.id
    if source.position:
        wanted["position"] = source.position
    if source.focal_point:
        wanted |= {"focal_x": source.focal_point.x, "focal_y": source.focal_point.y}
    expressions = [
        raw.read_expression(table.columns[name], is_sqlite=database.is_sqlite).label(label)
        for label, name in wanted.items()
    ]
    return sa.select(*expressions).where(*_conditions(table, source))


def _as_source_row(source: Source, row: Any) -> SourceRow:
    entity_id = row.get("entity_id")
    return SourceRow(
        row_key=raw.encode_key([row[f"key_{i}"] for i in range(len(source.key))]),
        values={name: row[f"field_{i}"] for i, name in enumerate(source.read_columns)},
        entity_id=None if entity_id is None else str(entity_id),
        position=_as_position(row.get("position")),
        focal_point=_as_focal_point(row.get("focal_x"), row.get("focal_y")),
    )


def _as_position(value: Any) -> int | None:
    try:
        position = int(value)
    except (TypeError, ValueError, OverflowError):
        return None  # The position only orders the batches; a name or a NULL orders nothing.
    return position if abs(position) < _POSITION_LIMIT else None


def _as_focal_point(x: Any, y: Any) -> tuple[float, float] | None:
    """Return the point, to a hundredth: nobody sees less, and each other one is another set of objects."""
    try:
        # Plus zero: a -0.0 equals 0.0 and is written differently, so that it would name other objects.
        point = (round(float(x), 2) + 0.0, round(float(y), 2) + 0.0)
    except (TypeError, ValueError, OverflowError):
        return None  # Nobody chose a point, or nothing that could be one: the subject is looked for.
    return point if 0 <= point[0] <= 1 and 0 <= point[1] <= 1 else None


def _require_unique_keys(source: Source, page: list[SourceRow]) -> None:
    # Not only neighbours: a collation may order 'a', 'A' and 'a' in any way.
    seen: set[str] = set()
    for row in page:
        if row.row_key in seen:
            raise ConfigurationError(
                f"source {source.name}: table {source.table!r}, key {list(source.key)}",
                cause=f"it does not identify one row: {row.row_key} appears more than once",
                fix="name all the columns that identify a row of this table; else add a primary key",
            )
        seen.add(row.row_key)


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
