"""Rows of photos that were encoded for a plan, as their rewrite would leave them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import PhotoError
from photo_pipeline.core.imaging.variants import MadePhoto
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import Photo, batch_photos, object_rows, row_primaries
from photo_pipeline.core.migration.planned_work import MOVING, Content
from photo_pipeline.core.migration.process import FORWARD
from photo_pipeline.core.migration.row_rewrite import RowPreview, RowRewriter

Outcomes = Mapping[int, tuple[MadePhoto | PhotoError, float]]
"""What became of each encoded photo, by its id, and the seconds of a worker that it took."""


class Previewer:
    """Shows rows of encoded photos as their rewrite would leave them."""

    def __init__(self, database: Database, config: PipelineConfig, outcomes: Outcomes) -> None:
        self._database = database
        self._config = config
        self._outcomes = outcomes
        self._naming = ObjectNaming(config, database)

    def show(self, drawn: Mapping[str, list[Content]], count: int) -> tuple[RowPreview, ...]:
        """Return up to `count` rows, from each source in turn."""
        queues: dict[str, list[Content]] = defaultdict(list)
        for name, group in drawn.items():
            queues[name] = [each for each in group if isinstance(self._outcomes[each.photo.id][0], MadePhoto)]
        turns = [each for turn in _in_turn(queues.values()) for each in turn]
        return tuple(self._preview(each) for each in turns[:count])

    def _preview(self, content: Content) -> RowPreview:
        photos = [
            photo
            for photo in batch_photos(self._database, content.batch, FORWARD)
            if photo.row_id == content.photo.row_id
        ]
        primary = row_primaries(self._database, self._config, photos, MOVING).get(content.photo.row_id)
        shown = [photo for photo in photos if self._is_shown(photo, content, primary)]
        objects = self._objects(content)
        for photo in shown:
            if photo.sha256 != content.photo.sha256:
                objects = self._foreseen(photo) | objects
        rewriter = RowRewriter(self._database, self._config, self._naming, objects, batch="", run="")
        with self._database.read() as connection:
            return rewriter.preview(connection, shown, primary)

    def _is_shown(self, photo: Photo, content: Content, primary: Photo | None) -> bool:
        """Return whether the row shows the photo as it would become: what it needs of its objects is known.

        Of a photo that was not encoded their names are known, which is all that a document needs; the facts
        that are written back to other columns are not.
        """
        if photo.id == content.photo.id or (photo.is_copy and primary and primary.id == content.photo.id):
            return True
        failed = isinstance(self._outcomes.get(photo.id, (None, 0))[0], PhotoError)
        return self._config.source(photo.source).field(photo.field).embedded and not failed

    def _objects(self, content: Content) -> dict[str, Any]:
        """Return what `pp_object` would say of the photo's variants."""
        wanted = self._naming.variants(content.photo)
        with self._database.read() as connection:
            rows = object_rows(connection, self._config.store.bucket, [each.key for each in wanted])
        made = self._outcomes[content.photo.id][0]
        if isinstance(made, MadePhoto):
            self._naming.foresee_looks(content.photo, made.placeholder)
            for each in made.variants:
                key = self._naming.variant_key(content.photo, each.variant, each.format.extension)
                rows[key] = _proven(
                    key, bytes=each.bytes, mime=each.format.mime, width=each.width, height=each.height
                )
        return rows

    def _foreseen(self, photo: Photo) -> dict[str, Any]:
        """Return the rows of a photo that was not encoded: names alone."""
        return {each.key: _proven(each.key) for each in self._naming.variants(photo)}


def _proven(key: str, **facts: Any) -> SimpleNamespace:
    """Return a row of `pp_object` as it would be."""
    return SimpleNamespace(key=key, verified_at=utc_now(), deleted_at=None, **facts)


def _in_turn(queues: Iterable[list[Content]]) -> Iterator[list[Content]]:
    lists = list(queues)
    for place in range(max((len(each) for each in lists), default=0)):
        yield [each[place] for each in lists if place < len(each)]
