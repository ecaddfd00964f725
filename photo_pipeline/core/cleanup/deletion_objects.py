"""Deletes what is the deleted photos' alone in S3: the second half of `deletion`.

Objects are announced in `pp_object` before they are deleted: whoever needs one from then on waits (`proof`),
and whoever needed it before shows in the catalog, and keeps it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import (
    DeletionState,
    PhotoState,
    deleted_object_table,
    deleted_row_table,
    object_table,
    photo_table,
    utc_now,
)
from photo_pipeline.core.cleanup.deletion_plan import other_owners
from photo_pipeline.core.cleanup.mentions import Cell, mentioned_contents
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.progress import Progress
from photo_pipeline.core.storage.deletion import delete_object, keeps_versions, undelete
from photo_pipeline.core.storage.listing import list_versions
from photo_pipeline.core.storage.objects import Deleted
from photo_pipeline.core.storage.store import PhotoStore

_CONTENTS = 50
_AUDITED = {
    DeletionState.DONE: "delete_object",
    DeletionState.KEPT: "keep_object",
    DeletionState.LOST: "lose_object",
}


class ObjectDeletion:
    """Deletes the objects of one deletion, content by content, once its rows have been changed."""

    def __init__(
        self,
        database: Database,
        config: PipelineConfig,
        store: PhotoStore,
        token: str,
        *,
        run: str,
        progress: Progress,
    ) -> None:
        self._database = database
        self._config = config
        self._store = store
        self._token = token
        self._run = run
        self._progress = progress

    def delete_objects(self) -> None:
        """Delete each object that is still to be deleted; one that others need is kept, with the reason.

        Raises:
            StoreError: the store cannot be asked; confirm again to go on.
        """
        by_content = self._objects_in(DeletionState.PENDING)
        contents, done = sorted(by_content), 0
        for start in range(0, len(contents), _CONTENTS):
            chunk = contents[start : start + _CONTENTS]
            self._delete_chunk({name: by_content[name] for name in chunk})
            done += len(chunk)
            self._progress("photos in the bucket", done, len(contents))

    def look_again(self) -> None:
        """Bring back what rows name of all that this deletion has deleted, by whichever run."""
        by_content = self._objects_in(DeletionState.DONE)
        self._bring_back_what_is_named(by_content, by_content.keys())

    def _objects_in(self, state: DeletionState) -> dict[str, list[Any]]:
        """Return the deletion's objects in that state, by the photo's content."""
        columns = deleted_object_table.c
        query = sa.select(deleted_object_table).where(columns.token == self._token, columns.state == state)
        by_content: dict[str, list[Any]] = defaultdict(list)
        with self._database.read() as connection:
            for each in connection.execute(query.order_by(*deleted_object_table.primary_key)):
                by_content[each.source_sha256].append(each)
        return by_content

    def _delete_chunk(self, by_content: dict[str, list[Any]]) -> None:
        free = self._claim(by_content)
        named = mentioned_contents(self._database, self._config, free, but=self._left_cells())
        for content in free:
            for each in by_content[content]:
                if content in named:
                    self._keep(each, f"{named[content]} names it")
                else:
                    self._delete(each)
        self._bring_back_what_is_named(by_content, free - named.keys())

    def _claim(self, by_content: dict[str, list[Any]]) -> set[str]:
        """Announce the objects that nobody else needs as being deleted; return their contents."""

        def change(connection: Connection) -> dict[str, str]:
            keys = [each.key for objects in by_content.values() for each in objects]
            # Before the owners are looked for: an undo that makes a photo count again holds these rows.
            for start in range(0, len(keys), 500):
                these = _is_one_of(object_table, self._store.bucket, keys[start : start + 500])
                connection.execute(sa.select(object_table.c.key).where(these).with_for_update()).all()
            going = self._deleted_photos(connection, by_content)
            owners = other_owners(connection, by_content, going, earlier=self._earlier(connection, going))
            now = utc_now()
            for content in by_content.keys() - owners.keys():
                keys = [each.key for each in by_content[content]]
                connection.execute(
                    sa.update(object_table)
                    .where(_is_one_of(object_table, self._store.bucket, keys))
                    .values(deleted_at=now)
                )
            return owners

        owners = self._database.transact(change)
        for content, owner in owners.items():
            for each in by_content[content]:
                self._note(each, DeletionState.KEPT, None, f"{owner} needs it", announced=False)
        return by_content.keys() - owners.keys()

    def _deleted_photos(self, connection: Connection, contents: Iterable[str]) -> set[int]:
        photo = photo_table.c
        query = sa.select(photo.id).where(photo.sha256.in_(list(contents)), photo.state == PhotoState.DELETED)
        return set(connection.execute(query).scalars())

    def _earlier(self, connection: Connection, going: Collection[int]) -> set[tuple[str, str, str]]:
        photo = photo_table.c
        query = sa.select(photo.row_id, photo.field, photo.sha256).where(photo.id.in_(going))
        return {(row.row_id, row.field, row.sha256) for row in connection.execute(query)}

    def _left_cells(self) -> list[Cell]:
        """Return the rows that keep naming deleted photos, because their source says so."""
        columns = deleted_row_table.c
        with self._database.read() as connection:
            query = sa.select(columns.source, columns.row_key).where(
                columns.token == self._token, columns.act == "leave"
            )
            return [(row.source, row.row_key, None) for row in connection.execute(query)]

    def _delete(self, each: Any) -> None:
        found = self._store.head(each.key)
        if found is None:
            self._note(each, DeletionState.DONE, self._cut_off(each.key), "it was gone already")
            return
        if found.sha256 not in (None, each.checksum) or found.size != each.bytes:
            self._keep(each, "the store holds other bytes under this key")
            return
        deleted = delete_object(self._store, found)
        if deleted.outcome == "changed":
            self._keep(each, "somebody stored something else there meanwhile")
        else:
            self._note(each, DeletionState.DONE, deleted, None)

    def _cut_off(self, key: str) -> Deleted:
        """Return the delete of which a run that died could not tell, if the bucket keeps versions."""
        if not keeps_versions(self._store):
            return Deleted(key, "absent")
        history = [each for each in list_versions(self._store, key) if each.key == key]
        version = next((each.version_id for each in history if not each.is_marker), None)
        if version is None or not history[0].is_marker:
            return Deleted(key, "absent")
        return Deleted(key, "deleted", version, history[0].version_id)

    def _bring_back_what_is_named(self, by_content: dict[str, list[Any]], gone: Collection[str]) -> None:
        """Look once more: what a row began to name during the delete comes back at once, where it can."""
        named = mentioned_contents(self._database, self._config, gone, but=self._left_cells())
        for content, where in named.items():
            for each in by_content[content]:
                row = self._object(each)
                if row.state != DeletionState.DONE:
                    continue
                deleted = Deleted(row.key, "deleted", row.version_id, row.marker_id)
                if undelete(self._store, deleted):
                    self._keep(each, f"{where} began to name it meanwhile")
                elif self._store.head(row.key) is None:
                    self._lose(each, deleted, where)

    def _object(self, each: Any) -> Any:
        with self._database.read() as connection:
            query = sa.select(deleted_object_table).where(self._is_it(each))
            return connection.execute(query).one()

    def _lose(self, each: Any, deleted: Deleted, where: str) -> None:
        reason = f"{where} began to name it during the delete, and the bucket keeps no version of it"
        self._note(each, DeletionState.LOST, deleted, reason)

    def _keep(self, each: Any, reason: str) -> None:
        self._note(each, DeletionState.KEPT, None, reason)

    def _note(
        self,
        each: Any,
        state: DeletionState,
        deleted: Deleted | None,
        reason: str | None,
        *,
        announced: bool = True,
    ) -> None:
        """Record what became of one object, and end its announcement."""
        now = utc_now()
        with self._database.write() as connection:
            connection.execute(
                sa.update(deleted_object_table)
                .where(self._is_it(each))
                .values(
                    state=state,
                    reason=reason,
                    version_id=deleted.version_id if deleted else None,
                    marker_id=deleted.marker_id if deleted else None,
                    at=now,
                )
            )
            if announced:
                connection.execute(
                    sa.update(object_table)
                    .where(_is_one_of(object_table, each.bucket, [each.key]))
                    .values(deleted_at=None if state is DeletionState.KEPT else now)
                )
            audit.record(
                connection,
                action=_AUDITED[state],
                subject=f"s3://{each.bucket}/{each.key}",
                details={
                    "token": self._token,
                    "sha256": each.checksum,
                    "version": deleted.version_id if deleted else None,
                    "reason": reason,
                },
                run=self._run,
            )

    def _is_it(self, each: Any) -> sa.ColumnElement[bool]:
        columns = deleted_object_table.c
        return sa.and_(columns.token == self._token, columns.bucket == each.bucket, columns.key == each.key)


def _is_one_of(table: sa.Table, bucket: str, keys: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.bucket == bucket, table.c.key.in_(keys))
