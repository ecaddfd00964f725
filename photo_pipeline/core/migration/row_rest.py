"""Whether the rest of a row is in the store, where columns say of the row as a whole where its photos are.

Such a column (mode `columns`: disk = s3) moves every photo of its row at once: also one that cannot be
stored, and one that the application has added since. Writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.cells import CellReader, Mention, Name
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress, row_id
from photo_pipeline.core.catalog.tables import GONE, PhotoClass, PhotoState, photo_table
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.errors import PhotoChangedError
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import LocalFiles, Photo, object_rows
from photo_pipeline.core.migration.proof import is_proven_object
from photo_pipeline.core.sources.spelling import Refused, is_whole_address

_UNDER_WAY = (PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED)
_STORABLE = (PhotoClass.MATCHED, PhotoClass.ALREADY_MIGRATED)


@dataclass(frozen=True)
class Lacking:
    """What of a row is not in the store, and whether it will be without anybody's doing."""

    reason: str
    is_under_way: bool


class RowRest:
    """Looks at rows of sources with markers under one configuration."""

    def __init__(self, config: PipelineConfig, naming: ObjectNaming) -> None:
        self._bucket = config.store.bucket
        self._naming = naming
        self._cells = CellReader(config)
        self._urls = UrlScheme.of(config)
        self._files = LocalFiles(config)

    def lacking(
        self,
        connection: Connection,
        address: RowAddress,
        cells: Mapping[str, RawValue],
        good: Sequence[Photo],
        primary: Photo | None,
    ) -> Lacking | None:
        """Return what else the row names that is not in the store, or None if all of it is.

        Args:
            connection: In the transaction that holds the row.
            address: The row.
            cells: What it holds, with each of `source.read_columns`.
            good: Its photos that are proven; what they are is not looked at again.
            primary: The photo that its resized copies are copies of.
        """
        mentions, problems = self._cells.read(address.source, cells)
        if problems:
            return Lacking(f"{problems[0].field.label} cannot be read ({problems[0].reason})", False)
        ours = {(photo.field, photo.shown) for photo in good}
        rest = {each.name for each in mentions if each.name not in ours and not self._is_elsewhere(each)}
        if not rest:
            return None
        found = [
            lacking
            for name, rows in self._catalogued(connection, address, rest).items()
            if (lacking := self._judge(connection, name, rows, primary)) is not None
        ]
        # What somebody has to see to comes first.
        return min(found, key=lambda each: each.is_under_way, default=None)

    def _is_elsewhere(self, mention: Mention) -> bool:
        """Return whether it is a whole address of another place, which no column of the row moves."""
        url, root = mention.span.url, self._cells.roots[mention.field.root]
        if self._urls.is_migrated(url):
            return True
        return is_whole_address(url) and isinstance(mention.field.interpret(url, root), Refused)

    def _catalogued(
        self, connection: Connection, address: RowAddress, names: Iterable[Name]
    ) -> dict[Name, list[Any]]:
        """Return, by each of those names, the photos of the row that the catalog has under it."""
        photo = photo_table.c
        query = sa.select(photo_table).where(
            photo.row_id == row_id(address.source.name, address.row_key), photo.state.not_in(GONE)
        )
        rows = connection.execute(query.order_by(photo.id)).all()
        return {
            name: [each for each in rows if name in ((each.field, each.value), (each.field, each.new_value))]
            for name in sorted(names)
        }

    def _judge(
        self, connection: Connection, name: Name, rows: Sequence[Any], primary: Photo | None
    ) -> Lacking | None:
        what = f"its {name[0]} names {name[1]!r}, which is not in the store"
        if not rows:
            return Lacking(f"{what}: no inventory has seen it yet", True)
        if any(self._is_stored(connection, row, primary) for row in rows):
            return None
        (*_, last) = rows
        matched = last.state in _UNDER_WAY and last._mapping[photo_table.c["class"]] in _STORABLE
        changed = last.error_type == PhotoChangedError.error_type  # The next inventory takes it up.
        why = last.error_detail or last.class_detail or f"it is {last.state}"
        return Lacking(f"{what} ({why})", matched or changed)

    def _is_stored(self, connection: Connection, row: Any, primary: Photo | None) -> bool:
        """Return whether all that the photo needs is proven in the store, of the file that is there."""
        if row.state == PhotoState.MIGRATED:
            return True
        if row.sha256 is None or row._mapping[photo_table.c["class"]] not in _STORABLE:
            return False
        photo = Photo(*(row._mapping[photo_table.c[name]] for name in Photo.__dataclass_fields__))
        if self._files.changed(photo) or (photo.is_copy and primary is None):
            return False
        needed = self._naming.needed(photo, primary)
        columns = ("checksum", "verified_at", "deleted_at")
        proven = object_rows(connection, self._bucket, [each.key for each in needed], columns=columns)
        return all(is_proven_object(each, proven.get(each.key)) for each in needed)
