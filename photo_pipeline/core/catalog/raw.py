"""Raw column values: read, compared and written back without changing one byte of them.

A rollback must restore exactly what was there, whatever the column's type. On SQLite a raw value is the
stored scalar itself (int, float, str, bytes or None). On PostgreSQL it is the value's text form, cast
both ways by the server, which round-trips every type (its own dump format relies on that).
"""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

RawValue = int | float | str | bytes | None


def read_expression(column: sa.Column[Any], *, is_sqlite: bool) -> ColumnElement[Any]:
    """Return the SELECT expression that yields the column's raw value."""
    return column.label(column.name) if is_sqlite else sa.cast(column, sa.Text).label(column.name)


def write_expression(column: sa.Column[Any], value: RawValue, *, is_sqlite: bool) -> ColumnElement[Any]:
    """Return the expression that assigns the raw `value` to the column."""
    if value is None:
        return sa.null()
    if is_sqlite:
        return sa.literal(value, sa.types.NullType())
    return sa.cast(sa.literal(str(value), sa.Text), column.type)


def equals(column: sa.Column[Any], value: RawValue, *, is_sqlite: bool) -> ColumnElement[bool]:
    """Return the condition that the column still holds exactly the raw `value` (NULL equals NULL)."""
    if value is None:
        return column.is_(None)
    if is_sqlite:
        # The storage class is compared too: '1' and 1 are different bytes.
        same_type = sa.func.typeof(column) == _sqlite_type(value)
        return sa.and_(column == sa.literal(value, sa.types.NullType()), same_type)
    return sa.cast(column, sa.Text) == sa.literal(str(value), sa.Text)


def key_equals(column: sa.Column[Any], value: RawValue, *, is_sqlite: bool) -> ColumnElement[bool]:
    """Return the condition that finds a row by a key column, in a form that can use the key's index."""
    if value is None:
        return column.is_(None)
    return column == write_expression(column, value, is_sqlite=is_sqlite)


def _sqlite_type(value: RawValue) -> str:
    return encode(value)[1]


def literal(value: str | float | bool | None, *, is_sqlite: bool) -> RawValue:
    """Return a value of the configuration as a raw value."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return int(value) if is_sqlite else str(value).lower()
    return value if is_sqlite else str(value)


def encode(value: RawValue) -> tuple[str | None, str]:
    """Return the value as (text, type name) for the ledger; text values stay readable as they are."""
    if value is None:
        return None, "null"
    if isinstance(value, bytes):
        return value.hex(), "blob"
    if isinstance(value, bool | int):
        return str(int(value)), "integer"
    if isinstance(value, float):
        return repr(value), "real"
    return value, "text"


def decode(text: str | None, kind: str) -> RawValue:
    """Return the value that `encode` turned into (text, kind)."""
    if text is None or kind == "null":
        return None
    if kind == "blob":
        return bytes.fromhex(text)
    if kind == "integer":
        return int(text)
    return float(text) if kind == "real" else text


def encode_key(values: list[RawValue]) -> str:
    """Return a row's key values as the JSON text stored in `row_key`."""
    plain = [{"blob": value.hex()} if isinstance(value, bytes) else value for value in values]
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def decode_key(row_key: str) -> list[RawValue]:
    """Return the key values that `encode_key` stored."""
    values: list[Any] = json.loads(row_key)
    return [bytes.fromhex(value["blob"]) if isinstance(value, dict) else value for value in values]
