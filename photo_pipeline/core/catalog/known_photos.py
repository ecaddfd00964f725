"""The photos that earlier inventories found in the same rows, and how each goes on.

A photo continues by its reference, or by the value that its row was given since. What a reference is, and in
which class it falls, is `reconcile`; what the states mean, `core.migration`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import PhotoClass, PhotoState, photo_table

# States that an inventory may take back to pending when the photo is there (again).
_REOPENED = (PhotoState.FOUND, PhotoState.SUPERSEDED, PhotoState.CONFLICT, PhotoState.DELETED)
# States of photos whose new value a row may (still, or again) show.
_WAS_MIGRATED = (PhotoState.MIGRATED, PhotoState.ROLLED_BACK, PhotoState.SUPERSEDED)
# States in which a changed file has to be processed anew.
_BEFORE_REWRITE = (
    PhotoState.PENDING,
    PhotoState.PROCESSED,
    PhotoState.UPLOADED,
    PhotoState.STORED,
    PhotoState.QUARANTINED,
    PhotoState.ROLLED_BACK,
)


@dataclass(frozen=True)
class KnownPhotos:
    """The `pp_photo` rows that a chunk of references may continue."""

    by_reference: dict[str, Any]
    by_new_value: dict[tuple[str, str, str], Any]

    @classmethod
    def of(cls, connection: Connection, row_ids: Iterable[str]) -> Self:
        """Return the photos of those rows, and lock them."""
        query = sa.select(photo_table).where(photo_table.c.row_id.in_(set(row_ids))).with_for_update()
        found = connection.execute(query).all()
        migrated = [photo for photo in found if photo.new_value and photo.state in _WAS_MIGRATED]
        # The same value may have been written before; the photo that is migrated now comes last, and counts.
        migrated.sort(key=lambda photo: (photo.state == PhotoState.MIGRATED, photo.id))
        return cls(
            by_reference={photo.reference_id: photo for photo in found},
            by_new_value={(photo.row_id, photo.field, photo.new_value): photo for photo in migrated},
        )

    def continued_by(self, *, row_id: str, field: str, value: str, reference_id: str) -> Any | None:
        """Return the photo that a reference continues, or None if it is a new one."""
        return self.by_new_value.get((row_id, field, value)) or self.by_reference.get(reference_id)


def updated(photo: Any, row: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a known photo after this inventory."""
    shown = (row["value"], row["new_value"])
    ours = photo.state in (PhotoState.MIGRATED, PhotoState.SUPERSEDED)
    if ours and photo.new_value is not None and photo.new_value in shown:
        # Ours, also under an earlier CDN address: it keeps its file and local value, for the way back.
        kept = (
            "file_id",
            "root",
            "path",
            "value",
            "size",
            "mtime_ns",
            "inode",
            "sha256",
            "format",
            "variant",
        )
        row = row | {name: getattr(photo, name) for name in (*kept, "new_value", "reference_id")}
        row |= {"class": PhotoClass.ALREADY_MIGRATED, "class_detail": None, "state": PhotoState.MIGRATED}
    elif row["class"] is PhotoClass.MATCHED:
        row = row | _continued_state(photo, row)
    return row


def _continued_state(photo: Any, row: dict[str, Any]) -> dict[str, Any]:
    content = (photo.size, photo.mtime_ns, photo.inode)
    changed = content != (row["size"], row["mtime_ns"], row["inode"])
    if photo.state in _REOPENED or (changed and photo.state in _BEFORE_REWRITE):
        return {"state": PhotoState.PENDING}
    if photo.state == PhotoState.QUARANTINED and photo.batch is None:
        return {"state": PhotoState.PENDING}  # No batch can retry it, so each inventory does.
    if photo.state == PhotoState.MIGRATED:
        # The row says the local value again although we never rolled it back: the application did.
        return {"state": PhotoState.PENDING}
    return {"state": photo.state, "error_type": photo.error_type, "error_detail": photo.error_detail}
