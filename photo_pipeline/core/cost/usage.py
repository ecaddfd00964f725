"""What was used in a month, by kind: counted in the database, so that every process sees the same sum.

Counting only; limits, prices and who may spend is for others to decide.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from photo_pipeline.core.catalog.tables import usage_table, utc_now

INVALIDATION_PATHS = "invalidation_paths"
"""Kind: paths sent to CloudFront for invalidation; it bills a wildcard as one."""


def month_of(instant: datetime) -> str:
    """Return the UTC month, as AWS bills it: 2026-11."""
    return instant.astimezone(UTC).strftime("%Y-%m")


def used(connection: Connection, kind: str, *, month: str | None = None) -> int:
    """Return how much was used in the month (the present one unless given)."""
    columns = usage_table.c
    query = sa.select(columns.amount).where(
        columns.kind == kind, columns.month == (month or month_of(utc_now()))
    )
    return connection.execute(query).scalar_one_or_none() or 0


def count(connection: Connection, kind: str, amount: int, *, month: str | None = None) -> int:
    """Add to the month's sum and return it; a negative amount takes back what was not used after all.

    Other transactions that count the same kind wait until this one ends, so that a limit can be held to.
    """
    now = utc_now()
    month = month or month_of(now)
    maker = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    row = {"month": month, "kind": kind, "amount": amount, "updated_at": now}
    statement = maker(usage_table).values(row)
    added = usage_table.c.amount + statement.excluded.amount
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["month", "kind"], set_={"amount": added, "updated_at": now}
        )
    )
    return used(connection, kind, month=month)
