"""An object's MD5 is kept beside its SHA-256, from where its bytes are made: many servers' proof needs it.

Revision ID: 0024
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; what is there has none, and is hashed again where it is needed."""
    op.add_column("pp_object", sa.Column("md5", sa.String(length=32), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.execute("ALTER TABLE pp_object DROP COLUMN md5")
