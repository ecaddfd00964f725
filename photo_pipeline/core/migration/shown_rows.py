"""What migrated rows show now, beside what they were made to show. Asks the database only."""

from collections.abc import Collection

import sqlalchemy as sa

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.cells import CellReader, our_url
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import PhotoState, RewriteOutcome, rewrite_table
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.routing import AUTO_SUFFIX
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.sources.mapping import Source


class ShownRows:
    """The rows of one installation's photos."""

    def __init__(self, database: Database, config: PipelineConfig, naming: ObjectNaming) -> None:
        self._database = database
        self._config = config
        self._naming = naming
        self._cells = CellReader(config)

    def named(self, photo: Photo) -> list[str]:
        """Return the keys that the photo's new value names: one, or one per format for `.auto`."""
        if not self._config.source(photo.source).rewrite.names_photos:
            return []
        key = self._shown_key(photo)
        if not key.endswith(AUTO_SUFFIX):
            return [key]
        stem = key.removesuffix(AUTO_SUFFIX)
        return [f"{stem}.{each.extension}" for each in ImageFormat]

    def auto_key(self, photo: Photo) -> str | None:
        """Return the `.auto` key that the photo's row names, or None."""
        key = self._shown_key(photo) if self._config.source(photo.source).rewrite.names_photos else ""
        return key if key.endswith(AUTO_SUFFIX) else None

    def _shown_key(self, photo: Photo) -> str:
        return our_url(photo.new_value or "").removeprefix(f"{self._naming.urls.base_url}/")

    def problems(self, photo: Photo, proven: Collection[str]) -> list[str]:
        """Return in which ways the photo's row no longer shows what it was made to show (sentences).

        Args:
            photo: A migrated or stored photo.
            proven: The keys of objects that are proven in the store.
        """
        source = self._config.source(photo.source)
        if photo.state == PhotoState.STORED:
            return []  # Nothing of its row is ours; its objects are judged beside this.
        address = RowAddress.of(self._database, source, photo.row_key)
        rewrite = source.rewrite
        leads = photo.field == source.primary_field and not photo.is_copy
        # Columns of the row, and not of one of its photos: looked at once. The application may go on to
        # change what `set` says, unless that is what tells where the photo is.
        facts = list(rewrite.addresses) if leads else []
        markers = list(rewrite.set) if rewrite.mode == "columns" else []
        columns = [photo.column] if photo.column else list(source.key)
        with self._database.read() as connection:
            current = address.read(connection, [*columns, *facts, *markers], lock=False)
        if current is None:
            return ["the row was deleted since"]
        return [
            *self._own_problems(source, photo, current, proven),
            *self._marker_problems(address, {name: current[name] for name in markers}),
            *self._written_problems(photo, {name: current[name] for name in facts}),
        ]

    def _own_problems(
        self, source: Source, photo: Photo, current: dict[str, RawValue], proven: Collection[str]
    ) -> list[str]:
        """Return what is wrong with the column that names the photo; in mode `columns` it stays as it was."""
        if photo.column is None:
            return []  # Its row names the store by other columns, and the objects are judged beside this.
        shown = photo.value if source.rewrite.mode == "columns" else (photo.new_value or "")
        if not self._cells.shows(source, photo.column, current[photo.column], (photo.field, shown)):
            says = f"says {current[photo.column]!r}, not"
            said = "does not name" if source.field(photo.field).embedded else says
            return [f"the row's {photo.field} {said} {shown!r}"]
        unproven = [key for key in self.named(photo) if key not in proven]
        return [f"the row names an object that is not proven ({', '.join(unproven)})"] if unproven else []

    def _marker_problems(self, address: RowAddress, current: dict[str, RawValue]) -> list[str]:
        """Return which columns no longer say that the row's photos are in the store."""
        rewrite = address.source.rewrite
        wanted = {name: raw.literal(v, is_sqlite=address.is_sqlite) for name, v in rewrite.set.items()}
        return [_differs(name, said, wanted[name]) for name, said in current.items() if said != wanted[name]]

    def _written_problems(self, photo: Photo, current: dict[str, RawValue]) -> list[str]:
        """Return which written-back URLs and keys are not those that were written last."""
        if not current:
            return []
        columns = rewrite_table.c
        query = sa.select(columns.column, columns.after, columns.after_type).where(
            columns.source == photo.source,
            columns.row_id == photo.row_id,
            columns.column.in_(list(current)),
            columns.outcome == RewriteOutcome.APPLIED,
        )
        with self._database.read() as connection:
            written = {each.column: each for each in connection.execute(query.order_by(columns.id))}
        return [
            _differs(name, current[name], each.after)
            for name, each in written.items()
            if raw.encode(current[name]) != (each.after, each.after_type)
        ]


def _differs(name: str, said: RawValue, wanted: RawValue) -> str:
    return f"the row's {name} says {said!r}, not {wanted!r}"
