"""What is taken away: orphans of the bucket, local files, deleted photos."""

import sqlalchemy as sa

from photo_pipeline.core.catalog.tables.base import ID, SHA, UtcDateTime, metadata

# What the clean-up of the bucket has marked or deleted; also objects that pp_object does not know.
orphan_table = sa.Table(
    "pp_orphan",
    metadata,
    sa.Column("id", SHA, primary_key=True),  # digest of bucket and key, which may be 1,024 bytes long
    sa.Column("bucket", sa.String(255), nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("reason", sa.String(16), nullable=False),  # unknown | unreferenced | foreign
    sa.Column("state", sa.String(16), nullable=False),  # marked | deleting | deleted | restored
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("etag", sa.String(255), nullable=False),
    sa.Column("version_id", sa.String(1024)),  # null in a bucket without versions
    sa.Column("stored_at", UtcDateTime, nullable=False),  # when the store received it
    sa.Column("marked_at", UtcDateTime, nullable=False),  # by the store's clock
    sa.Column("deleted_at", UtcDateTime),
    sa.Column("marker_id", sa.String(1024)),  # the delete marker that an undo removes
    sa.Column("restored_at", UtcDateTime),
    sa.Column("run", sa.String(64), nullable=False),  # the last one that changed this row
    sa.Index(None, "state"),
)

# One row per kind of work that must be alone in the bucket; batches are not begun meanwhile.
lease_table = sa.Table(
    "pp_lease",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(255)),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("expires_at", UtcDateTime),
)

ORPHAN_LEASE = "orphan_cleanup"
"""The row of `pp_lease` that the clean-up of the bucket holds."""

# Local files that were cleaned up. Says of each where it is, and what is known of its content.
trash_table = sa.Table(
    "pp_trash",
    metadata,
    sa.Column("id", ID, primary_key=True, autoincrement=True),
    sa.Column("file_id", SHA, nullable=False, index=True),
    sa.Column("root", sa.String(128), nullable=False),
    sa.Column("path", sa.Text, nullable=False),  # where it was
    sa.Column("name", sa.String(64), nullable=False),  # in the root's trash folder
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sa.Column("sha256", SHA, nullable=False),
    sa.Column("original_key", sa.String(512)),  # in the bucket; null for a file that nobody referred to
    sa.Column("batches", sa.JSON, nullable=False),  # keys of the batches whose photos show it
    sa.Column("photos", sa.JSON, nullable=False),  # ids
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text),
    sa.Column("run", sa.String(64), nullable=False),
    sa.Column("trashed_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
)

# One row per confirmed deletion of photos: what was confirmed, word for word.
deletion_table = sa.Table(
    "pp_deletion",
    metadata,
    sa.Column("token", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("run", sa.String(64), nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
)

deleted_row_table = sa.Table(
    "pp_deleted_row",
    metadata,
    sa.Column("token", sa.String(64), primary_key=True),
    sa.Column("row_id", SHA, primary_key=True),
    sa.Column("source", sa.String(128), nullable=False),
    sa.Column("row_key", sa.Text, nullable=False),
    sa.Column("act", sa.String(16), nullable=False),  # set_null | delete_row | leave
    sa.Column("before", sa.JSON, nullable=False),  # column: [value, storage class], as the ledger has them
    sa.Column("photos", sa.JSON, nullable=False),  # id: state before
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("at", UtcDateTime),
)

deleted_object_table = sa.Table(
    "pp_deleted_object",
    metadata,
    sa.Column("token", sa.String(64), primary_key=True),
    sa.Column("bucket", sa.String(255), primary_key=True),
    sa.Column("key", sa.String(512), primary_key=True),
    sa.Column("checksum", SHA, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("source_sha256", SHA, nullable=False),
    sa.Column("version_id", sa.String(1024)),  # of what was deleted; null where the bucket keeps no versions
    sa.Column("marker_id", sa.String(1024)),  # of the delete marker
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("at", UtcDateTime),
)
