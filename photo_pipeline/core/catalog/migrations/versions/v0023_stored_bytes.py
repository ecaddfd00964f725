"""What is stored is summed up from an index; the request ledger has a name of its own; slow checks of alerts.

The table's rows are ten times as many bytes as the index. By the name, what a killed process had counted
ahead is given back to this ledger, and not to that of an earlier database at the same place.

Revision ID: 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_IS_STORED = sa.text("uploaded_at IS NOT NULL AND deleted_at IS NULL")


def upgrade() -> None:
    """Create them; with a million objects the index takes some seconds."""
    op.create_index(
        op.f("ix_pp_object_format_bytes"),
        "pp_object",
        ["format", "bytes"],
        sqlite_where=_IS_STORED,
        postgresql_where=_IS_STORED,
    )
    op.add_column("pp_breaker", sa.Column("ledger_id", sa.String(length=32), nullable=True))
    op.create_table(
        "pp_check",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("findings", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pp_check")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("pp_check")
    op.execute("ALTER TABLE pp_breaker DROP COLUMN ledger_id")
    op.drop_index(op.f("ix_pp_object_format_bytes"), table_name="pp_object")
