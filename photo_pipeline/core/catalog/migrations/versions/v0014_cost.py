"""What is spent: the request ledger, reservations, and the breaker that all processes share.

Revision ID: 0014
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; the breaker begins closed."""
    op.create_table(
        "pp_usage",
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("unit", sa.String(length=32), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("month", "unit", name=op.f("pk_pp_usage")),
    )
    op.create_table(
        "pp_reservation",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("unit", sa.String(length=32), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", "unit", name=op.f("pk_pp_reservation")),
    )
    breaker = op.create_table(
        "pp_breaker",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("successes", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opened_for", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("alerted_for", sa.Text(), nullable=True),
        sa.Column("override_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("override_reason", sa.Text(), nullable=True),
        sa.Column("override_by", sa.String(length=255), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pp_breaker")),
    )
    closed = {"name": "uploads", "state": "closed", "failures": 0, "successes": 0}
    op.bulk_insert(breaker, [closed | {"updated_at": datetime.now(UTC)}])


def downgrade() -> None:
    """Drop them, and with them the count of what was spent."""
    for name in ("pp_breaker", "pp_reservation", "pp_usage"):
        op.drop_table(name)
