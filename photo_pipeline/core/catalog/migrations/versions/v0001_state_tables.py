"""The first state tables.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite autoincrements only INTEGER primary keys.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "pp_batch",
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("photos", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checkpoint", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_pp_batch")),
    )
    op.create_table(
        "pp_file",
        sa.Column("file_id", sa.String(length=64), nullable=False),
        sa.Column("lookup_id", sa.String(length=64), nullable=False),
        sa.Column("root", sa.String(length=128), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=True),
        sa.Column("inode", sa.BigInteger(), nullable=True),
        sa.Column("format", sa.String(length=16), nullable=True),
        sa.Column("unsupported", sa.String(length=128), nullable=True),
        sa.Column("problem", sa.String(length=32), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("scan", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("file_id", name=op.f("pk_pp_file")),
    )
    op.create_index(op.f("ix_pp_file_lookup_id"), "pp_file", ["lookup_id"], unique=False)
    op.create_index(op.f("ix_pp_file_scan"), "pp_file", ["scan"], unique=False)
    op.create_table(
        "pp_migration",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("current_scan", sa.String(length=32), nullable=True),
        sa.Column("last_scan", sa.String(length=32), nullable=True),
        sa.Column("inventory", sa.JSON(), nullable=True),
        sa.Column("inventoried_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pp_migration")),
    )
    op.create_table(
        "pp_object",
        sa.Column("bucket", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("source_sha256", sa.String(length=64), nullable=False),
        sa.Column("recipe", sa.String(length=32), nullable=False),
        sa.Column("variant", sa.String(length=64), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("mime", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("quality", sa.Integer(), nullable=True),
        sa.Column("encodes", sa.Integer(), nullable=True),
        sa.Column("met_target", sa.Boolean(), nullable=True),
        sa.Column("checksum", sa.String(length=64), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("uploaded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verified_by", sa.String(length=16), nullable=True),
        sa.Column("marked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("bucket", "key", name=op.f("pk_pp_object")),
    )
    op.create_index(
        op.f("ix_pp_object_source_sha256_recipe"), "pp_object", ["source_sha256", "recipe"], unique=False
    )
    op.create_table(
        "pp_photo",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("reference_id", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=True),
        sa.Column("row_id", sa.String(length=64), nullable=True),
        sa.Column("row_key", sa.Text(), nullable=True),
        sa.Column("field", sa.String(length=128), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=True),
        sa.Column("entity_type", sa.String(length=128), nullable=True),
        sa.Column("entity_id", sa.Text(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("file_id", sa.String(length=64), nullable=True),
        sa.Column("root", sa.String(length=128), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("new_value", sa.Text(), nullable=True),
        sa.Column("recipe", sa.String(length=32), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=True),
        sa.Column("inode", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("format", sa.String(length=16), nullable=True),
        sa.Column("class", sa.String(length=32), nullable=False),
        sa.Column("class_detail", sa.Text(), nullable=True),
        sa.Column("batch", sa.String(length=32), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error_type", sa.String(length=64), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("scan", sa.String(length=32), nullable=False),
        sa.Column("validated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pp_photo")),
        sa.UniqueConstraint("reference_id", name=op.f("uq_pp_photo_reference_id")),
    )
    op.create_index(op.f("ix_pp_photo_batch_state"), "pp_photo", ["batch", "state"], unique=False)
    op.create_index(op.f("ix_pp_photo_file_id_scan"), "pp_photo", ["file_id", "scan"], unique=False)
    op.create_index(op.f("ix_pp_photo_row_id"), "pp_photo", ["row_id"], unique=False)
    op.create_index(op.f("ix_pp_photo_scan_class"), "pp_photo", ["scan", "class"], unique=False)
    op.create_index(op.f("ix_pp_photo_sha256"), "pp_photo", ["sha256"], unique=False)
    op.create_table(
        "pp_recipe",
        sa.Column("digest", sa.String(length=32), nullable=False),
        sa.Column("variants", sa.JSON(), nullable=False),
        sa.Column("formats", sa.JSON(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("first_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_pp_recipe")),
    )
    op.create_table(
        "pp_rewrite",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("batch", sa.String(length=32), nullable=False),
        sa.Column("photo_id", sa.BigInteger(), nullable=True),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("row_id", sa.String(length=64), nullable=False),
        sa.Column("row_key", sa.Text(), nullable=False),
        sa.Column("column", sa.String(length=128), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("before_type", sa.String(length=16), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("after_type", sa.String(length=16), nullable=True),
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rolled_back_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pp_rewrite")),
    )
    op.create_index(op.f("ix_pp_rewrite_batch_outcome"), "pp_rewrite", ["batch", "outcome"], unique=False)
    op.create_index(op.f("ix_pp_rewrite_photo_id"), "pp_rewrite", ["photo_id"], unique=False)
    op.create_index(op.f("ix_pp_rewrite_row_id"), "pp_rewrite", ["row_id"], unique=False)
    op.create_table(
        "pp_store",
        sa.Column("endpoint", sa.String(length=255), nullable=False),
        sa.Column("bucket", sa.String(length=255), nullable=False),
        sa.Column("rejects_wrong_checksum", sa.Boolean(), nullable=False),
        sa.Column("reports_checksum", sa.Boolean(), nullable=False),
        sa.Column("honours_if_none_match", sa.Boolean(), nullable=False),
        sa.Column("probed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "bucket", name=op.f("pk_pp_store")),
    )
    op.create_table(
        "pp_validation",
        sa.Column("photo_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.String(length=32), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("problems", sa.JSON(), nullable=False),
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("photo_id", name=op.f("pk_pp_validation")),
    )
    op.create_index(op.f("ix_pp_validation_batch"), "pp_validation", ["batch"], unique=False)


def downgrade() -> None:
    """Drop the tables, and with them the way back of every rewritten row."""
    op.drop_table("pp_store")
    op.drop_table("pp_validation")
    op.drop_table("pp_rewrite")
    op.drop_table("pp_recipe")
    op.drop_table("pp_object")
    op.drop_table("pp_migration")
    op.drop_table("pp_batch")
    op.drop_table("pp_photo")
    op.drop_table("pp_file")
