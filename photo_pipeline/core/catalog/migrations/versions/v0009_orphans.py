"""What the clean-up of the bucket marks and deletes, and the lease under which it does.

Revision ID: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make pp_orphan, and pp_lease with its one row; let pp_object remember ETags."""
    op.create_table(
        "pp_orphan",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("bucket", sa.String(255), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.String(255), nullable=False),
        sa.Column("version_id", sa.String(1024)),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("marked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("marker_id", sa.String(1024)),
        sa.Column("restored_at", sa.DateTime(timezone=True)),
        sa.Column("run", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pp_orphan")),
    )
    op.create_index(op.f("ix_pp_orphan_state"), "pp_orphan", ["state"], unique=False)
    lease = op.create_table(
        "pp_lease",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(255)),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pp_lease")),
    )
    # There from the start, so that whoever begins a batch can lock it.
    op.bulk_insert(lease, [{"name": "orphan_cleanup", "token": 0}])
    op.add_column("pp_object", sa.Column("etag", sa.String(255)))


def downgrade() -> None:
    """Forget the marks; what was deleted stays deleted."""
    op.drop_column("pp_object", "etag")
    op.drop_table("pp_lease")
    op.drop_index(op.f("ix_pp_orphan_state"), table_name="pp_orphan")
    op.drop_table("pp_orphan")
