"""The state tables, all named `pp_*`, kept in the application's own database.

There, so that a rewrite and its ledger row commit in one transaction. Structure only: queries live with
the code that asks them, and changes to the structure are Alembic migrations under `migrations/`.
"""

from photo_pipeline.core.catalog.tables.alerting import alert_delivery_table, alert_table, check_table
from photo_pipeline.core.catalog.tables.audit import audit_head_table, audit_table
from photo_pipeline.core.catalog.tables.base import UtcDateTime, metadata, utc_now
from photo_pipeline.core.catalog.tables.catalog import (
    batch_table,
    file_table,
    migration_table,
    pass_table,
    photo_table,
    picture_table,
)
from photo_pipeline.core.catalog.tables.cleanup import (
    ORPHAN_LEASE,
    deleted_object_table,
    deleted_row_table,
    deletion_table,
    lease_table,
    orphan_table,
    trash_table,
)
from photo_pipeline.core.catalog.tables.cost import (
    breaker_table,
    reconciliation_table,
    reservation_table,
    usage_table,
)
from photo_pipeline.core.catalog.tables.ledger import (
    backup_table,
    rewrite_photo_table,
    rewrite_table,
    validation_table,
)
from photo_pipeline.core.catalog.tables.states import (
    GONE,
    BatchState,
    Control,
    DeletionState,
    PhotoClass,
    PhotoState,
    RewriteOutcome,
    TrashState,
)
from photo_pipeline.core.catalog.tables.store import object_table, quality_table, recipe_table, store_table

# The application, and Dagster, may keep Alembic tables of their own in the same database.
VERSION_TABLE = "pp_alembic_version"

STATE_TABLES = frozenset(metadata.tables) | {VERSION_TABLE}
"""The names of all our tables. The application may have tables whose names begin with `pp_`, too."""

__all__ = [
    "GONE",
    "ORPHAN_LEASE",
    "STATE_TABLES",
    "VERSION_TABLE",
    "BatchState",
    "Control",
    "DeletionState",
    "PhotoClass",
    "PhotoState",
    "RewriteOutcome",
    "TrashState",
    "UtcDateTime",
    "alert_delivery_table",
    "alert_table",
    "audit_head_table",
    "audit_table",
    "backup_table",
    "batch_table",
    "breaker_table",
    "check_table",
    "deleted_object_table",
    "deleted_row_table",
    "deletion_table",
    "file_table",
    "lease_table",
    "metadata",
    "migration_table",
    "object_table",
    "orphan_table",
    "pass_table",
    "photo_table",
    "picture_table",
    "quality_table",
    "recipe_table",
    "reconciliation_table",
    "reservation_table",
    "rewrite_photo_table",
    "rewrite_table",
    "store_table",
    "trash_table",
    "usage_table",
    "utc_now",
    "validation_table",
]
