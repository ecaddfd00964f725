"""The time that touched columns (`updated_at` and the like) receive, in the style the column has."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.column_types import declared_type
from photo_pipeline.core.catalog.raw import RawValue

# Seconds since 1970 stay below this until the year 5138, and as milliseconds it is a day in 1973. So it is
# with each smaller unit: milli-, micro-, nanoseconds.
_NEXT_UNIT_FROM = 100_000_000_000
_UNITS_PER_SECOND = (1, 1_000, 1_000_000, 1_000_000_000)
_STYLE = re.compile(
    r"^\d{4}-\d\d-\d\d(?P<sep>[ T])\d\d:\d\d:\d\d(?P<fraction>\.\d+)?(?P<zone>Z|[+-]\d\d:?\d\d)?$"
)


def touched(connection: Connection, column: sa.Column[Any], before: RawValue, now: datetime) -> RawValue:
    """Return the raw value that says `now` in the way `before` said its time.

    PostgreSQL writes the text of its own time types, and of its numbers. Elsewhere (SQLite, text columns)
    the style of the value that stands there is kept: ISO text with its separator, fraction and zone, or a
    number of seconds, milli-, micro- or nanoseconds. A NULL tells no unit: in a column of numbers it stays.
    """
    if isinstance(declared_type(column), sa.Integer | sa.Numeric):
        if before is None:
            return None
        if isinstance(before, str) and connection.dialect.name != "sqlite":
            number = int(before) if before.lstrip("-").isdecimal() else float(before)
            return str(_in_style_of(number, now))
    if connection.dialect.name == "sqlite" or isinstance(column.type, sa.String):
        return _in_style_of(before, now)
    if isinstance(column.type, sa.DateTime) and getattr(column.type, "precision", None) is None:
        return _as_timestamp(now, with_zone=bool(column.type.timezone))  # the common case, unasked
    text = connection.execute(
        sa.select(sa.cast(sa.cast(sa.literal(now, sa.DateTime(timezone=True)), column.type), sa.Text))
    )
    return str(text.scalar_one())


# All rows of a chunk are touched at one instant, and most of a table's times have one style.
@lru_cache(maxsize=8)
def _as_timestamp(now: datetime, *, with_zone: bool) -> str:
    """Return what PostgreSQL writes for that instant in a session whose time zone is UTC."""
    text = now.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    fraction = f".{now.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{text}{fraction}{'+00' if with_zone else ''}"


def _in_style_of(before: RawValue, now: datetime) -> RawValue:
    if isinstance(before, int | float) and not isinstance(before, bool):
        unit = next(
            (n for n in _UNITS_PER_SECOND if abs(before) < _NEXT_UNIT_FROM * n), _UNITS_PER_SECOND[-1]
        )
        # A float has no room for the microseconds of a number of nanoseconds.
        return _since_1970(now) * unit // 1_000_000 if isinstance(before, int) else now.timestamp() * unit
    style = _STYLE.match(before) if isinstance(before, str) else None
    if style is None:
        return _spelled(now, " ", 0, "")
    return _spelled(now, style["sep"], len(style["fraction"] or ".") - 1, style["zone"] or "")


def _since_1970(now: datetime) -> int:
    """Return the microseconds."""
    return (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@lru_cache(maxsize=64)
def _spelled(now: datetime, separator: str, digits: int, zone: str) -> str:
    fraction = f".{now.microsecond:06d}".ljust(digits + 1, "0")[: digits + 1] if digits else ""
    if zone not in ("", "Z"):
        zone = "+00:00" if ":" in zone else "+0000"  # `now` is UTC
    return f"{now:%Y-%m-%d}{separator}{now:%H:%M:%S}{fraction}{zone}"
