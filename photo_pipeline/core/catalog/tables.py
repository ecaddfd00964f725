"""The state tables, all named `pp_*`, kept in the application's own database.

There, so that a rewrite and its ledger row commit in one transaction. Structure only: queries live with
the code that asks them, and changes to the structure are Alembic migrations under `migrations/`.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator


class PhotoClass(StrEnum):
    """The one class in which the inventory puts each reference and each unreferenced file."""

    MATCHED = "matched"
    FILE_MISSING = "file_missing"
    FILE_UNREFERENCED = "file_unreferenced"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_LARGE = "too_large"
    EMPTY = "empty"
    UNREADABLE = "unreadable"
    OUTSIDE_ROOT = "outside_root"
    ALREADY_MIGRATED = "already_migrated"


class PhotoState(StrEnum):
    """How far a photo has come. Only matched photos leave `found`."""

    FOUND = "found"
    PENDING = "pending"
    PROCESSED = "processed"
    UPLOADED = "uploaded"
    MIGRATED = "migrated"
    STORED = "stored"  # proven in the store, and its mode writes no row
    ROLLED_BACK = "rolled_back"
    CONFLICT = "conflict"
    QUARANTINED = "quarantined"
    SUPERSEDED = "superseded"
    DELETED = "deleted"  # by `delete`, with what was its own in the store


GONE = (PhotoState.SUPERSEDED, PhotoState.DELETED)
"""States of photos that no row shows any more, and nothing has to be done for."""


class BatchState(StrEnum):
    """Where a batch stands."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"


class Control(StrEnum):
    """What a person wants of the migration; work under way heeds it within one photo."""

    RUNNING = "running"
    PAUSED = "paused"
    ABORTED = "aborted"


class TrashState(StrEnum):
    """Where a local file is that was cleaned up; those that end in -ing are under way, or were cut off."""

    MOVING = "moving"
    TRASHED = "trashed"
    RESTORING = "restoring"
    PURGING = "purging"
    RESTORED = "restored"
    PURGED = "purged"
    REFUSED = "refused"  # never in the trash, or put back at once


class DeletionState(StrEnum):
    """How far a deletion of photos has come, as a whole or for one of its parts."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    KEPT = "kept"  # left, with the reason
    LOST = "lost"  # deleted, although something began to name it meanwhile; with no version to bring back
    UNDONE = "undone"


class RewriteOutcome(StrEnum):
    """What became of one column of one row."""

    APPLIED = "applied"
    CONFLICT = "conflict"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_CONFLICT = "rollback_conflict"
    # A later batch has set the column again: this value comes back with that batch's rollback.
    ROLLBACK_DEFERRED = "rollback_deferred"


class UtcDateTime(TypeDecorator[datetime]):
    """A timezone-aware instant, read back as UTC on every database."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the instant in UTC for storing."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:
        """Return the stored instant as an aware UTC datetime (SQLite keeps no zone)."""
        if value is None:
            return None
        instant: datetime = value
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def utc_now() -> datetime:
    """Return the present instant, aware, in UTC."""
    return datetime.now(UTC)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite autoincrements only INTEGER primary keys.
_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Sha = sa.String(64)

file_table = sa.Table(
    "pp_file",
    metadata,
    # Digests, because paths may be longer than any database's index allows.
    sa.Column("file_id", _Sha, primary_key=True),  # of root and path
    sa.Column("lookup_id", _Sha, nullable=False, index=True),  # of root and the path's NFC form
    sa.Column("root", sa.String(128), nullable=False),
    sa.Column("path", sa.Text, nullable=False),  # relative to the root, as the disk spells it
    sa.Column("size", sa.BigInteger),
    sa.Column("mtime_ns", sa.BigInteger),
    sa.Column("inode", sa.BigInteger),
    sa.Column("format", sa.String(16)),  # by content; null until a row refers to the file
    sa.Column("unsupported", sa.String(128)),  # what the content is, when it is no supported format
    sa.Column("problem", sa.String(32)),  # a PhotoClass seen by the scan, or null
    sa.Column("detail", sa.Text),
    sa.Column("sha256", _Sha),
    sa.Column("scan", sa.String(32), nullable=False, index=True),
)

photo_table = sa.Table(
    "pp_photo",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("reference_id", _Sha, nullable=False, unique=True),  # digest of source, key, field and value
    sa.Column("source", sa.String(128)),  # null for an unreferenced file
    sa.Column("row_id", _Sha),  # digest of source and row_key
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
    sa.Column("file_id", _Sha),
    sa.Column("root", sa.String(128)),
    sa.Column("path", sa.Text),
    sa.Column("value", sa.Text),  # the column's value while it is local
    sa.Column("new_value", sa.Text),  # the column's value while it is migrated
    sa.Column("recipe", sa.String(32)),  # the recipe that new_value was made under
    sa.Column("size", sa.BigInteger),
    sa.Column("mtime_ns", sa.BigInteger),
    sa.Column("inode", sa.BigInteger),
    sa.Column("sha256", _Sha),
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
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
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
    sa.Column("sha256", _Sha, primary_key=True),  # of the source's content
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

object_table = sa.Table(
    "pp_object",
    metadata,
    sa.Column("bucket", sa.String(255), primary_key=True),
    sa.Column("key", sa.String(512), primary_key=True),
    sa.Column("source_sha256", _Sha, nullable=False),
    sa.Column("recipe", sa.String(32), nullable=False),  # empty for an original
    sa.Column("variant", sa.String(64), nullable=False),  # "original" for an original
    sa.Column("format", sa.String(16), nullable=False),
    sa.Column("mime", sa.String(64), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    sa.Column("quality", sa.Integer),
    sa.Column("encodes", sa.Integer),
    sa.Column("met_target", sa.Boolean),
    sa.Column("checksum", _Sha, nullable=False),  # SHA-256 of the object's bytes, hex
    sa.Column("made_at", UtcDateTime, nullable=False),
    sa.Column("uploaded_at", UtcDateTime),
    sa.Column("verified_at", UtcDateTime),
    sa.Column("verified_by", sa.String(16)),  # checksum | etag | read_back
    sa.Column("marked_at", UtcDateTime),
    sa.Column("deleted_at", UtcDateTime),
    sa.Column("etag", sa.String(255)),  # what the store called these bytes when they were last proven
    sa.Index(None, "source_sha256", "recipe"),
    # What is stored is summed up from this index alone: for the limits, the metrics and the dashboard.
    sa.Index(
        None,
        "format",
        "bytes",
        sqlite_where=sa.text("uploaded_at IS NOT NULL AND deleted_at IS NULL"),
        postgresql_where=sa.text("uploaded_at IS NOT NULL AND deleted_at IS NULL"),
    ),
)

quality_table = sa.Table(
    "pp_quality",
    metadata,
    sa.Column("bucket", sa.String(255), primary_key=True),
    sa.Column("key", sa.String(512), primary_key=True),  # of pp_object
    sa.Column("batch", sa.String(32), nullable=False),  # the batch whose sample it was in
    sa.Column("score", sa.Double),  # the metric's points; null where it could not be measured
    sa.Column("reason", sa.Text),  # why it could not be measured
    sa.Column("metric", sa.String(64), nullable=False),  # name and version
    sa.Column("measured_at", UtcDateTime, nullable=False),
)

recipe_table = sa.Table(
    "pp_recipe",
    metadata,
    sa.Column("digest", sa.String(32), primary_key=True),
    sa.Column("variants", sa.JSON, nullable=False),  # the names that rows migrated under it may show
    sa.Column("formats", sa.JSON, nullable=False),
    sa.Column("definition", sa.JSON, nullable=False),  # the preset, for people
    sa.Column("first_used_at", UtcDateTime, nullable=False),
)

rewrite_table = sa.Table(
    "pp_rewrite",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("batch", sa.String(32), nullable=False),
    # Null for write-back and touched columns; the first, where the cell names several (pp_rewrite_photo).
    sa.Column("photo_id", sa.BigInteger),
    sa.Column("source", sa.String(128), nullable=False),
    sa.Column("row_id", _Sha, nullable=False, index=True),  # digest of source and row_key
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
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("run", sa.String(64), nullable=False),
    sa.Column("batch", sa.String(32)),  # null for a backup of all rows of the source
    sa.Column("source", sa.String(128), nullable=False),
    sa.Column("table", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),  # relative to state.backup_dir
    sa.Column("sha256", _Sha, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bucket", sa.String(255)),  # null until it is in the store as well
    sa.Column("key", sa.String(512)),
    sa.Column("made_at", UtcDateTime, nullable=False),
    sa.Column("verified_at", UtcDateTime),  # the file was read back and has every row
    sa.Index(None, "batch", "source"),
)

# Written and read by core.audit only.
audit_table = sa.Table(
    "pp_audit",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),  # 1, 2, 3, ... without a gap
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("run", sa.String(64), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("batch", sa.String(32)),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),  # canonical JSON
    sa.Column("previous_hash", _Sha, nullable=False),
    sa.Column("hash", _Sha, nullable=False),
)

# One row: the last entry. Writers queue for it, and without it a cut-off end of the log would not show.
audit_head_table = sa.Table(
    "pp_audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("hash", _Sha, nullable=False),
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

store_table = sa.Table(
    "pp_store",
    metadata,
    sa.Column("endpoint", sa.String(255), primary_key=True),
    sa.Column("bucket", sa.String(255), primary_key=True),
    sa.Column("rejects_wrong_checksum", sa.Boolean, nullable=False),
    sa.Column("reports_checksum", sa.Boolean, nullable=False),
    sa.Column("honours_if_none_match", sa.Boolean, nullable=False),
    sa.Column("reports_md5", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("honours_if_match", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("probed_at", UtcDateTime, nullable=False),
)

# What the clean-up of the bucket has marked or deleted; also objects that pp_object does not know.
orphan_table = sa.Table(
    "pp_orphan",
    metadata,
    sa.Column("id", _Sha, primary_key=True),  # digest of bucket and key, which may be 1,024 bytes long
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
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("file_id", _Sha, nullable=False, index=True),
    sa.Column("root", sa.String(128), nullable=False),
    sa.Column("path", sa.Text, nullable=False),  # where it was
    sa.Column("name", sa.String(64), nullable=False),  # in the root's trash folder
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sa.Column("sha256", _Sha, nullable=False),
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
    sa.Column("row_id", _Sha, primary_key=True),
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
    sa.Column("checksum", _Sha, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("source_sha256", _Sha, nullable=False),
    sa.Column("version_id", sa.String(1024)),  # of what was deleted; null where the bucket keeps no versions
    sa.Column("marker_id", sa.String(1024)),  # of the delete marker
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("at", UtcDateTime),
)

# Written by core.cost only. Requests and bytes by the UTC month that they are billed in.
usage_table = sa.Table(
    "pp_usage",
    metadata,
    sa.Column("month", sa.String(7), primary_key=True),
    sa.Column("unit", sa.String(32), primary_key=True),  # a core.cost.units.Unit
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

reservation_table = sa.Table(
    "pp_reservation",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("unit", sa.String(32), primary_key=True),
    sa.Column("amount", sa.BigInteger, nullable=False),  # what is left of it
    sa.Column("owner", sa.String(255), nullable=False),  # the batch
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
)

# Written by core.alerts only: what the looks found that take too long for each minute.
check_table = sa.Table(
    "pp_check",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("checked_at", UtcDateTime, nullable=False),
    sa.Column("findings", sa.BigInteger, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),  # the first of them, for people
    sa.Column("error", sa.Text),  # why the last look could not be made; what was found before stays
)

# One row, which every reservation locks: that is what makes them take turns.
breaker_table = sa.Table(
    "pp_breaker",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),  # closed | open | half-open
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("successes", sa.Integer, nullable=False),
    sa.Column("opened_at", UtcDateTime),
    sa.Column("opened_for", sa.String(64)),  # digest of the month and the limits then
    sa.Column("reason", sa.Text),
    sa.Column("override_until", UtcDateTime),
    sa.Column("override_reason", sa.Text),
    sa.Column("override_by", sa.String(255)),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column(
        "ledger_id", sa.String(32)
    ),  # stands for the ledger of this database; null until it is asked for
)

# What AWS counted beside our own ledger, as of the last look. Changes nothing of the ledger.
reconciliation_table = sa.Table(
    "pp_reconciliation",
    metadata,
    sa.Column("measure", sa.String(32), primary_key=True),  # a core.cost.reconciliation.Measure
    sa.Column("since", UtcDateTime),  # what is counted began then; null for what is stored at a moment
    sa.Column("until", UtcDateTime, nullable=False),  # AWS's number is as of then
    sa.Column("ours", sa.BigInteger, nullable=False),
    sa.Column("theirs", sa.BigInteger),  # null: AWS has no number
    sa.Column("reason", sa.Text, nullable=False),  # why they differ, or why there is none
    sa.Column("checked_at", UtcDateTime, nullable=False),
)

# One row per alert: something that is wrong (a condition), or that went wrong (an event).
alert_table = sa.Table(
    "pp_alert",
    metadata,
    sa.Column("kind", sa.String(32), primary_key=True),  # a core.alerts.alert.AlertKind
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("title", sa.String(255), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("level", sa.BigInteger, nullable=False),  # a higher one is told at once
    sa.Column("times", sa.BigInteger, nullable=False),  # how often it was raised
    sa.Column("first_seen_at", UtcDateTime, nullable=False),
    sa.Column("last_seen_at", UtcDateTime, nullable=False),
    sa.Column("resolved_at", UtcDateTime, index=True),  # null while it is open
    sa.Column("last_sent_at", UtcDateTime),  # over any channel
)

# What each channel has been told of an alert, and why it could not be.
alert_delivery_table = sa.Table(
    "pp_alert_delivery",
    metadata,
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("channel", sa.String(32), primary_key=True),
    sa.Column("told", sa.String(16)),  # open | resolved; null: nothing yet
    sa.Column("level", sa.BigInteger, nullable=False),  # the alert's when it was told
    sa.Column("times", sa.BigInteger, nullable=False),
    sa.Column("sent_at", UtcDateTime),
    sa.Column("failures", sa.Integer, nullable=False),  # in a row
    sa.Column("error", sa.Text),
    sa.Column("failed_at", UtcDateTime),
    sa.Column("claimed_until", UtcDateTime),  # somebody is sending it
)
