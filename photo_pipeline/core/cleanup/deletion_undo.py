"""Takes a deletion of photos back: first the objects, then the rows that name them.

Objects come back while the bucket keeps their versions (the lifecycle says how long). A row comes back only
where the application has not written to it since, and only once each object of its photos is there. What a
later deletion is taking, or has taken, is left to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles

from photo_pipeline.core import audit
from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import ROW_LOCK_TIMEOUT_S, Database
from photo_pipeline.core.catalog.faults import refusal
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import (
    DeletionState,
    PhotoState,
    deleted_object_table,
    deleted_row_table,
    deletion_table,
    object_table,
    photo_table,
    utc_now,
)
from photo_pipeline.core.cleanup.cell_texts import as_text
from photo_pipeline.core.cleanup.orphans_keys import ANY, mentions
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.ledger import RowRefusedError
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import Photo, row_primaries
from photo_pipeline.core.migration.proof import is_of_content, is_proven_object
from photo_pipeline.core.storage.deletion import undelete
from photo_pipeline.core.storage.objects import Deleted
from photo_pipeline.core.storage.store import PhotoStore

_SHOWS_OBJECTS = (PhotoState.UPLOADED, PhotoState.MIGRATED, PhotoState.STORED)


@dataclass
class Undone:
    """What an undo brought back; `left` says of each row and object that it did not, why."""

    rows: int = 0
    objects: int = 0
    left: dict[str, str] = field(default_factory=dict)


def undo_deletion(
    database: Database, config: PipelineConfig, store: PhotoStore, token: str, *, run: str
) -> Undone:
    """Bring back what the deletion with that token took away. Safe to repeat.

    Raises:
        ConfigurationError: there was no such deletion.
        GuardRefusedError: it has not ended yet.
        StoreError: the store cannot be asked; run it again to go on.
    """
    with database.read() as connection:
        begun = connection.execute(
            sa.select(deletion_table).where(deletion_table.c.token == token)
        ).one_or_none()
    if begun is None:
        raise ConfigurationError(
            f"token {token!r}",
            cause="no photos were deleted with it",
            fix="see `photo-pipeline audit show` for delete_begin",
        )
    if begun.state == DeletionState.RUNNING:
        raise GuardRefusedError(
            f"token {token!r}",
            cause="its deletion has not ended",
            fix=f"finish it first: photo-pipeline delete --confirm {token}",
        )
    return _Undo(database, config, store, token, run=run).run()


class _Undo:
    def __init__(
        self, database: Database, config: PipelineConfig, store: PhotoStore, token: str, *, run: str
    ) -> None:
        self._database = database
        self._config = config
        self._store = store
        self._token = token
        self._run = run
        self._naming = ObjectNaming(config, database)
        self._outcome = Undone()

    def run(self) -> Undone:
        missing = {each.source_sha256: each.key for each in self._objects() if not self._object_back(each)}
        for row in self._rows():
            self._database.transact(
                lambda connection, row=row: self._row_back(connection, row, missing),  # type: ignore[misc]
                lock_timeout_s=ROW_LOCK_TIMEOUT_S,
            )
        if not self._outcome.left:
            with self._database.write() as connection:
                connection.execute(
                    sa.update(deletion_table)
                    .where(deletion_table.c.token == self._token)
                    .values(state=DeletionState.UNDONE, ended_at=utc_now())
                )
        return self._outcome

    def _objects(self) -> list[Any]:
        columns = deleted_object_table.c
        with self._database.read() as connection:
            query = sa.select(deleted_object_table).where(
                columns.token == self._token, columns.state == DeletionState.DONE
            )
            return list(connection.execute(query.order_by(columns.key)))

    def _rows(self) -> list[Any]:
        columns = deleted_row_table.c
        with self._database.read() as connection:
            query = sa.select(deleted_row_table).where(
                columns.token == self._token, columns.state == DeletionState.DONE
            )
            return list(connection.execute(query.order_by(columns.source, columns.row_key)))

    def _object_back(self, each: Any) -> bool:
        """Bring one object back; return whether the bucket has it, by whomever."""
        with self._database.read() as connection:
            seen = self._known(connection, each, lock=False)
            reason = self._taken_by_another(connection, each, seen)
        if reason is None and not self._is_stored(each):
            reason = (
                "the bucket has no version of it (any more)"
                if each.marker_id is None or self._store.head(each.key) is None
                else "something else is stored there by now"
            )
        if reason is None:
            reason = self._database.transact(lambda connection: self._note_object(connection, each, seen))
        if reason is not None:
            self._outcome.left[f"s3://{each.bucket}/{each.key}"] = reason
            return False
        self._outcome.objects += 1
        return True

    def _is_stored(self, each: Any) -> bool:
        if undelete(self._store, Deleted(each.key, "deleted", each.version_id, each.marker_id)):
            return True
        found = self._store.head(each.key)
        return found is not None and found.sha256 in (None, each.checksum) and found.size == each.bytes

    def _known(self, connection: Connection, each: Any, *, lock: bool) -> Any | None:
        columns = object_table.c
        query = sa.select(columns.checksum, columns.deleted_at).where(
            columns.bucket == each.bucket, columns.key == each.key
        )
        return connection.execute(query.with_for_update() if lock else query).one_or_none()

    def _taken_by_another(self, connection: Connection, each: Any, known: Any | None) -> str | None:
        """Return why the object is not this deletion's to bring back, or None."""
        if known is not None and known.checksum != each.checksum:
            return "something else is stored there by now"
        columns = deleted_object_table.c
        query = sa.select(columns.token).where(
            columns.bucket == each.bucket,
            columns.key == each.key,
            columns.token != self._token,
            columns.state == DeletionState.PENDING,
        )
        other = connection.execute(query.limit(1)).scalar()
        if other is None:
            return None
        return (
            f"another deletion is taking it: let that finish first (photo-pipeline delete --confirm {other})"
        )

    def _note_object(self, connection: Connection, each: Any, seen: Any | None) -> str | None:
        """Record that the object is back, if nobody has begun to delete it since it was `seen`."""
        # Locked: who announces a deletion of it does so before, and shows here, or after, and looks again.
        known = self._known(connection, each, lock=True)
        reason = self._taken_by_another(connection, each, known)
        if reason is not None:
            return reason
        if known is not None and known.deleted_at not in (None, seen.deleted_at if seen else None):
            return "it was deleted again meanwhile: run this again"
        columns, row = object_table.c, deleted_object_table.c
        connection.execute(
            sa.update(deleted_object_table)
            .where(row.token == self._token, row.bucket == each.bucket, row.key == each.key)
            .values(state=DeletionState.UNDONE, at=utc_now())
        )
        connection.execute(
            sa.update(object_table)
            .where(columns.bucket == each.bucket, columns.key == each.key, columns.checksum == each.checksum)
            .values(deleted_at=None, marked_at=None)
        )
        self._record(connection, "undelete_object", f"s3://{each.bucket}/{each.key}")
        return None

    def _row_back(self, connection: Connection, row: Any, missing: Mapping[str, str]) -> None:
        photos = [int(photo) for photo in row.photos]
        columns = photo_table.c
        query = sa.select(columns.id, columns.sha256).where(columns.id.in_(photos))
        found = {each.id: each for each in connection.execute(query)}
        lost = [missing[each.sha256] for each in found.values() if each.sha256 in missing]
        reason = f"{lost[0]} is not back" if lost else self._what_it_lacks(connection, row)
        reason = reason or self._restored(connection, row)
        if reason is not None:
            self._outcome.left[f"{row.source} {row.row_key}"] = reason
            return
        for photo, state in row.photos.items():
            connection.execute(
                sa.update(photo_table)
                .where(columns.id == int(photo), columns.state == PhotoState.DELETED)
                .values(state=state, updated_at=utc_now())
            )
        rows = deleted_row_table.c
        connection.execute(
            sa.update(deleted_row_table)
            .where(rows.token == self._token, rows.row_id == row.row_id)
            .values(state=DeletionState.UNDONE, at=utc_now())
        )
        self._record(connection, "undelete_row", f"{row.source} {row.row_key}")
        self._outcome.rows += 1

    def _what_it_lacks(self, connection: Connection, row: Any) -> str | None:
        """Return why the row must not name its photos' objects again, or None.

        Also what this deletion left, because others needed it, may have gone with the last of those.
        They stay locked, so that no deletion announces them before this row counts again.
        """
        names = list(Photo.__dataclass_fields__)
        query = sa.select(*(photo_table.c[name] for name in names)).where(
            photo_table.c.id.in_([int(photo) for photo in row.photos])
        )
        before = [Photo(*each) for each in connection.execute(query)]
        photos = [replace(each, state=row.photos[str(each.id)]) for each in before]
        shown = [each for each in photos if each.state in _SHOWS_OBJECTS and each.sha256]
        primary = next((each for each in shown if self._leads(each)), None)
        if primary is None:
            primary = row_primaries(self._database, self._config, shown).get(row.row_id)
        wanted = [each for photo in shown for each in self._naming.needed(photo, primary)]
        columns = object_table.c
        query = sa.select(object_table).where(
            columns.bucket == self._store.bucket, columns.key.in_([each.key for each in wanted])
        )
        known = {each.key: each for each in connection.execute(query.with_for_update())}
        other = [
            each.key for each in wanted if each.key in known and not is_of_content(each, known[each.key])
        ]
        if other:
            return f"{other[0]} holds another file by now"
        gone = [each.key for each in wanted if not is_proven_object(each, known.get(each.key))]
        gone = gone or self._named_but_deleted(connection, row)
        return f"{gone[0]} was deleted as well, later: take that deletion back first" if gone else None

    def _named_but_deleted(self, connection: Connection, row: Any) -> list[str]:
        """Return the keys in the row's earlier texts whose objects have been deleted since.

        The row may have named what the catalog does not count as its own: a URL that the application copied.
        """
        texts = (as_text(raw.decode(*value)) for value in row.before.values())
        named = {mention for text in texts if text is not None for mention in mentions(text)}
        columns = object_table.c
        query = sa.select(object_table).where(
            columns.bucket == self._store.bucket,
            columns.source_sha256.in_({mention.sha256 for mention in named}),
        )
        wanted = {(mention.recipe, mention.file) for mention in named}
        return [
            each.key
            for each in connection.execute(query.order_by(columns.key).with_for_update())
            if each.deleted_at is not None
            and wanted & {(recipe, file) for recipe in (each.recipe, ANY) for file in (_file(each.key), ANY)}
        ]

    def _leads(self, photo: Photo) -> bool:
        return bool(self._config.source(photo.source).primary_field == photo.field)

    def _restored(self, connection: Connection, row: Any) -> str | None:
        """Set one row's cells back; return why that was not possible, or None."""
        if row.act == "leave":
            return self._taken_later(connection, row)
        address = RowAddress.of(self._database, self._config.source(row.source), row.row_key)
        before = {name: raw.decode(*value) for name, value in row.before.items()}
        try:
            with connection.begin_nested():
                if row.act == "delete_row":
                    self._insert(connection, address, before)
                elif before and not ledger.swap(
                    connection, address, before=dict.fromkeys(before, None), after=before
                ):
                    raise RowRefusedError("the application wrote to it since, or deleted it")
                # Only now: a later deletion that is changing the row has let go of it, and shows what it did.
                if later := self._taken_later(connection, row):
                    raise RowRefusedError(later)
        except (RowRefusedError, DBAPIError) as error:
            return refusal(error)
        return None

    def _taken_later(self, connection: Connection, row: Any) -> str | None:
        """Return that a deletion which was begun later has changed the row, or will; else None.

        It has emptied what this one would fill again, or its photos count as deleted by it.
        """
        rows, deletions = deleted_row_table.c, deletion_table.alias()
        ours = sa.select(deletions.c.started_at).where(deletions.c.token == self._token).scalar_subquery()
        query = (
            sa.select(rows.token, rows.state, rows.before, rows.photos)
            .join(deletion_table, deletion_table.c.token == rows.token)
            .where(rows.row_id == row.row_id, rows.token != self._token, deletion_table.c.started_at > ours)
            .order_by(deletion_table.c.started_at.desc())
            .with_for_update(of=deleted_row_table)
        )
        for later in connection.execute(query).all():
            same = later.photos.keys() & row.photos.keys() or later.before.keys() & row.before.keys()
            if same and later.state in (DeletionState.PENDING, DeletionState.DONE):
                return f"it was deleted again, later: take that deletion back first ({later.token})"
        return None

    def _insert(self, connection: Connection, address: RowAddress, before: dict[str, RawValue]) -> None:
        if address.read(connection, []) is not None:
            raise RowRefusedError("a row with its key is there by now")
        columns = address.table.columns
        values = {
            name: raw.write_expression(columns[name], value, is_sqlite=address.is_sqlite)
            for name, value in before.items()
            if columns[name].computed is None
        }
        numbered = any(columns[name].identity is not None for name in values)
        row: sa.Select[Any] = (_OverridingSelect if numbered else sa.Select)(*values.values())
        insert = sa.insert(address.table).from_select(list(values), row, include_defaults=False)
        connection.execute(insert)

    def _record(self, connection: Connection, action: str, subject: str) -> None:
        audit.record(
            connection, action=action, subject=subject, details={"token": self._token}, run=self._run
        )


class _OverridingSelect(sa.Select[Any]):
    """What to insert where the database numbers the rows (GENERATED ALWAYS AS IDENTITY): the old number."""

    inherit_cache = False


@compiles(_OverridingSelect)
def _overriding(select: Any, compiler: Any, **options: Any) -> str:
    return f"OVERRIDING SYSTEM VALUE {compiler.visit_select(select, **options)}"


def _file(key: str) -> str:
    return key.rpartition("/")[2]
