"""Whether a value fits the type that a column was declared with, before the database is asked to take it.

SQLite stores anything anywhere, but the application's framework declared a length for a reason: its forms and
its next migration would refuse the row. Other databases would refuse the whole statement.
"""

import json
import re
from typing import Any

import sqlalchemy as sa

from photo_pipeline.core.catalog.raw import RawValue

DECLARED = "declared_type"
"""Where `Database` keeps a column's reflected type in `Column.info`, when it works without one (SQLite)."""

# Bits of the whole numbers that a type holds.
_INTEGER_BITS = ((sa.SmallInteger, 16), (sa.BigInteger, 64), (sa.Integer, 32))

# PostgreSQL's values come and go in their text form.
_NUMBER = re.compile(r"[+-]?[0-9.]+(?:e[+-]?[0-9]+)?|true|false", re.IGNORECASE)


def declared_type(column: sa.Column[Any]) -> sa.types.TypeEngine[Any]:
    """Return the type that the table's definition gives the column."""
    declared: sa.types.TypeEngine[Any] = column.info.get(DECLARED, column.type)
    return declared


def is_text(column: sa.Column[Any]) -> bool:
    """Return whether the column takes any text of up to `text_limit` characters."""
    declared = declared_type(column)
    return isinstance(declared, sa.String) and not isinstance(declared, sa.Enum)


def text_limit(column: sa.Column[Any]) -> int | None:
    """Return how many characters the column takes; None: its type does not say."""
    return getattr(declared_type(column), "length", None) or None


def misfit(column: sa.Column[Any], value: RawValue, *, is_sqlite: bool) -> str | None:
    """Return why the column cannot take the value and what to do; None if its type says nothing."""
    reason = _misfit(column, value, is_sqlite=is_sqlite)
    length = text_limit(column)
    if reason is None and isinstance(value, str) and length and len(value) > length:
        return (
            f"the new value has {len(value)} characters and column {column.name!r} takes {length}; widen the "
            "column or use rewrite mode key"
        )
    return f"column {column.name!r}: {reason}; write it to another column" if reason else None


def _misfit(column: sa.Column[Any], value: RawValue, *, is_sqlite: bool) -> str | None:
    if value is None:
        return None if column.nullable else "the column does not take NULL"
    declared = declared_type(column)
    if isinstance(value, str):
        return _text_misfit(declared, value)
    if isinstance(value, int):
        # SQLite's integers have 64 bits, whatever their declaration says.
        bits = 64 if is_sqlite else next((n for kind, n in _INTEGER_BITS if isinstance(declared, kind)), None)
        if bits is not None and not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            return f"{value} does not fit into {bits} bits"
        if isinstance(declared, sa.Boolean) and value not in (0, 1):
            return f"{value} is neither true nor false"
    return _digits_misfit(declared, value)


def _text_misfit(declared: sa.types.TypeEngine[Any], value: str) -> str | None:
    if isinstance(declared, sa.Enum):
        return None if value in declared.enums else f"{value!r} is not one of {', '.join(declared.enums)}"
    if isinstance(declared, sa.JSON):
        try:
            json.loads(value)
        except ValueError as error:
            return f"the new value is not JSON ({error})"
    if isinstance(declared, sa.Integer | sa.Numeric | sa.Float | sa.Boolean) and not _NUMBER.fullmatch(value):
        return f"the new value is text and the column was declared {declared.__visit_name__.upper()}"
    return None


def _digits_misfit(declared: sa.types.TypeEngine[Any], value: int | float | bytes) -> str | None:
    if isinstance(value, bytes) or not isinstance(declared, sa.Numeric) or isinstance(declared, sa.Float):
        return None
    if declared.precision is None:
        return None
    digits = declared.precision - (declared.scale or 0)
    return None if abs(value) < 10**digits else f"{value} has more than {digits} digits before the point"
