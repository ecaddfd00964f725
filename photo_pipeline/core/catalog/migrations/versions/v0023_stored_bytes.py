"""What is stored is summed up from an index: the table's rows are ten times as many bytes.

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
    """Create it; with a million objects that takes some seconds."""
    op.create_index(
        op.f("ix_pp_object_format_bytes"),
        "pp_object",
        ["format", "bytes"],
        sqlite_where=_IS_STORED,
        postgresql_where=_IS_STORED,
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_index(op.f("ix_pp_object_format_bytes"), table_name="pp_object")
