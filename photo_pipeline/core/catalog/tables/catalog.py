"""What the inventory knows: files, photos, batches, and how far the migration is."""

import sqlalchemy as sa

from photo_pipeline.core.catalog.tables.base import ID, SHA, UtcDateTime, metadata
from photo_pipeline.core.catalog.tables.states import Control

file_table = sa.Table(
    "pp_file",
    metadata,
    # Digests, because paths may be longer than any database's index allows.
    sa.Column("file_id", SHA, primary_key=True),  # of root and path
    sa.Column("lookup_id", SHA, nullable=False, index=True),  # of root and the path's NFC form
    sa.Column("root", sa.String(128), nullable=False),
    sa.Column("path", sa.Text, nullable=False),  # relative to the root, as the disk spells it
    sa.Column("size", sa.BigInteger),
    sa.Column("mtime_ns", sa.BigInteger),
    sa.Column("inode", sa.BigInteger),
    sa.Column("format", sa.String(16)),  # by content; null until a row refers to the file
    sa.Column("unsupported", sa.String(128)),  # what the content is, when it is no supported format
    sa.Column("problem", sa.String(32)),  # a PhotoClass seen by the scan, or null
    sa.Column("detail", sa.Text),
    sa.Column("sha256", SHA),
    sa.Column("scan", sa.String(32), nullable=False, index=True),
)

photo_table = sa.Table(
    "pp_photo",
    metadata,
    sa.Column("id", ID, primary_key=True, autoincrement=True),
    sa.Column("reference_id", SHA, nullable=False, unique=True),  # digest of source, key, field and value
    sa.Column("source", sa.String(128)),  # null for an unreferenced file
    sa.Column("row_id", SHA),  # digest of source and row_key
    sa.Column("row_key", sa.Text),  # JSON array of the key columns' raw values
    sa.Column("field", sa.String(128)),  # the field's name; its column unless the mapping gives one
    sa.Column("column", sa.String(128)),  # of the application's table; null for a computed field
    sa.Column("locator", sa.Text),  # which occurrence in the cell's text; null: the whole value
    sa.Column("variant", sa.String(64)),  # what this reference asks for; null: what its field does
    sa.Column("role", sa.String(16)),
    sa.Column("entity_type", sa.String(128)),
    sa.Column("entity_id", sa.Text),
    sa.Column("position", sa.BigInteger),
    sa.Column("focal_x", sa.Double),  # what crops keep in the middle, 0-1; null to look for the subject
    sa.Column("focal_y", sa.Double),
    sa.Column("file_id", SHA),
    sa.Column("root", sa.String(128)),
    sa.Column("path", sa.Text),
    sa.Column("value", sa.Text),  # the column's value while it is local
    sa.Column("new_value", sa.Text),  # the column's value while it is migrated
    sa.Column("recipe", sa.String(32)),  # the recipe that new_value was made under
    sa.Column("size", sa.BigInteger),
    sa.Column("mtime_ns", sa.BigInteger),
    sa.Column("inode", sa.BigInteger),
    sa.Column("sha256", SHA),
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    sa.Column("format", sa.String(16)),
    sa.Column("class", sa.String(32), nullable=False),
    sa.Column("class_detail", sa.Text),
    sa.Column("batch", sa.String(32)),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("error_type", sa.String(64)),
    sa.Column("error_detail", sa.Text),
    sa.Column("scan", sa.String(32), nullable=False),  # the last inventory that saw it
    sa.Column("validated_at", UtcDateTime),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    # Not the state as well: then PostgreSQL would write all six indexes again for each photo that moves on.
    sa.Index(None, "batch"),
    sa.Index(None, "row_id"),
    # Both columns: else SQLite prefers the index on scan, and looks at all photos for each file.
    sa.Index(None, "file_id", "scan"),
    sa.Index(None, "sha256"),
    sa.Index(None, "scan", "class"),
)

batch_table = sa.Table(
    "pp_batch",
    metadata,
    sa.Column("key", sa.String(32), primary_key=True),  # also the Dagster partition key
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("photos", sa.Integer, nullable=False),
    sa.Column("lease_owner", sa.String(255)),
    sa.Column("lease_token", sa.BigInteger, nullable=False),
    sa.Column("lease_expires_at", UtcDateTime),
    sa.Column("checkpoint", sa.JSON),
    sa.Column("error", sa.Text),
    sa.Column("error_class", sa.String(16)),  # a core.errors.ErrorClass; null while nothing has failed
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # since it last got through
    sa.Column("failed_at", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

migration_table = sa.Table(
    "pp_migration",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("current_scan", sa.String(32)),  # the inventory that may write; a newer one replaces it
    sa.Column("last_scan", sa.String(32)),
    sa.Column("inventory", sa.JSON),  # the last inventory's totals
    sa.Column("inventoried_at", UtcDateTime),
    sa.Column("control", sa.String(16), nullable=False, server_default=Control.RUNNING),
    sa.Column("control_reason", sa.Text),
    sa.Column("control_by", sa.String(255)),
    sa.Column("control_at", UtcDateTime),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

# One row per pass of inventory and migration; a pass that finds nothing is the proof that nothing is left.
pass_table = sa.Table(
    "pp_pass",
    metadata,
    sa.Column("id", ID, primary_key=True, autoincrement=True),
    sa.Column("run", sa.String(64), nullable=False),  # the same for the passes of one loop
    sa.Column("scan", sa.String(32), nullable=False),  # its inventory
    sa.Column("started_at", UtcDateTime, nullable=False),  # what was there then is covered
    sa.Column("finished_at", UtcDateTime),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("references", sa.BigInteger, nullable=False),
    sa.Column("new", sa.BigInteger, nullable=False),
    sa.Column("changed", sa.BigInteger, nullable=False),
    sa.Column("gone", sa.BigInteger, nullable=False),
    sa.Column("open", sa.BigInteger, nullable=False),  # photos that could still be migrated
    sa.Column("still", sa.Boolean, nullable=False),  # nothing new, changed, gone or open
)

picture_table = sa.Table(
    "pp_picture",
    metadata,
    sa.Column("sha256", SHA, primary_key=True),  # of the source's content
    sa.Column("thumbhash", sa.String(64), nullable=False),  # base64
    sa.Column("placeholder", sa.Text, nullable=False),  # a data: URI
    sa.Column("dominant_colour", sa.String(7), nullable=False),  # #rrggbb
    sa.Column("perceptual_hash", sa.String(16), nullable=False),
    sa.Column("camera", sa.String(255)),
    sa.Column("taken_at", sa.String(32)),  # ISO 8601, local time as cameras have it
    sa.Column("latitude", sa.Double),  # only where `images.<preset>.gps` opts in
    sa.Column("longitude", sa.Double),
    sa.Column("seconds", sa.Double),  # wall time of making its variants, the last time that it was done
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Index(None, "perceptual_hash"),
)
