"""A batch's photos, as the catalog has them. Which objects they need is `naming`."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database, rows_by_key
from photo_pipeline.core.catalog.tables import (
    PhotoClass,
    PhotoState,
    object_table,
    photo_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import PhotoError


@dataclass(frozen=True)
class Photo:
    """One photo reference of a batch, as `pp_photo` has it; sizes in bytes."""

    id: int
    source: str
    row_id: str
    row_key: str
    field: str
    column: str | None
    locator: str | None
    variant: str | None
    role: str
    entity_type: str | None
    entity_id: str | None
    root: str
    path: str
    value: str
    new_value: str | None
    focal_x: float | None
    focal_y: float | None
    recipe: str | None
    size: int
    mtime_ns: int
    inode: int
    sha256: str
    format: str
    width: int | None
    height: int | None
    state: str
    error_type: str | None
    error_detail: str | None

    @property
    def is_copy(self) -> bool:
        """Whether it is a resized copy that the application made of the row's primary photo."""
        return self.role == "variant"

    @property
    def shown(self) -> str | None:
        """What the row shows while nobody edits it: the new value if it is migrated, else the local one."""
        return self.new_value if self.state == PhotoState.MIGRATED else self.value

    @property
    def focal_point(self) -> tuple[float, float] | None:
        """What crops keep in the middle, as fractions of width and height."""
        return None if self.focal_x is None or self.focal_y is None else (self.focal_x, self.focal_y)

    def location(self, config: PipelineConfig) -> Path:
        """Return where the local file is."""
        return config.root(self.root).dir / self.path


class LocalFiles:
    """Tells whether the files that photos were catalogued as are still the same."""

    def __init__(self, config: PipelineConfig) -> None:
        self._folders = {root.name: str(root.dir) for root in config.roots}

    def changed(self, photo: Photo) -> bool:
        """Return whether another file is there now; that none is there any more does no harm."""
        try:
            # Not by pathlib, which takes four times as long as the question itself.
            info = os.stat(f"{self._folders[photo.root]}/{photo.path}")  # noqa: PTH116
        except OSError:
            return False
        return info.st_size != photo.size or info.st_mtime_ns != photo.mtime_ns


def batch_photos(database: Database, batch: str, states: Iterable[PhotoState] | None = None) -> list[Photo]:
    """Return the batch's matched, hashed photos (in the given states), by id.

    Migrated ones count as matched: the inventory may have re-classed them since.
    """
    columns = photo_table.c
    names = list(Photo.__dataclass_fields__)
    query = sa.select(*(columns[name] for name in names)).where(
        columns.batch == batch,
        columns.sha256.is_not(None),
        columns["class"].in_([PhotoClass.MATCHED, PhotoClass.ALREADY_MIGRATED]),
    )
    if states is not None:
        query = query.where(columns.state.in_(list(states)))
    with database.read() as connection:
        return [Photo(*row) for row in connection.execute(query.order_by(columns.id))]


def set_state(connection: Connection, photos: Iterable[Photo], state: PhotoState) -> None:
    """Move the photos to `state` and forget an earlier error."""
    ids = [photo.id for photo in photos]
    if ids:
        connection.execute(
            sa.update(photo_table)
            .where(photo_table.c.id.in_(ids))
            .values(state=state, error_type=None, error_detail=None, updated_at=utc_now())
        )


def quarantine(connection: Connection, photos: Iterable[Photo], error: PhotoError) -> None:
    """Take the photos out of the batch's way, with the reason."""
    ids = [photo.id for photo in photos]
    connection.execute(
        sa.update(photo_table)
        .where(photo_table.c.id.in_(ids))
        .values(
            state=PhotoState.QUARANTINED,
            error_type=error.error_type,
            error_detail=str(error),
            updated_at=utc_now(),
        )
    )


_SHOWABLE = (PhotoState.PROCESSED, PhotoState.UPLOADED, PhotoState.MIGRATED, PhotoState.STORED)


def row_primaries(
    database: Database,
    config: PipelineConfig,
    photos: Iterable[Photo],
    states: Sequence[PhotoState] = _SHOWABLE,
) -> dict[str, Photo]:
    """Return, by row, the photo that the row's resized copies are copies of, if it is in one of the states.

    That is the photo of the source's first field with role primary, in whichever batch it is. Any other
    photo of the row would be the wrong picture.
    """
    columns = photo_table.c
    rows = list(dict.fromkeys(photo.row_id for photo in photos))
    found: dict[str, Photo] = {}
    with database.read() as connection:
        for start in range(0, len(rows), 500):
            query = sa.select(*(columns[name] for name in Photo.__dataclass_fields__)).where(
                columns.row_id.in_(rows[start : start + 500]),
                columns.role == "primary",
                columns.state.in_(states),
            )
            for row in connection.execute(query.order_by(columns.id)):
                photo = Photo(*row)
                if photo.field == config.source(photo.source).primary_field:
                    found[photo.row_id] = photo
    return found


def object_rows(
    connection: Connection, bucket: str, keys: Iterable[str], *, columns: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the `pp_object` rows of those keys that have one, by key; with all columns, or those and it."""
    return rows_by_key(connection, object_table, bucket, keys, columns=columns)
