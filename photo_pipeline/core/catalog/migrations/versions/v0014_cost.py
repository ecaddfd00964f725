"""What is spent: the request ledger, reservations, and the breaker that all processes share.

Revision ID: 0014
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; the breaker begins closed. What was counted until now goes on being counted."""
    # Alembic would copy SQLite's table for it, and SQLite (3.25 of 2018) renames by itself.
    op.execute("ALTER TABLE pp_usage RENAME COLUMN kind TO unit")
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
    """Drop them; what was counted stays, also the units that the earlier version does not read."""
    for name in ("pp_breaker", "pp_reservation"):
        op.drop_table(name)
    op.execute("ALTER TABLE pp_usage RENAME COLUMN unit TO kind")
