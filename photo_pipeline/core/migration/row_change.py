"""What one application row is to become: its new cells, and which of its photos it still shows.

Writes nothing. What a rewrite makes of it, and of rows that cannot take it, is `row_rewrite`; the rows about
which nothing is unusual are computed faster by `plain_rows`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from photo_pipeline.core.catalog.cells import CellReader, row_names
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import PhotoState, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.ledger import RowRefusedError
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.migration.proof import is_proven_row
from photo_pipeline.core.migration.touch import touched
from photo_pipeline.core.migration.values import RowValues
from photo_pipeline.core.sources.mapping import Source


@dataclass
class NewRow:
    """A row's new cells by column, and by photo id how its new URL is spelled in its cell."""

    cells: dict[str, RawValue]
    spelled: dict[int, str]


class RowChanges:
    """Computes rows on the strength of the proven `objects` (`pp_object` rows by key)."""

    def __init__(self, config: PipelineConfig, naming: ObjectNaming, objects: Mapping[str, Any]) -> None:
        self._config = config
        self._naming = naming
        self._objects = objects
        self._cells = CellReader(config)
        self._values: dict[str, RowValues] = {}

    def is_written(self, address: RowAddress, photo: Photo, primary: Photo | None) -> bool:
        """Return whether the row's rewrite changes a cell on behalf of the photo."""
        source = address.source
        if source.rewrite.markers or source.field(photo.field).written:
            return True
        is_leader = primary is not None and photo.id == primary.id
        return photo.column is None and is_leader and bool(source.rewrite.set or source.rewrite.write_back)

    def shown(self, address: RowAddress, before: Mapping[str, RawValue], photos: list[Photo]) -> list[Photo]:
        """Return the photos that the row still says; each cell is looked through once for all of its."""
        source = address.source
        # Elsewhere nothing is written for the others, so that nothing can be overwritten.
        looked_for = [
            photo for photo in photos if source.field(photo.field).written or source.rewrite.markers
        ]
        there = set()
        for column, named in by_column(looked_for).items():
            names = {(photo.field, photo.shown or "") for photo in named}
            there |= {each.name for each in self._cells.mentions(source, column, before[column], names)}
        return [
            p
            for p in photos
            if (
                _is_computed_still(source, p, before)
                if p.column is None
                else p not in looked_for or (p.field, p.shown or "") in there
            )
        ]

    def primary_stands(
        self,
        address: RowAddress,
        primary: Photo | None,
        good: list[Photo],
        before: Mapping[str, RawValue],
    ) -> bool:
        """Return whether the row still has the photo that its copies are copies of."""
        if primary is None:
            return False
        migrated = primary.state == PhotoState.MIGRATED and self.shown(address, before, [primary])
        return bool(migrated) or any(photo.id == primary.id for photo in good)

    def wanted(
        self,
        connection: Connection,
        address: RowAddress,
        good: list[Photo],
        primary: Photo | None,
        before: Mapping[str, RawValue],
    ) -> NewRow:
        """Return the new value of every column that the row's rewrite sets.

        Raises:
            RowRefusedError: a value would name an object that is not proven, or does not fit its column.
        """
        values = self._row_values(address)
        for photo in good:
            for key in values.named_keys(photo, primary):
                if not is_proven_row(self._objects.get(key)):
                    raise RowRefusedError(f"the new value would name {key}, which is not proven")
        new = NewRow({}, {})
        if address.source.rewrite.names_photos:
            new = self._new_cells(address, good, primary, before)
        wanted = new.cells
        wanted |= values.literals(is_sqlite=address.is_sqlite)
        leader = self._leader(address, good, primary)
        if leader is not None:
            wanted |= values.write_back(leader, self._objects)
        now = utc_now()
        for name in address.source.rewrite.touch:
            wanted[name] = touched(connection, address.table.columns[name], before[name], now)
        for name, value in wanted.items():
            ledger.check_fits(address, name, value)
        return new

    def _new_cells(
        self,
        address: RowAddress,
        good: list[Photo],
        primary: Photo | None,
        before: Mapping[str, RawValue],
    ) -> NewRow:
        """Return the photos' cells with these photos' URLs replaced; all else in them is as it was."""
        values, new = self._row_values(address), NewRow({}, {})
        for column, photos in by_column(good).items():
            urls = {(p.field, p.shown or ""): values.field_value(p, primary) for p in photos}
            edited = self._cells.replaced(address.source, column, str(before[column]), urls)
            new.cells[column] = edited.text
            new.spelled |= {p.id: edited.spelled[p.field, p.shown or ""] for p in photos}
        return new

    def _row_values(self, address: RowAddress) -> RowValues:
        source = address.source
        if source.name not in self._values:
            self._values[source.name] = RowValues(self._naming, source, self._config.store.bucket)
        return self._values[source.name]

    def _leader(self, address: RowAddress, good: list[Photo], primary: Photo | None) -> Photo | None:
        """Return the photo whose facts are written back: the row's primary, never another one's."""
        if address.source.primary_field is None:
            return next((photo for photo in good if not address.source.field(photo.field).embedded), None)
        return next((photo for photo in good if primary is not None and photo.id == primary.id), None)


def _is_computed_still(source: Source, photo: Photo, before: Mapping[str, RawValue]) -> bool:
    """Return whether the row's columns still make up the name of the photo's file."""
    field = source.field(photo.field)
    if photo.state == PhotoState.MIGRATED and not set(source.written_columns).isdisjoint(field.reads):
        return True  # Of what the first rewrite has written there, another name may come by now.
    return row_names(field, before, photo.value)


def by_column(photos: list[Photo]) -> dict[str, list[Photo]]:
    """Return the photos by the column that names them; those without one are left out."""
    grouped: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        if photo.column is not None:
            grouped[photo.column].append(photo)
    return grouped
