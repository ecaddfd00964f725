"""A batch remembers how often, when and for which class of reasons it failed since it last got through.

Revision ID: 0021
"""

import sqlalchemy as sa
from alembic import op

from photo_pipeline.core.catalog.tables import UtcDateTime

revision = "0021"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what failed before counts as not failed yet."""
    op.add_column("pp_batch", sa.Column("error_class", sa.String(16)))
    op.add_column("pp_batch", sa.Column("failures", sa.Integer, nullable=False, server_default="0"))
    op.add_column("pp_batch", sa.Column("failed_at", UtcDateTime))


def downgrade() -> None:
    """Drop them."""
    for name in ("failed_at", "failures", "error_class"):
        op.drop_column("pp_batch", name)
