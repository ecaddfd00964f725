"""What the tables say of objects that are being deleted, were deleted, or came back."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import object_table, orphan_table
from photo_pipeline.core.cleanup.orphans_marks import OrphanState, orphan_id
from photo_pipeline.core.storage.objects import Deleted, StoredObject


def as_marked(row: Any) -> StoredObject:
    """Return the object that a row of `pp_orphan` means, as a condition for its delete."""
    return StoredObject(
        key=row.key,
        size=row.bytes,
        sha256=None,
        content_type=None,
        cache_control=None,
        metadata={},
        etag=row.etag,
        version_id=row.version_id,
        last_modified=row.stored_at,
    )


def as_deleted(row: Any) -> Deleted:
    """Return what is needed to undo the delete that the row tells of."""
    return Deleted(row.key, "deleted", row.version_id, row.marker_id)


def claim(connection: Connection, bucket: str, keys: Sequence[str], *, run: str) -> None:
    """Write down, before the first request, that these objects may be gone from now on.

    Their proofs are forgotten: whoever needs such an object has to bring it again.
    """
    _set_state(connection, bucket, keys, state=OrphanState.DELETING, run=run)
    _of_objects(connection, bucket, keys, verified_at=None, uploaded_at=None)


def note_deleted(connection: Connection, bucket: str, deleted: Deleted, *, at: datetime, run: str) -> None:
    """Write down that the object is gone, and how it can be brought back."""
    values = {"deleted_at": at, "marker_id": deleted.marker_id, "run": run}
    if deleted.version_id is not None:
        values["version_id"] = deleted.version_id
    _set_state(connection, bucket, [deleted.key], state=OrphanState.DELETED, **values)
    # No mark is left: with one, `deleted_at` would mean a deletion that is still under way.
    gone = {"deleted_at": at, "marked_at": None, "verified_at": None, "uploaded_at": None}
    _of_objects(connection, bucket, [deleted.key], **gone)


def note_kept(connection: Connection, bucket: str, key: str, *, proof: Mapping[str, Any] | None) -> None:
    """Forget the mark of an object that was not deleted after all; `proof` if it was proven again."""
    connection.execute(sa.delete(orphan_table).where(orphan_table.c.id == orphan_id(bucket, key)))
    _of_objects(connection, bucket, [key], marked_at=None, deleted_at=None, **(proof or {}))


def note_restored(
    connection: Connection,
    bucket: str,
    key: str,
    *,
    at: datetime,
    proof: Mapping[str, Any] | None,
    run: str,
) -> None:
    """Write down that the object is back; `proof` if it was proven to be the one that the catalog knows."""
    _set_state(connection, bucket, [key], state=OrphanState.RESTORED, restored_at=at, marker_id=None, run=run)
    _of_objects(connection, bucket, [key], marked_at=None, deleted_at=None, **(proof or {}))


def _set_state(connection: Connection, bucket: str, keys: Sequence[str], **values: Any) -> None:
    ids = [orphan_id(bucket, key) for key in keys]
    connection.execute(sa.update(orphan_table).where(orphan_table.c.id.in_(ids)).values(**values))


def _of_objects(connection: Connection, bucket: str, keys: Sequence[str], **values: Any) -> None:
    columns = object_table.c
    connection.execute(
        sa.update(object_table).where(columns.bucket == bucket, columns.key.in_(keys)).values(**values)
    )
