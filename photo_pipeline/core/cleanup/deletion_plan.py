"""What a deletion of photos would do, to the last object and cell, and the token that confirms exactly that.

Reads only. The same rows, objects and reasons give the same token, so that a confirmation is refused once
anything has changed; but a deletion that has ended has used its token up. Doing it is `deletion`.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.cells import CellReader
from photo_pipeline.core.catalog.checksums import hash_matched_files
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.inventory import take_inventory
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import (
    GONE,
    DeletionState,
    PhotoState,
    TrashState,
    deletion_table,
    object_table,
    photo_table,
    trash_table,
)
from photo_pipeline.core.cleanup.deletion_references import rows_that_go_along
from photo_pipeline.core.cleanup.mentions import Cell, mentioned_contents
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.sources.mapping import Source

_IDS_PER_QUERY = 500
# Written-back columns that say where an object is, or show what is in it; others state facts, and stay.
_TELLING = ("s3_key", "formats_json", "formats_strapi", "placeholder", "thumbhash")


@dataclass(frozen=True)
class Selection:
    """Which photos: by `pp_photo` id, by batch, or by the entity they belong to (type and id); all of it."""

    photos: tuple[int, ...] = ()
    batches: tuple[str, ...] = ()
    entities: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class RowPlan:
    """What happens to one row: `before` are the cells that are emptied (or all of them), value and class."""

    source: str
    row_id: str
    row_key: str
    batch: str | None
    act: str
    before: Mapping[str, tuple[str | None, str]]
    photos: Mapping[str, str]
    """By id (as text), the photos' states."""

    @property
    def cells(self) -> list[Cell]:
        """What of the row does not count as naming its photos any more."""
        if self.act == "set_null":
            return [(self.source, self.row_key, column) for column in self.before]
        return [(self.source, self.row_key, None)]


@dataclass(frozen=True)
class ObjectPlan:
    """One object that goes; size in bytes, checksums in hex."""

    key: str
    checksum: str
    bytes: int
    source_sha256: str
    variant: str


@dataclass(frozen=True)
class DeletionPlan:
    """What goes, and what stays although it was asked for.

    Attributes:
        bucket: The bucket of all objects.
        rows: Rows that are changed (or left, if their source says so).
        objects: Objects that are deleted.
        shared: By content, who else needs it, so that its objects stay.
        blocked: By photo id (as text), why the photo is not deleted at all.
        local_files: Local files of the photos, which stay where they are.
        round: How many deletions of exactly this have ended already. Their rows were migrated again, or they
            were taken back, or left everything.
    """

    bucket: str
    rows: tuple[RowPlan, ...]
    objects: tuple[ObjectPlan, ...]
    shared: Mapping[str, str]
    blocked: Mapping[str, str]
    local_files: tuple[str, ...]
    round: int = 0

    @property
    def token(self) -> str:
        """A digest of all of it: 32 hex digits."""
        said = asdict(self)
        if not self.round:
            del said["round"]  # The first one has the token that versions without rounds gave it.
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def photos(self) -> int:
        """How many photos are deleted."""
        return sum(len(row.photos) for row in self.rows)

    @property
    def bytes(self) -> int:
        """How many bytes are deleted from the bucket (as versions they stay until they expire)."""
        return sum(each.bytes for each in self.objects)


def plan_deletion(database: Database, config: PipelineConfig, selection: Selection) -> DeletionPlan:
    """Return what deleting those photos would do, by a new inventory.

    Raises:
        ConfigurationError: nothing is selected, or there is no such photo.
        InfrastructureError: the inventory cannot be taken.
    """
    take_inventory(database, config)
    hash_matched_files(database, config)
    return _in_its_round(database, _Planner(database, config).plan(selection))


def _in_its_round(database: Database, plan: DeletionPlan) -> DeletionPlan:
    """Return the plan with the first token that no deletion has ended with.

    One that is under way is gone on with: it has changed nothing yet, or the plan would be another.
    """
    columns = deletion_table.c
    with database.read() as connection:
        while True:
            query = sa.select(columns.state).where(columns.token == plan.token)
            if connection.execute(query).scalar() in (None, DeletionState.RUNNING):
                return plan
            plan = replace(plan, round=plan.round + 1)


class _Planner:
    def __init__(self, database: Database, config: PipelineConfig) -> None:
        self._database = database
        self._config = config
        self._cells = CellReader(config)
        self._blocked: dict[str, str] = {}

    def plan(self, selection: Selection) -> DeletionPlan:
        chosen = self._chosen(selection)
        by_row: dict[str, list[Any]] = defaultdict(list)
        for photo in chosen:
            by_row[photo.row_id].append(photo)
        rows = tuple(plan for photos in by_row.values() if (plan := self._row(photos)) is not None)
        going = {int(photo) for row in rows for photo in row.photos}
        contents = {photo.sha256 for photo in chosen if photo.id in going and photo.sha256}
        shared = self._shared(chosen, going, contents, rows)
        return DeletionPlan(
            bucket=self._config.store.bucket,
            rows=rows,
            objects=self._objects(contents - shared.keys()),
            shared=shared,
            blocked=self._blocked,
            local_files=self._local_files([photo for photo in chosen if photo.id in going]),
        )

    # --- which photos

    def _chosen(self, selection: Selection) -> list[Any]:
        """Return the selected photos, and the resized copies of those that are their row's primary."""
        photo = photo_table.c
        conditions = [
            *([photo.id.in_(selection.photos)] if selection.photos else []),
            *([photo.batch.in_(selection.batches)] if selection.batches else []),
            *(
                sa.and_(photo.entity_type == kind, photo.entity_id == name)
                for kind, name in selection.entities
            ),
        ]
        if not conditions:
            raise ConfigurationError("a deletion", cause="no photo is named", fix="say what to delete")
        query = sa.select(photo_table).where(
            sa.or_(*conditions), photo.source.is_not(None), photo.state.not_in(GONE)
        )
        with self._database.read() as connection:
            found = {row.id: row for row in connection.execute(query)}
            missing = sorted(set(selection.photos) - found.keys())
            if missing or not found:
                raise ConfigurationError(
                    f"photo {missing[0]}" if missing else "the selection",
                    cause="there is no such photo (any more)",
                    fix="ids are in the report's photos.csv",
                )
            leaders = [row.row_id for row in found.values() if self._leads(row)]
            for chunk in _chunks(leaders):
                copies = sa.select(photo_table).where(
                    photo.row_id.in_(chunk), photo.role == "variant", photo.state.not_in(GONE)
                )
                found |= {row.id: row for row in connection.execute(copies)}
        return [found[number] for number in sorted(found)]

    def _leads(self, photo: Any) -> bool:
        return bool(self._config.source(photo.source).primary_field == photo.field)

    # --- their rows

    def _row(self, photos: list[Any]) -> RowPlan | None:
        source = self._config.source(photos[0].source)
        address = RowAddress.of(self._database, source, photos[0].row_key)
        every = [column.name for column in address.table.columns]
        with self._database.read() as connection:
            current = address.read(connection, every, lock=False)
            reason = self._objection(connection, source, address, photos, current)
        if reason is not None or current is None:
            self._blocked |= {str(photo.id): reason or "" for photo in photos}
            return None
        names = every if source.on_delete == "delete_row" else self._emptied(source, photos, current)
        return RowPlan(
            source=source.name,
            row_id=photos[0].row_id,
            row_key=photos[0].row_key,
            batch=photos[0].batch,
            act=source.on_delete,
            before={} if source.on_delete == "leave" else {name: raw.encode(current[name]) for name in names},
            photos={str(photo.id): photo.state for photo in photos},
        )

    def _objection(
        self,
        connection: Connection,
        source: Source,
        address: RowAddress,
        photos: Sequence[Any],
        current: Mapping[str, RawValue] | None,
    ) -> str | None:
        """Return why these photos of the row cannot be deleted, or None."""
        if current is None:
            return "its row was deleted meanwhile; run an inventory"
        if source.on_delete == "leave":
            return None
        if source.on_delete == "delete_row":
            return self._others_in_row(connection, photos) or rows_that_go_along(connection, address)
        for photo in photos:
            field = source.field(photo.field)
            if photo.column is None or field.embedded:
                return (
                    f"{photo.field} is no column that could be emptied: edit the row, or declare on_delete: "
                    "delete_row (or leave)"
                )
        for name in self._emptied(source, photos, current):
            if not address.table.columns[name].nullable:
                return f"column {name!r} must not be empty: declare on_delete: delete_row (or leave)"
            if name in source.protect:
                return f"column {name!r} is protected: declare on_delete: leave, and empty it yourself"
        return None

    def _others_in_row(self, connection: Connection, photos: Sequence[Any]) -> str | None:
        photo = photo_table.c
        query = sa.select(photo.id).where(
            photo.row_id == photos[0].row_id,
            photo.state.not_in(GONE),
            photo.id.not_in([each.id for each in photos]),
        )
        other = connection.execute(query.limit(1)).scalar()
        return None if other is None else f"its row would go, and also has photo {other}: name that one, too"

    def _emptied(self, source: Source, photos: Sequence[Any], current: Mapping[str, RawValue]) -> list[str]:
        """Return the columns that name the photos' objects or show them blurred, and are not empty."""
        names = [photo.column for photo in photos if photo.column is not None]
        if any(self._leads(photo) for photo in photos):
            names += [
                column
                for column, quantity in source.rewrite.write_back.items()
                if quantity in _TELLING or quantity.startswith("url.")
            ]
        return [name for name in dict.fromkeys(names) if current[name] is not None]

    # --- their objects

    def _shared(
        self,
        chosen: Sequence[Any],
        going: Collection[int],
        contents: Collection[str],
        rows: Sequence[RowPlan],
    ) -> dict[str, str]:
        """Return, by content, who needs its objects beside the photos that go."""
        files = {photo.file_id: photo.sha256 for photo in chosen if photo.id in going and photo.file_id}
        spelled = {(photo.row_id, photo.field, photo.sha256) for photo in chosen if photo.id in going}
        with self._database.read() as connection:
            shared = other_owners(connection, contents, going, files=files, earlier=spelled)
        touched = [cell for row in rows for cell in row.cells]
        looked_for = set(contents) - shared.keys()
        return shared | mentioned_contents(self._database, self._config, looked_for, but=touched)

    def _objects(self, contents: Collection[str]) -> tuple[ObjectPlan, ...]:
        columns, found = object_table.c, []
        with self._database.read() as connection:
            for chunk in _chunks(sorted(contents)):
                query = sa.select(object_table).where(
                    columns.bucket == self._config.store.bucket,
                    columns.source_sha256.in_(chunk),
                    columns.uploaded_at.is_not(None),
                    columns.deleted_at.is_(None),
                )
                found += [
                    ObjectPlan(row.key, row.checksum, row.bytes, row.source_sha256, row.variant)
                    for row in connection.execute(query.order_by(columns.key))
                ]
        return tuple(found)

    def _local_files(self, photos: Sequence[Any]) -> tuple[str, ...]:
        """Return where the photos' local files are; in the trash of the clean-up, too."""
        known = {f"{photo.root}/{photo.path}": photo.file_id for photo in photos if photo.path}
        trash = trash_table.c
        with self._database.read() as connection:
            for chunk in _chunks(sorted({each for each in known.values() if each})):
                query = sa.select(trash.root, trash.path).where(
                    trash.file_id.in_(chunk), trash.state == TrashState.TRASHED
                )
                for row in connection.execute(query):
                    known[f"{row.root}/{row.path} (in the trash)"] = known.pop(f"{row.root}/{row.path}", "")
        return tuple(sorted(known))


def other_owners(
    connection: Connection,
    contents: Collection[str],
    going: Collection[int],
    *,
    files: Mapping[str, str] | None = None,
    earlier: Collection[tuple[str, str, str]] = (),
) -> dict[str, str]:
    """Return, by content, a photo that needs its objects and is neither deleted nor among `going`.

    A photo that a row no longer shows still counts: the row may show it again.

    Args:
        connection: In any transaction.
        contents: SHA-256, hex.
        going: Photos that do not count.
        files: Content by file id: a photo of such a file that is not hashed yet counts as well.
        earlier: Row, field and content of photos that go: what the same field showed of it before, spelled
            otherwise, does not count.
    """
    photo = photo_table.c
    found: dict[str, str] = {}
    standing = [photo.source.is_not(None), photo.state != PhotoState.DELETED]
    for chunk in _chunks(sorted(contents)):
        query = sa.select(photo_table).where(photo.sha256.in_(chunk), *standing)
        for row in connection.execute(query.order_by(photo.id)):
            again = row.state == PhotoState.SUPERSEDED and (row.row_id, row.field, row.sha256) in earlier
            if row.id not in going and not again:
                found.setdefault(str(row.sha256), f"photo {row.id} ({row.source} {row.row_key} {row.field})")
    for chunk in _chunks(sorted(files or {})):
        query = sa.select(photo_table).where(photo.file_id.in_(chunk), photo.sha256.is_(None), *standing)
        for row in connection.execute(query.order_by(photo.id)):
            if row.id not in going:
                found.setdefault((files or {})[row.file_id], f"photo {row.id}, which is not hashed yet")
    return found


def _chunks(values: Sequence[Any]) -> list[list[Any]]:
    return [list(values[start : start + _IDS_PER_QUERY]) for start in range(0, len(values), _IDS_PER_QUERY)]
