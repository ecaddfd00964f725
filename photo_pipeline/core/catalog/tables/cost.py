"""Requests, reservations and the breaker; written by `core.cost` only."""

import sqlalchemy as sa

from photo_pipeline.core.catalog.tables.base import UtcDateTime, metadata

# Requests and bytes by the UTC month that they are billed in.
usage_table = sa.Table(
    "pp_usage",
    metadata,
    sa.Column("month", sa.String(7), primary_key=True),
    sa.Column("unit", sa.String(32), primary_key=True),  # a core.cost.units.Unit
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

reservation_table = sa.Table(
    "pp_reservation",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("unit", sa.String(32), primary_key=True),
    sa.Column("amount", sa.BigInteger, nullable=False),  # what is left of it
    sa.Column("owner", sa.String(255), nullable=False),  # the batch
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
)

# One row, which every reservation locks: that is what makes them take turns.
breaker_table = sa.Table(
    "pp_breaker",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),  # closed | open | half-open
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("successes", sa.Integer, nullable=False),
    sa.Column("opened_at", UtcDateTime),
    sa.Column("opened_for", sa.String(64)),  # digest of the month and the limits then
    sa.Column("reason", sa.Text),
    sa.Column("override_until", UtcDateTime),
    sa.Column("override_reason", sa.Text),
    sa.Column("override_by", sa.String(255)),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    # Stands for the ledger of this database; null until it is asked for.
    sa.Column("ledger_id", sa.String(32)),
)

# What AWS counted beside our own ledger, as of the last look. Changes nothing of the ledger.
reconciliation_table = sa.Table(
    "pp_reconciliation",
    metadata,
    sa.Column("measure", sa.String(32), primary_key=True),  # a core.cost.reconciliation.Measure
    sa.Column("since", UtcDateTime),  # what is counted began then; null for what is stored at a moment
    sa.Column("until", UtcDateTime, nullable=False),  # AWS's number is as of then
    sa.Column("ours", sa.BigInteger, nullable=False),
    sa.Column("theirs", sa.BigInteger),  # null: AWS has no number
    sa.Column("reason", sa.Text, nullable=False),  # why they differ, or why there is none
    sa.Column("checked_at", UtcDateTime, nullable=False),
)
