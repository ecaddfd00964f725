"""What each content looks like, and the focal point of each photo.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the columns."""
    op.create_table(
        "pp_picture",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("thumbhash", sa.String(length=64), nullable=False),
        sa.Column("placeholder", sa.Text(), nullable=False),
        sa.Column("dominant_colour", sa.String(length=7), nullable=False),
        sa.Column("perceptual_hash", sa.String(length=16), nullable=False),
        sa.Column("camera", sa.String(length=255), nullable=True),
        sa.Column("taken_at", sa.String(length=32), nullable=True),
        sa.Column("latitude", sa.Double(), nullable=True),
        sa.Column("longitude", sa.Double(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_pp_picture")),
    )
    op.create_index(op.f("ix_pp_picture_perceptual_hash"), "pp_picture", ["perceptual_hash"])
    op.add_column("pp_photo", sa.Column("focal_x", sa.Double(), nullable=True))
    op.add_column("pp_photo", sa.Column("focal_y", sa.Double(), nullable=True))


def downgrade() -> None:
    """Drop them; photos that are made again fill the table again."""
    op.drop_column("pp_photo", "focal_y")
    op.drop_column("pp_photo", "focal_x")
    op.drop_table("pp_picture")
