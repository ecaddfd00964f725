"""What became of the application's rows: the ledger, backups, validations."""

import sqlalchemy as sa

from photo_pipeline.core.catalog.tables.base import ID, SHA, UtcDateTime, metadata

rewrite_table = sa.Table(
    "pp_rewrite",
    metadata,
    sa.Column("id", ID, primary_key=True, autoincrement=True),
    sa.Column("batch", sa.String(32), nullable=False),
    # Null for write-back and touched columns; the first, where the cell names several (pp_rewrite_photo).
    sa.Column("photo_id", sa.BigInteger),
    sa.Column("source", sa.String(128), nullable=False),
    sa.Column("row_id", SHA, nullable=False, index=True),  # digest of source and row_key
    sa.Column("row_key", sa.Text, nullable=False),
    sa.Column("column", sa.String(128), nullable=False),
    sa.Column("before", sa.Text),
    sa.Column("before_type", sa.String(16)),  # null | text | integer | real | blob (see catalog.raw)
    sa.Column("after", sa.Text),
    sa.Column("after_type", sa.String(16)),
    sa.Column("run", sa.String(64), nullable=False),
    sa.Column("outcome", sa.String(32), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("applied_at", UtcDateTime),
    sa.Column("rolled_back_at", UtcDateTime),
    sa.Index(None, "batch", "outcome"),
)

# The photos of a cell that names several; the one photo of any other is in `pp_rewrite.photo_id`.
rewrite_photo_table = sa.Table(
    "pp_rewrite_photo",
    metadata,
    sa.Column("rewrite_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("photo_id", sa.BigInteger, primary_key=True, autoincrement=False),
)

# Parquet files of rows as they were before their rewrite; they can be restored from without this table.
backup_table = sa.Table(
    "pp_backup",
    metadata,
    sa.Column("id", ID, primary_key=True, autoincrement=True),
    sa.Column("run", sa.String(64), nullable=False),
    sa.Column("batch", sa.String(32)),  # null for a backup of all rows of the source
    sa.Column("source", sa.String(128), nullable=False),
    sa.Column("table", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),  # relative to state.backup_dir
    sa.Column("sha256", SHA, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bucket", sa.String(255)),  # null until it is in the store as well
    sa.Column("key", sa.String(512)),
    sa.Column("made_at", UtcDateTime, nullable=False),
    sa.Column("verified_at", UtcDateTime),  # the file was read back and has every row
    sa.Index(None, "batch", "source"),
)

validation_table = sa.Table(
    "pp_validation",
    metadata,
    sa.Column("photo_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("batch", sa.String(32), nullable=False),
    sa.Column("ok", sa.Boolean, nullable=False),
    sa.Column("problems", sa.JSON, nullable=False),  # a list of sentences
    sa.Column("run", sa.String(64), nullable=False),
    sa.Column("checked_at", UtcDateTime, nullable=False),
    sa.Index(None, "batch"),
)
