"""Alerts and what each channel was told of them; what AWS counted; how long each photo took.

Revision ID: 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables. What the breaker kept of the last alert goes: `pp_alert` knows it better."""
    op.create_table(
        "pp_alert",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("title", sa.String(length=255), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("level", sa.BigInteger(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("kind", "subject", name=op.f("pk_pp_alert")),
    )
    op.create_index(op.f("ix_pp_alert_resolved_at"), "pp_alert", ["resolved_at"])
    op.create_table(
        "pp_alert_delivery",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("channel", sa.String(length=32), nullable=False),
        sa.Column("told", sa.String(length=16), nullable=True),
        sa.Column("level", sa.BigInteger(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("kind", "subject", "channel", name=op.f("pk_pp_alert_delivery")),
    )
    op.create_table(
        "pp_reconciliation",
        sa.Column("measure", sa.String(length=32), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ours", sa.BigInteger(), nullable=False),
        sa.Column("theirs", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("measure", name=op.f("pk_pp_reconciliation")),
    )
    # Alembic would refuse SQLite's; SQLite itself knows it since 3.35 of 2021.
    op.execute("ALTER TABLE pp_breaker DROP COLUMN alerted_for")
    op.add_column("pp_picture", sa.Column("seconds", sa.Double(), nullable=True))


def downgrade() -> None:
    """Drop them; an alert that was sent may be sent once more by the earlier version."""
    op.execute("ALTER TABLE pp_picture DROP COLUMN seconds")
    op.add_column("pp_breaker", sa.Column("alerted_for", sa.Text(), nullable=True))
    for name in ("pp_reconciliation", "pp_alert_delivery", "pp_alert"):
        op.drop_table(name)
