"""Which objects the batches of a planned migration still lack, by the rules of `process` and `upload`.

What they will take in bytes, money and time is `plan`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import PhotoState
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.naming import ObjectNaming, WantedObject
from photo_pipeline.core.migration.photos import Photo, batch_photos, object_rows, row_primaries
from photo_pipeline.core.migration.process import FORWARD
from photo_pipeline.core.migration.proof import is_proven_object

MOVING = (*FORWARD, PhotoState.MIGRATED)


@dataclass
class Content:
    """One picture to be processed under one recipe, and the objects that it still lacks."""

    photo: Photo
    batch: str
    variants: list[WantedObject]
    # Untouched files that it lacks, unless they are counted with another recipe of the picture.
    untouched: int = 0

    @property
    def objects(self) -> int:
        """How many objects it lacks."""
        return len(self.variants) + self.untouched

    @property
    def untouched_bytes(self) -> int:
        """The size of the untouched files that it lacks."""
        return self.untouched * self.photo.size


@dataclass
class Work:
    """What is to be done, collected batch by batch."""

    contents: dict[str, Content] = field(default_factory=dict)
    originals: dict[str, int] = field(default_factory=dict)  # bytes by key, of every lacking original
    rows: set[str] = field(default_factory=set)
    photos: int = 0
    proven: set[str] = field(default_factory=set)

    @property
    def to_make(self) -> list[Content]:
        """The pictures of which variants are to be made, in a fixed order."""
        return [each for _, each in sorted(self.contents.items()) if each.variants]

    @property
    def objects(self) -> int:
        """How many objects are to be brought."""
        return len(self.originals) + sum(len(each.variants) for each in self.contents.values())


class WorkCollector:
    """Finds out which objects the batches still need, with the rules of `process` and `upload`."""

    def __init__(self, database: Database, config: PipelineConfig) -> None:
        self._database = database
        self._config = config
        self._naming = ObjectNaming(config, database)

    def collect(self, batches: Iterable[str]) -> Work:
        """Return what is to be done for those batches, in their order."""
        work = Work()
        for batch in batches:
            photos = batch_photos(self._database, batch, FORWARD)
            leading = row_primaries(self._database, self._config, [p for p in photos if p.is_copy], MOVING)
            moving = [photo for photo in photos if not photo.is_copy or photo.row_id in leading]
            self._add(work, batch, moving)
        return work

    def _add(self, work: Work, batch: str, photos: list[Photo]) -> None:
        wanted = {photo.id: self._wanted(photo) for photo in photos}
        with self._database.read() as connection:
            keys = [each.key for these in wanted.values() for each in these]
            rows = object_rows(connection, self._config.store.bucket, keys)
        objects = [each for these in wanted.values() for each in these]
        proven = {each.key for each in objects if is_proven_object(each, rows.get(each.key))}
        work.proven |= proven
        work.photos += len(photos)
        work.rows.update(photo.row_id for photo in photos)
        for photo in photos:
            self._add_photo(work, batch, photo, [e for e in wanted[photo.id] if e.key not in proven])

    def _wanted(self, photo: Photo) -> list[WantedObject]:
        return ([] if photo.is_copy else self._naming.variants(photo)) + self._naming.untouched(photo)

    def _add_photo(self, work: Work, batch: str, photo: Photo, lacking: list[WantedObject]) -> None:
        originals = [each.key for each in lacking if not each.recipe and each.key not in work.originals]
        work.originals |= dict.fromkeys(originals, photo.size)
        if photo.is_copy:
            return
        name = f"{photo.sha256}/{self._naming.recipe_digest(photo)}"
        if name not in work.contents:
            variants = [each for each in lacking if each.recipe]
            work.contents[name] = Content(photo, batch, variants, len(originals))
