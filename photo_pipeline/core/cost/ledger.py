"""The request ledger: what was used, by UTC month. Queries only; when to write is the `meter`'s to know."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import insert_or_update
from photo_pipeline.core.catalog.tables import (
    breaker_table,
    object_table,
    reservation_table,
    usage_table,
    utc_now,
)
from photo_pipeline.core.cost.units import Amounts, Unit

# Spelled once: each block of requests that is counted asks it (`meter`).
_USED_IN: Final = sa.select(usage_table.c.unit, usage_table.c.amount).where(
    usage_table.c.month == sa.bindparam("of_month")
)


def add(connection: Connection, month: str, amounts: Amounts) -> None:
    """Add to what the month has used; a negative amount gives back what was counted ahead.

    Args:
        connection: In a write transaction.
        month: Such as 2026-11.
        amounts: What to add; other processes may add to the same row at the same time.
    """
    now = utc_now()
    # In one order: two transactions that add to the same rows must not wait for each other.
    rows = [
        {"month": month, "unit": unit, "amount": amount, "updated_at": now}
        for unit, amount in sorted(amounts.items())
        if amount
    ]
    insert_or_update(connection, usage_table, rows, add=("amount",))


def is_there(connection: Connection) -> bool:
    """Return whether the state tables are new enough for a ledger.

    An earlier version's `pp_usage` has other columns; the reservations' table came with the present ones.
    """
    return sa.inspect(connection).has_table(reservation_table.name)


def identity(connection: Connection) -> str | None:
    """Return the name of this very ledger: that of an earlier database at the same place had another.

    None where an earlier version's state tables have no room for it.

    Args:
        connection: In a write transaction; the first call makes the name up.
    """
    mine = breaker_table.c.ledger_id
    columns = sa.inspect(connection).get_columns(breaker_table.name)
    if mine.name not in {each["name"] for each in columns}:
        return None
    known = connection.execute(sa.select(mine)).scalar()
    if known is None:
        connection.execute(sa.update(breaker_table).where(mine.is_(None)).values(ledger_id=uuid.uuid4().hex))
        known = connection.execute(sa.select(mine)).scalar_one()
    return str(known)


def used_in(connection: Connection, month: str) -> dict[Unit, int]:
    """Return what that month has used, storage not included."""
    return {Unit(row[0]): row[1] for row in connection.execute(_USED_IN, {"of_month": month})}


def used_by_month(connection: Connection) -> Mapping[str, Amounts]:
    """Return what each month has used, the earliest first, storage not included."""
    columns = usage_table.c
    months: dict[str, dict[Unit, int]] = {}
    for row in connection.execute(sa.select(usage_table).order_by(columns.month, columns.unit)):
        months.setdefault(row.month, {})[Unit(row.unit)] = row.amount
    return months


@dataclass(frozen=True)
class Stored:
    """Objects in the bucket, and their bytes."""

    objects: int
    size_bytes: int


def stored_by_format(connection: Connection) -> dict[str, Stored]:
    """Return what we have in the bucket, by our own records (which leave out backups of rows).

    An index alone answers it: 0.1 s with 700,000 objects.
    """
    columns = object_table.c
    there = (columns.uploaded_at.is_not(None), columns.deleted_at.is_(None))
    rows = connection.execute(
        sa.select(columns.format, sa.func.count(), sa.func.sum(columns.bytes))
        .where(*there)
        .group_by(columns.format)
    )
    return {row[0]: Stored(row[1], int(row[2])) for row in rows}


def stored_bytes(connection: Connection) -> int:
    """Return how many bytes that is in all."""
    return sum(each.size_bytes for each in stored_by_format(connection).values())
