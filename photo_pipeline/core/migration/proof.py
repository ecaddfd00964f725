"""When all that a photo needs counts as proven in the store, by the state tables.

How one object is proven is `core.storage.proof`; what is uploaded, and when it is marked here, is `upload`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import (
    DeletionState,
    deleted_object_table,
    object_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.migration.naming import ObjectNaming, WantedObject
from photo_pipeline.core.migration.photos import Photo, object_rows, row_primaries

_KEYS_PER_QUERY = 500


def is_proven_row(row: Any | None) -> bool:
    """Return whether a `pp_object` row says that its object is proven in the store and still there."""
    return row is not None and row.verified_at is not None and row.deleted_at is None


def is_proven_object(wanted: WantedObject, row: Any | None) -> bool:
    """Return whether the `pp_object` row with its key says that just this object is proven and still there.

    A key of ours tells the content; one of the application's (`key_template`) may have held another file.
    """
    return is_proven_row(row) and is_of_content(wanted, row)


def is_of_content(wanted: WantedObject, row: Any) -> bool:
    """Return whether a `pp_object` row with its key is about the bytes that are wanted under it."""
    return wanted.tells_content or row.checksum == wanted.source_sha256


def mark_proven(connection: Connection, bucket: str, proven: Mapping[str, str], how: str) -> None:
    """Record that the objects with those keys are in the store and proven.

    A key without a `pp_object` row, or whose row is about other bytes by now, is left out.

    Args:
        connection: In a write transaction.
        bucket: Their bucket.
        proven: The SHA-256 of what was proven, hex, by key. One statement for many: one for each takes twice
            as long.
        how: What `core.storage.proof.proven_by` says.
    """
    now, columns = utc_now(), object_table.c
    state = {
        "uploaded_at": now,
        "verified_at": now,
        "verified_by": how,
        "deleted_at": None,
        "marked_at": None,
    }
    pairs = list(proven.items())
    for start in range(0, len(pairs), _KEYS_PER_QUERY):
        chunk = pairs[start : start + _KEYS_PER_QUERY]
        of_these = sa.and_(columns.bucket == bucket, sa.tuple_(columns.key, columns.checksum).in_(chunk))
        connection.execute(sa.update(object_table).where(of_these).values(state))


def refuse_while_deleted(connection: Connection, rows: Iterable[Any]) -> None:
    """Check that `delete` is deleting none of these objects (`pp_object` rows): they must not be adopted.

    Raises:
        GuardRefusedError: one is, or its deletion was interrupted.
    """
    gone = [row for row in rows if row.deleted_at is not None]
    columns = deleted_object_table.c
    for start in range(0, len(gone), _KEYS_PER_QUERY):
        chunk = gone[start : start + _KEYS_PER_QUERY]
        query = sa.select(columns.bucket, columns.key).where(
            columns.bucket == chunk[0].bucket,
            columns.key.in_([row.key for row in chunk]),
            columns.state == DeletionState.PENDING,
        )
        for row in connection.execute(query.limit(1)):
            raise GuardRefusedError(
                f"s3://{row.bucket}/{row.key}",
                cause="a deletion of it is under way, or was interrupted",
                fix="let it finish (`photo-pipeline delete` lists it), then run again",
            )


def ready_photos(database: Database, config: PipelineConfig, photos: Sequence[Photo]) -> list[Photo]:
    """Return the photos each of whose needed objects is proven in the store (DESIGN rule 1)."""
    naming = ObjectNaming(config, database)
    leading = row_primaries(database, config, [photo for photo in photos if photo.is_copy])
    needed = {
        photo.id: naming.needed(photo, leading.get(photo.row_id))
        for photo in photos
        if not photo.is_copy or photo.row_id in leading
    }
    with database.read() as connection:
        keys = [each.key for objects in needed.values() for each in objects]
        rows = object_rows(
            connection, config.store.bucket, keys, columns=("checksum", "verified_at", "deleted_at")
        )
    return [
        photo
        for photo in photos
        if photo.id in needed and all(is_proven_object(each, rows.get(each.key)) for each in needed[photo.id])
    ]
