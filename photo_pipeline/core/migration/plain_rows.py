"""What the plain rows of one source become: each photo is the whole value of a cell that still says so.

Computes only, and quickly: whatever takes more than setting whole cells is answered with None, and left to
`row_rewrite`, which knows every case. Both take their values from `values`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.bulk import Row
from photo_pipeline.core.catalog.column_types import declared_type, is_text, misfit, text_limit
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.migration.proof import is_proven_row
from photo_pipeline.core.migration.touch import touched
from photo_pipeline.core.migration.values import RowValues
from photo_pipeline.core.sources.fields.base import SinglePhotoField
from photo_pipeline.core.sources.mapping import Source

# What every integer column takes: 16 bits; each other number is judged by `misfit`.
_SMALL = 2**15


@dataclass(slots=True)
class PlainRow:
    """One plain row and what it is to become.

    Attributes:
        photos: Its photos that are ready; each is a column's whole value.
        key: Its key values.
        before: What its cells hold: those of `changed` and those of `named`.
        changed: The cells that become something else, and what (on PostgreSQL its text form).
        named: The column that names each of the photos, and the photo's id.
        recipes: For each photo, of the objects that its new value names.
    """

    photos: list[Photo]
    key: Row
    before: dict[str, RawValue]
    changed: dict[str, RawValue]
    named: dict[str, int]
    recipes: list[str]


class PlainRows:
    """The plain rows of one source, on the strength of the proven `objects` (`pp_object` rows by key)."""

    def __init__(
        self,
        source: Source,
        table: sa.Table,
        values: RowValues,
        objects: Mapping[str, Any],
        *,
        is_sqlite: bool,
    ) -> None:
        self._source = source
        self._table = table
        self._values = values
        self._objects = objects
        self._is_sqlite = is_sqlite
        self.columns = source.written_columns
        """Every column that a rewrite may change."""
        # A source whose photos' own cells stay as they are has no plain rows.
        self._fields = {
            each.label: each.column
            for each in source.fields
            if source.rewrite.names_photos and isinstance(each, SinglePhotoField) and each.written
        }
        self._literals = values.literals(is_sqlite=is_sqlite)
        self._has_facts = bool(self._literals or source.rewrite.write_back or source.rewrite.touch)
        self._whole_numbers = {
            name for name in self.columns if isinstance(declared_type(table.columns[name]), sa.Integer)
        }
        self._limits = {
            name: text_limit(table.columns[name]) for name in self.columns if is_text(table.columns[name])
        }

    def needs_cells(self, photos: Sequence[Photo], primary: Photo | None) -> bool:
        """Return whether more is to be known of the row than that it still shows these photos."""
        if self._has_facts:
            return True
        if primary is None or not any([photo.is_copy for photo in photos]):
            return False
        return not any([photo.id == primary.id for photo in photos])

    def plan(
        self,
        connection: Connection,
        photos: list[Photo],
        primary: Photo | None,
        key: Row,
        cells: Row | None,
        now: datetime,
    ) -> PlainRow | None:
        """Return what the row becomes; None if it is not plain, or would not change.

        Args:
            connection: In any transaction.
            photos: The row's photos that are ready.
            primary: The photo that its resized copies are copies of.
            key: The row's key values.
            cells: What `columns` hold. None if that is not read, nor needed (`needs_cells`): it is what the
                photos show, or the compare-and-swap will not find the row.
            now: The time that touched columns get.
        """
        before = _as_shown(photos) if cells is None else dict(zip(self.columns, cells, strict=True))
        if not self._show(photos, before) or not self._primary_stands(photos, primary, before):
            return None
        wanted: dict[str, RawValue] = {}
        named: dict[str, int] = {}
        recipes = []
        for photo in photos:
            value, keys, recipe = self._values.named(photo, primary)
            if not all([is_proven_row(self._objects.get(each)) for each in keys]):
                return None
            column = str(photo.column)
            wanted[column], named[column] = value, photo.id
            recipes.append(recipe)
        if len(wanted) != len(photos):
            return None
        if self._has_facts:
            self._add_facts(connection, wanted, photos, primary, before, now)
        if not all([self._fits(name, new) for name, new in wanted.items()]):
            return None
        changed = {name: value for name, value in wanted.items() if value != before[name]}
        if self._has_facts and not self._is_sqlite:
            changed = {name: value if value is None else str(value) for name, value in changed.items()}
        return PlainRow(photos, key, before, changed, named, recipes) if changed else None

    def _show(self, photos: Sequence[Photo], before: Mapping[str, RawValue]) -> bool:
        """Return whether each photo is the whole value of its cell, which is known to stand there still."""
        for photo in photos:
            column = self._fields.get(photo.field)
            if column is None or column != photo.column or photo.locator is not None:
                return False
            shown = photo.shown
            if shown is None or before.get(column) != shown:
                return False
        return True

    def _primary_stands(
        self, photos: Sequence[Photo], primary: Photo | None, before: Mapping[str, RawValue]
    ) -> bool:
        """Return whether the row still has the photo that its copies among these are copies of."""
        if not any([photo.is_copy for photo in photos]):
            return True
        if primary is None:
            return False
        return any(photo.id == primary.id for photo in photos) or (
            primary.state == "migrated" and self._show([primary], before)
        )

    def _add_facts(
        self,
        connection: Connection,
        wanted: dict[str, RawValue],
        photos: Sequence[Photo],
        primary: Photo | None,
        before: Mapping[str, RawValue],
        now: datetime,
    ) -> None:
        """Add what the row is told besides its photos' URLs."""
        wanted |= self._literals
        rewrite = self._source.rewrite
        if rewrite.write_back:
            leader = self._leader(photos, primary)
            if leader is not None:
                wanted |= self._values.write_back(leader, self._objects)
        for name in rewrite.touch:
            wanted[name] = touched(connection, self._table.columns[name], before[name], now)

    def _leader(self, photos: Sequence[Photo], primary: Photo | None) -> Photo | None:
        """Return the photo whose facts are written back: the row's primary, never another one's."""
        if self._source.primary_field is None:
            return photos[0]
        return next((photo for photo in photos if primary is not None and photo.id == primary.id), None)

    def _fits(self, name: str, value: RawValue) -> bool:
        if isinstance(value, str) and name in self._limits:
            limit = self._limits[name]
            return limit is None or len(value) <= limit
        if type(value) is int and -_SMALL <= value < _SMALL and name in self._whole_numbers:
            return True
        return misfit(self._table.columns[name], value, is_sqlite=self._is_sqlite) is None


def _as_shown(photos: Sequence[Photo]) -> dict[str, RawValue]:
    return {str(photo.column): photo.shown for photo in photos}
