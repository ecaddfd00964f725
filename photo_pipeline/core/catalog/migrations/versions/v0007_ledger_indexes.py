"""Two indexes of the ledger that no query uses, and that each rewritten row paid for.

Revision ID: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the indexes on the photos: the ledger is read by batch, by row, and by its own ids."""
    op.drop_index(op.f("ix_pp_rewrite_photo_id"), table_name="pp_rewrite")
    op.drop_index(op.f("ix_pp_rewrite_photo_photo_id"), table_name="pp_rewrite_photo")


def downgrade() -> None:
    """Make them again."""
    op.create_index(op.f("ix_pp_rewrite_photo_photo_id"), "pp_rewrite_photo", ["photo_id"], unique=False)
    op.create_index(op.f("ix_pp_rewrite_photo_id"), "pp_rewrite", ["photo_id"], unique=False)
