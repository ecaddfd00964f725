"""What is used and reserved at this moment, read from the state tables in the caller's transaction."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import breaker_table, reservation_table
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.budget import Used
from photo_pipeline.core.cost.units import Unit, month_of

BREAKER = "uploads"
"""The name of the one breaker there is."""

# Spelled once: each block of requests that is counted asks it (`meter`).
_RESERVED: Final = (
    sa.select(reservation_table.c.unit, sa.func.sum(reservation_table.c.amount))
    .where(reservation_table.c.expires_at > sa.bindparam("at"))
    .group_by(reservation_table.c.unit)
)


@dataclass(frozen=True)
class Standing:
    """What is used, and what is reserved for work under way, this month."""

    used: Used
    reserved: dict[Unit, int]


def take_turns(connection: Connection) -> None:
    """Wait until no other transaction reserves, and keep others waiting until this one ends.

    PostgreSQL needs the lock; SQLite lets one transaction write at a time anyway.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(
            sa.select(breaker_table.c.name).where(breaker_table.c.name == BREAKER).with_for_update()
        )


def read_used(
    connection: Connection, now: datetime, *, stored: int | None = None, history: bool = True
) -> Used:
    """Return what is used.

    Args:
        connection: In any transaction.
        now: In UTC; says which month it is.
        stored: How many bytes are stored, as far as the caller knows; None: they are summed up.
        history: Whether earlier months are needed too.
    """
    month = month_of(now)
    months = dict(ledger.used_by_month(connection)) if history else {}
    this = dict(months.pop(month, {})) if history else ledger.used_in(connection, month)
    this[Unit.STORED_BYTES] = ledger.stored_bytes(connection) if stored is None else stored
    return Used(this, months)


def read_standing(
    connection: Connection, now: datetime, *, stored: int | None = None, history: bool = True
) -> Standing:
    """Return what is used and reserved (see `read_used`); expired reservations do not count."""
    rows = connection.execute(_RESERVED, {"at": now})
    reserved = {Unit(row[0]): int(row[1]) for row in rows}
    return Standing(read_used(connection, now, stored=stored, history=history), reserved)
