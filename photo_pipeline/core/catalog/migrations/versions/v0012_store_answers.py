"""Two more answers of the store probe: MD5 as ETag, and conditional deletes.

Revision ID: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None

_NEW = ("reports_md5", "honours_if_match")


def upgrade() -> None:
    """Add them, and forget the answers of earlier probes: they did not ask for these."""
    op.execute("DELETE FROM pp_store")
    with op.batch_alter_table("pp_store") as table:
        for name in _NEW:
            table.add_column(sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("pp_store") as table:
        for name in _NEW:
            table.drop_column(name)
