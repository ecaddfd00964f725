"""A photo's state moves on without an index being written: the index on the batch no longer has the state.

On PostgreSQL the pages of pp_photo also keep room for a photo's next version, so that it stays in its page
(HOT) and none of the table's indexes hears of it. Rows of before keep their full pages until they are moved.

Revision ID: 0013
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# Room for the next version of each row, which is half as long again with its new value; see docs/proofs.md.
_FILL_PERCENT = 35


def upgrade() -> None:
    """Replace the index, and leave room in the pages that are written from now on."""
    op.create_index(op.f("ix_pp_photo_batch"), "pp_photo", ["batch"], unique=False)
    op.drop_index(op.f("ix_pp_photo_batch_state"), table_name="pp_photo")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE pp_photo SET (fillfactor = {_FILL_PERCENT})")


def downgrade() -> None:
    """Take both back."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE pp_photo RESET (fillfactor)")
    op.create_index(op.f("ix_pp_photo_batch_state"), "pp_photo", ["batch", "state"], unique=False)
    op.drop_index(op.f("ix_pp_photo_batch"), table_name="pp_photo")
