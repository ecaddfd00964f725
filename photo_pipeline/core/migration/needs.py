"""What an upload of a batch has to see to: the photos, the objects that they need, what is known of these."""

from dataclasses import dataclass
from typing import Any

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import PhotoState
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.naming import ObjectNaming, WantedObject
from photo_pipeline.core.migration.photos import Photo, batch_photos, object_rows
from photo_pipeline.core.migration.process import is_at_hand
from photo_pipeline.core.migration.proof import refuse_while_deleted

TO_UPLOAD = (PhotoState.PROCESSED, PhotoState.UPLOADED)
"""States of photos that are to be uploaded, or were and are not rewritten yet."""

# What is asked of `pp_object`; each column more takes 2 us an object.
_ABOUT_OBJECTS = (
    *("bucket", "bytes", "checksum", "md5", "mime", "width", "height", "quality"),
    *("verified_at", "deleted_at"),
)


@dataclass(frozen=True)
class Needs:
    """The photos, the objects that they need, by key with one photo of each, and what is known of these.

    Left out, with their keys: photos whose file would need the same key as another one's.
    """

    photos: list[Photo]
    clashing: list[tuple[Photo, str]]
    wanted: dict[str, tuple[WantedObject, Photo]]
    rows: dict[str, Any]

    @classmethod
    def of(cls, database: Database, config: PipelineConfig, batch: str) -> "Needs":
        """Return what the batch needs now.

        Raises:
            GuardRefusedError: a deletion of one of the objects is under way.
        """
        photos = batch_photos(database, batch, TO_UPLOAD)
        naming = ObjectNaming(config, database)
        wanted: dict[str, tuple[WantedObject, Photo]] = {}
        clashing: list[tuple[Photo, str]] = []
        for photo in photos:
            untouched = naming.untouched(photo)
            taken = [e.key for e in untouched if e.key in wanted and wanted[e.key][1].sha256 != photo.sha256]
            if taken:
                clashing.append((photo, taken[0]))
                continue
            own = [] if photo.is_copy else naming.variants(photo)
            for each in (*own, *untouched):
                wanted.setdefault(each.key, (each, photo))
        with database.read() as connection:
            rows = object_rows(connection, config.store.bucket, wanted, columns=_ABOUT_OBJECTS)
            refuse_while_deleted(connection, rows.values())
        left_out = {photo.id for photo, _ in clashing}
        return cls([photo for photo in photos if photo.id not in left_out], clashing, wanted, rows)

    def has_gaps(self, config: PipelineConfig) -> bool:
        """Return whether variants are missing that are neither proven nor in staging."""
        keys = [key for key, (each, _) in self.wanted.items() if each.recipe]
        return any(not is_at_hand(config, self.rows.get(key)) for key in keys)
