"""Which migrated photos' rows show another address, or recipe, than the configuration gives them now.

Judged by what the last rewrites wrote, not by the rows: a row that the application has edited since is found
out when it is rewritten.
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.cells import our_url
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import RewriteOutcome, rewrite_table
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.migration.values import RowValues

_ROWS_PER_QUERY = 500


class Whereabouts:
    """Compares what rows were last given with what they would be given now."""

    def __init__(
        self, database: Database, config: PipelineConfig, naming: ObjectNaming, *, bucket: str
    ) -> None:
        self._database = database
        self._naming = naming
        self._sources = {source.name: source for source in config.sources}
        self._values = {source.name: RowValues(naming, source, bucket) for source in config.sources}

    def elsewhere(self, photos: Sequence[Photo], leading: Mapping[str, Photo]) -> list[Photo]:
        """Return the photos whose rows are to be rewritten.

        Args:
            photos: Migrated photos.
            leading: By row, the photo that its resized copies are copies of.
        """
        written = self._written_back({photo.row_id for photo in photos})
        return [
            photo
            for photo in photos
            if self._is_named_otherwise(photo, leading.get(photo.row_id))
            or self._is_described_otherwise(photo, leading.get(photo.row_id), written)
        ]

    def _is_named_otherwise(self, photo: Photo, primary: Photo | None) -> bool:
        """Return whether the photo's own cell would receive another value."""
        source = self._sources[photo.source]
        if not (source.rewrite.names_photos and source.field(photo.field).written):
            return False
        # In a text our URL may be escaped.
        wanted = self._values[photo.source].field_value(photo, primary)
        return wanted != our_url(photo.new_value or "")

    def _is_described_otherwise(
        self, photo: Photo, primary: Photo | None, written: Mapping[tuple[str, str], str]
    ) -> bool:
        """Return whether columns that are written back from the photo would say something else."""
        source = self._sources[photo.source]
        if source.primary_field is not None and (primary is None or primary.id != photo.id):
            return False
        if source.rewrite.write_back and self._naming.recipe_digest(photo) != photo.recipe:
            return True
        values = self._values[photo.source]
        return any(
            address not in written[photo.row_id, column].replace("\\/", "/")
            for column in source.rewrite.write_back
            if (photo.row_id, column) in written
            for address in values.addresses(column, photo)
        )

    def _written_back(self, rows: set[str]) -> dict[tuple[str, str], str]:
        """Return, by row and column, what the last standing rewrite wrote."""
        columns = sorted({name for source in self._sources.values() for name in source.rewrite.write_back})
        found: dict[tuple[str, str], str] = {}
        wanted = sorted(rows) if columns else []
        with self._database.read() as connection:
            for start in range(0, len(wanted), _ROWS_PER_QUERY):
                found |= _last_values(connection, wanted[start : start + _ROWS_PER_QUERY], columns)
        return found


def _last_values(
    connection: Connection, rows: Sequence[str], columns: Sequence[str]
) -> dict[tuple[str, str], str]:
    ledger = rewrite_table.c
    query = sa.select(ledger.row_id, ledger.column, ledger.after).where(
        ledger.row_id.in_(rows), ledger.column.in_(columns), ledger.outcome == RewriteOutcome.APPLIED
    )
    # The newest comes last, and counts.
    return {
        (row.row_id, row.column): row.after or "" for row in connection.execute(query.order_by(ledger.id))
    }
