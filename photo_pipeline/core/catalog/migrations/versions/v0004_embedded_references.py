"""References inside a cell's text: which column, which occurrence, which variant; several photos per entry.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the columns, and fill them for what is there: whole values."""
    op.add_column("pp_photo", sa.Column("column", sa.String(length=128), nullable=True))
    op.add_column("pp_photo", sa.Column("locator", sa.Text(), nullable=True))
    op.add_column("pp_photo", sa.Column("variant", sa.String(length=64), nullable=True))
    op.create_table(
        "pp_rewrite_photo",
        sa.Column("rewrite_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("photo_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("rewrite_id", "photo_id", name=op.f("pk_pp_rewrite_photo")),
    )
    op.create_index(op.f("ix_pp_rewrite_photo_photo_id"), "pp_rewrite_photo", ["photo_id"], unique=False)
    photo = sa.table("pp_photo", sa.column("field"), sa.column("column"))
    op.execute(sa.update(photo).values({"column": photo.c.field}))
    rewrite = sa.table("pp_rewrite", sa.column("id"), sa.column("photo_id"))
    link = sa.table("pp_rewrite_photo", sa.column("rewrite_id"), sa.column("photo_id"))
    linked = sa.select(rewrite.c.id, rewrite.c.photo_id).where(rewrite.c.photo_id.is_not(None))
    op.execute(sa.insert(link).from_select(["rewrite_id", "photo_id"], linked))


def downgrade() -> None:
    """Drop them; an entry that concerns several photos keeps the first."""
    op.drop_table("pp_rewrite_photo")
    op.drop_column("pp_photo", "variant")
    op.drop_column("pp_photo", "locator")
    op.drop_column("pp_photo", "column")
