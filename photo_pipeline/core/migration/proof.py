"""When an object counts as proven in the store, and when all that a photo needs is.

An object counts once the store reports the right SHA-256 for its key, or, on servers that keep no checksums,
once its bytes were read back and hashed. Asks and reads only: uploading and recording is `upload`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import DeletionState, deleted_object_table
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.migration.photos import ObjectNaming, Photo, object_rows, row_primaries
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.probe import StoreProbe
from photo_pipeline.core.storage.store import PhotoStore

# An answer may be damaged on its way; other bytes are believed in only when it says so this often.
_ASKED = 3
_KEYS_PER_QUERY = 500


def is_proven(
    store: PhotoStore,
    probe: StoreProbe,
    key: str,
    checksum: str,
    *,
    size: int,
    count: Callable[[str], None] | None = None,
) -> bool:
    """Return whether the store holds exactly the bytes with that SHA-256 (hex) under the key.

    `size` (bytes) sets the time limit where the object has to be read back.

    Raises:
        StoreError: the store cannot be asked.
    """
    for _ in range(_ASKED):
        found = _found_checksum(store, probe, key, checksum, size=size, count=count or _uncounted)
        if found in (checksum, None):
            break
    return found == checksum


def _found_checksum(
    store: PhotoStore,
    probe: StoreProbe,
    key: str,
    expected: str,
    *,
    size: int,
    count: Callable[[str], None],
) -> str | None:
    """Return the SHA-256 (hex) of what is under the key, or None if nothing is."""
    if probe.verification == "checksum":
        count("HEAD")
        stored = store.head(key)
        if stored is None or stored.sha256 is not None:
            return stored.sha256 if stored else None
    count("GET")
    data = store.read(key, size=size, sha256=expected)
    return None if data is None else sha256_hex(data)


def _uncounted(_kind: str) -> None: ...


def is_proven_row(row: Any | None) -> bool:
    """Return whether a `pp_object` row says that its object is proven in the store and still there."""
    return row is not None and row.verified_at is not None and row.deleted_at is None


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
        rows = object_rows(connection, config.store.bucket, keys)
    proven = {key for key, row in rows.items() if is_proven_row(row)}
    return [p for p in photos if p.id in needed and all(each.key in proven for each in needed[p.id])]
