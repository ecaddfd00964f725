"""The cells of the application's tables as texts in which our keys can be looked for, whatever their type.

What a text mentions is `orphans_keys`'s to say.
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import Database

PAGE = 2_000
"""Rows that are fetched at a time."""

# Types of PostgreSQL whose values cannot hold a URL; everything else is read as its text form.
_NO_TEXT = (sa.Integer, sa.Numeric, sa.Boolean, sa.Date, sa.DateTime, sa.Time, sa.Interval, sa.Uuid)


def text_columns(database: Database, table: sa.Table) -> list[sa.Column[Any]]:
    """Return the columns that may hold a text; in SQLite all, since any column holds any value there."""
    return [c for c in table.columns if database.is_sqlite or not isinstance(c.type, _NO_TEXT)]


def text_expression(database: Database, column: sa.Column[Any]) -> ColumnElement[Any]:
    """Return what to select of the column, for `as_text`."""
    if isinstance(column.type, sa.LargeBinary) and not database.is_sqlite:
        return sa.func.encode(column, "escape").label(column.name)
    return raw.read_expression(column, is_sqlite=database.is_sqlite)


def as_text(value: Any) -> str | None:
    """Return a selected value as text, None if it holds none."""
    if isinstance(value, str):
        return value
    # Latin-1 gives each byte a character: digests and names in ASCII stay what they are.
    return bytes(value).decode("latin-1") if isinstance(value, bytes | bytearray | memoryview) else None


def streamed(connection: Connection, query: sa.Select[Any]) -> Iterator[Any]:
    """Yield the query's rows, `PAGE` in memory at a time."""
    yield from connection.execution_options(stream_results=True, yield_per=PAGE).execute(query)
