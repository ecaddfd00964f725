"""Finds the untouched bytes of a photo in the bucket, wherever they were stored.

`store.originals_prefix` may have changed since, or originals may be kept no more; what is stored stays where
it is.
"""

from collections.abc import Iterator

import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import object_table
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.migration.proof import is_proven_row
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.store import PhotoStore


def read_original(database: Database, naming: ObjectNaming, store: PhotoStore, photo: Photo) -> bytes | None:
    """Return the bytes of the photo's file, or None if the bucket has them under no key that we know.

    Args:
        database: Its `pp_object` knows what was proven under earlier prefixes.
        naming: Knows the present key, which is asked for first.
        store: The bucket.
        photo: Whose content is wanted; nothing but its SHA-256 passes.

    Raises:
        StoreError: the store cannot be asked.
    """
    for key in _keys(database, naming, store.bucket, photo):
        data = store.read(key, size=photo.size, sha256=photo.sha256)
        if data is not None and sha256_hex(data) == photo.sha256:
            return data
    return None


def _keys(database: Database, naming: ObjectNaming, bucket: str, photo: Photo) -> Iterator[str]:
    present = naming.original(photo)
    if present is not None:
        yield present.key
    columns = object_table.c
    query = sa.select(object_table).where(
        columns.bucket == bucket,
        columns.source_sha256 == photo.sha256,
        columns.recipe == "",
        columns.variant == "original",
    )
    with database.read() as connection:
        rows = connection.execute(query.order_by(columns.verified_at.desc())).all()
    for row in rows:
        if is_proven_row(row) and (present is None or row.key != present.key):
            yield row.key
