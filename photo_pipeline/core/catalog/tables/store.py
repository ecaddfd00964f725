"""What is in the store, and how it was made."""

import sqlalchemy as sa

from photo_pipeline.core.catalog.tables.base import SHA, UtcDateTime, metadata

object_table = sa.Table(
    "pp_object",
    metadata,
    sa.Column("bucket", sa.String(255), primary_key=True),
    sa.Column("key", sa.String(512), primary_key=True),
    sa.Column("source_sha256", SHA, nullable=False),
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
    sa.Column("checksum", SHA, nullable=False),  # SHA-256 of the object's bytes, hex
    sa.Column("md5", sa.String(32)),  # of the same bytes, hex, where they were at hand: many servers' ETag
    sa.Column("made_at", UtcDateTime, nullable=False),
    sa.Column("uploaded_at", UtcDateTime),
    sa.Column("verified_at", UtcDateTime),
    sa.Column("verified_by", sa.String(16)),  # checksum | etag | read_back
    sa.Column("marked_at", UtcDateTime),
    sa.Column("deleted_at", UtcDateTime),
    sa.Column("etag", sa.String(255)),  # what the store called these bytes when they were last proven
    sa.Index(None, "source_sha256", "recipe"),
    # What is stored is summed up from this index alone: for the limits, the metrics and the dashboard. On
    # PostgreSQL the migration makes it partial too; to say so here would load that dialect for every command.
    sa.Index(None, "format", "bytes", sqlite_where=sa.text("uploaded_at IS NOT NULL AND deleted_at IS NULL")),
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
