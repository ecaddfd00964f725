"""Deletes photos as their confirmed plan says: first their rows' references, then what is theirs alone in S3.

In this order, so that at no instant a row names an object that is gone. What is confirmed is written down
before the first change; an interrupted deletion goes on when the same token is confirmed again. Objects are
announced in `pp_object` before they are deleted: whoever needs one from then on waits (`proof`), and whoever
needed it before shows in the catalog, and keeps it. How it is taken back is `deletion_undo`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from photo_pipeline.core import audit
from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import ROW_LOCK_TIMEOUT_S, Database
from photo_pipeline.core.catalog.faults import Fault, fault_of, one_line
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
from photo_pipeline.core.cleanup.deletion_plan import DeletionPlan, Selection, other_owners, plan_deletion
from photo_pipeline.core.cleanup.mentions import Cell, mentioned_contents
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.ledger import RowRefusedError
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.deletion import delete_object, keeps_versions, undelete
from photo_pipeline.core.storage.listing import list_versions
from photo_pipeline.core.storage.objects import Deleted
from photo_pipeline.core.storage.store import PhotoStore

_ROWS = 100
_CONTENTS = 50


@dataclass
class DeletionOutcome:
    """What a deletion has done by now; `kept` says of rows and objects that stay, why."""

    token: str
    state: str
    rows: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    can_be_undone: bool = True
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def has_findings(self) -> bool:
        """Whether something that the plan named stays."""
        return bool(self.kept)


def confirm_deletion(
    database: Database,
    config: PipelineConfig,
    store: PhotoStore,
    token: str,
    selection: Selection | None = None,
    *,
    run: str,
    progress: Progress = no_progress,
) -> DeletionOutcome:
    """Do what the plan with that token says, or go on with it if it was begun.

    Args:
        database: The application's database.
        config: The configuration.
        store: The bucket.
        token: Of the plan.
        selection: What was planned; may be left out to go on with a deletion that was begun.
        run: The id of this run.
        progress: Told after each row and object.

    Raises:
        ConfigurationError: the token belongs to nothing that was begun, and no selection is given.
        GuardRefusedError: something has changed since the plan (nothing is done then), or a run works on a
            batch of the photos (what is done stays; confirm again to go on).
        StoreError: the store cannot be asked; confirm again to go on.
    """
    begun = _begun(database, token)
    if begun is None:
        if selection is None:
            raise ConfigurationError(
                f"token {token!r}",
                cause="no deletion was begun with it",
                fix="name the photos as for the plan",
            )
        _begin(database, _same_plan(database, config, selection, token), run=run)
    elif begun.state != DeletionState.RUNNING:
        return deletion_outcome(database, token)
    work = _Deletion(database, config, store, token, run=run, progress=progress)
    work.change_rows()
    work.delete_objects()
    if begun is not None:
        # The run that died may have been about to look for rows that name what it had just deleted.
        work.look_again()
    work.end()
    return deletion_outcome(database, token)


def unfinished_deletions(database: Database) -> list[str]:
    """Return the tokens of deletions that were begun and did not end."""
    columns = deletion_table.c
    with database.read() as connection:
        query = sa.select(columns.token).where(columns.state == DeletionState.RUNNING)
        return list(connection.execute(query.order_by(columns.started_at)).scalars())


def deletion_outcome(database: Database, token: str) -> DeletionOutcome:
    """Return what the deletion with that token has done by now."""
    rows, objects = deleted_row_table.c, deleted_object_table.c
    with database.read() as connection:
        begun = connection.execute(sa.select(deletion_table).where(deletion_table.c.token == token)).one()
        changed = connection.execute(sa.select(deleted_row_table).where(rows.token == token)).all()
        gone = connection.execute(sa.select(deleted_object_table).where(objects.token == token)).all()
    done = [each for each in gone if each.state == DeletionState.DONE]
    kept = {f"{e.source} {e.row_key}": e.reason for e in changed if e.state == DeletionState.KEPT}
    kept |= {f"s3://{e.bucket}/{e.key}": e.reason for e in gone if e.state == DeletionState.KEPT}
    return DeletionOutcome(
        token=token,
        state=begun.state,
        rows=dict(Counter(each.state for each in changed)),
        objects=dict(Counter(each.state for each in gone)),
        bytes=sum(each.bytes for each in done),
        can_be_undone=all(each.marker_id is not None for each in done),
        kept=kept,
    )


def _same_plan(database: Database, config: PipelineConfig, selection: Selection, token: str) -> DeletionPlan:
    """Return the plan as it is now.

    Raises:
        GuardRefusedError: it is another one than the token's.
    """
    try:
        plan = plan_deletion(database, config, selection)
        changed = None if plan.token == token else "it is not of what would be deleted now"
    except ConfigurationError as error:
        plan, changed = None, f"{error.thing}: {error.cause}"
    if plan is None or changed is not None:
        raise GuardRefusedError(
            f"token {token!r}",
            cause=f"something has changed since the plan ({changed})",
            fix="plan the deletion again, read what it says, and confirm that",
        )
    return plan


def _begun(database: Database, token: str) -> Any | None:
    with database.read() as connection:
        query = sa.select(deletion_table).where(deletion_table.c.token == token)
        return connection.execute(query).one_or_none()


def _begin(database: Database, plan: DeletionPlan, *, run: str) -> None:
    """Write down what was confirmed, before anything is changed."""
    token, pending = plan.token, DeletionState.PENDING
    rows = [
        {
            "token": token,
            "row_id": row.row_id,
            "source": row.source,
            "row_key": row.row_key,
            "act": row.act,
            "before": dict(row.before),
            "photos": dict(row.photos),
            "state": pending,
        }
        for row in plan.rows
    ]
    objects = [
        {
            "token": token,
            "bucket": plan.bucket,
            "key": each.key,
            "checksum": each.checksum,
            "bytes": each.bytes,
            "source_sha256": each.source_sha256,
            "state": pending,
        }
        for each in plan.objects
    ]
    with database.write() as connection:
        connection.execute(
            sa.insert(deletion_table).values(
                token=token, state=DeletionState.RUNNING, plan=asdict(plan), run=run, started_at=utc_now()
            )
        )
        for table, values in ((deleted_row_table, rows), (deleted_object_table, objects)):
            if values:
                connection.execute(sa.insert(table), values)
        audit.record(
            connection,
            action="delete_begin",
            subject=f"{plan.photos} photos",
            details={"token": token, "rows": len(rows), "objects": len(objects), "bytes": plan.bytes},
            run=run,
        )


class _Deletion:
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

    # --- rows

    def change_rows(self) -> None:
        by_batch: dict[str | None, list[Any]] = defaultdict(list)
        rows = self._in_state(deleted_row_table, DeletionState.PENDING)
        batches = self._batches([int(photo) for row in rows for photo in row.photos])
        for row in rows:
            by_batch[batches.get(int(next(iter(row.photos))))].append(row)
        done = 0
        for batch, members in by_batch.items():
            for start in range(0, len(members), _ROWS):
                chunk = members[start : start + _ROWS]
                if batch is None:
                    self._change_chunk(chunk, None)
                else:
                    with BatchLease(self._database, batch, run=self._run) as lease:
                        self._change_chunk(chunk, lease)
                done += len(chunk)
                self._progress("rows", done, len(rows))

    def _batches(self, photos: Sequence[int]) -> dict[int, str]:
        columns = photo_table.c
        found: dict[int, str] = {}
        with self._database.read() as connection:
            for start in range(0, len(photos), 500):
                query = sa.select(columns.id, columns.batch).where(
                    columns.id.in_(photos[start : start + 500]), columns.batch.is_not(None)
                )
                found |= {row.id: row.batch for row in connection.execute(query)}
        return found

    def _change_chunk(self, rows: Sequence[Any], lease: BatchLease | None) -> None:
        def change(connection: Connection) -> None:
            if lease is not None:
                lease.hold(connection)
            changed = []
            for row in rows:
                reason = self._change_row(connection, row)
                self._note_row(connection, row, reason)
                if reason is None:
                    changed.append([row.source, row.row_key, row.act, sorted(row.before)])
            if changed:
                audit.record(
                    connection,
                    action="delete_rows",
                    subject=f"{len(changed)} rows",
                    batch=lease.batch if lease is not None else None,
                    details={"token": self._token, "rows": changed},
                    run=self._run,
                )

        self._database.transact(change, lock_timeout_s=ROW_LOCK_TIMEOUT_S)

    def _change_row(self, connection: Connection, row: Any) -> str | None:
        """Do to one row what was confirmed; return why it was left instead, or None."""
        if row.act == "leave":
            return None
        try:
            with connection.begin_nested():
                self._swap(connection, row)
        except (RowRefusedError, ConfigurationError, DBAPIError) as error:
            if isinstance(error, DBAPIError) and fault_of(error) in (Fault.AGAIN, Fault.DATABASE):
                raise
            return one_line(error) if isinstance(error, DBAPIError) else str(error)
        return None

    def _swap(self, connection: Connection, row: Any) -> None:
        address = RowAddress.of(self._database, self._config.source(row.source), row.row_key)
        before = {name: raw.decode(*value) for name, value in row.before.items()}
        gone = [name for name in before if name not in address.table.columns]
        if gone:
            raise RowRefusedError(f"column {gone[0]!r} no longer exists")
        current = address.read(connection, list(before))
        if current is None or not _same(current, before):
            raise RowRefusedError("the application changed it since the plan")
        if row.act == "delete_row":
            _delete_row(connection, address, before)
        elif before and not ledger.swap(
            connection, address, before=before, after=dict.fromkeys(before, None)
        ):
            raise RowRefusedError("the application changed it since the plan")
        elif any((address.read(connection, list(before)) or {}).values()):
            raise RowRefusedError("the database did not keep it empty (a trigger?)")

    def _note_row(self, connection: Connection, row: Any, reason: str | None) -> None:
        now, columns = utc_now(), deleted_row_table.c
        connection.execute(
            sa.update(deleted_row_table)
            .where(columns.token == self._token, columns.row_id == row.row_id)
            .values(state=DeletionState.KEPT if reason else DeletionState.DONE, reason=reason, at=now)
        )
        if reason is None:
            connection.execute(
                sa.update(photo_table)
                .where(photo_table.c.id.in_([int(photo) for photo in row.photos]))
                .values(state=PhotoState.DELETED, error_type=None, error_detail=None, updated_at=now)
            )

    # --- objects

    def delete_objects(self) -> None:
        by_content: dict[str, list[Any]] = defaultdict(list)
        for each in self._objects_in(DeletionState.PENDING):
            by_content[each.source_sha256].append(each)
        contents, done = sorted(by_content), 0
        for start in range(0, len(contents), _CONTENTS):
            chunk = contents[start : start + _CONTENTS]
            self._delete_chunk({name: by_content[name] for name in chunk})
            done += len(chunk)
            self._progress("photos in the bucket", done, len(contents))

    def look_again(self) -> None:
        """Bring back what rows name of all that this deletion has deleted, by whichever run."""
        by_content: dict[str, list[Any]] = defaultdict(list)
        for each in self._objects_in(DeletionState.DONE):
            by_content[each.source_sha256].append(each)
        self._bring_back_what_is_named(by_content, by_content.keys())

    def _objects_in(self, state: DeletionState) -> list[Any]:
        return self._in_state(deleted_object_table, state)

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
                deleted = Deleted(row.key, "deleted", row.version_id, row.marker_id)
                back = row.state == DeletionState.DONE and undelete(self._store, deleted)
                if back:
                    self._keep(each, f"{where} began to name it meanwhile")

    def _object(self, each: Any) -> Any:
        with self._database.read() as connection:
            query = sa.select(deleted_object_table).where(self._is_it(each))
            return connection.execute(query).one()

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
                    .values(deleted_at=now if state is DeletionState.DONE else None)
                )
            audit.record(
                connection,
                action="delete_object" if state is DeletionState.DONE else "keep_object",
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

    def end(self) -> None:
        with self._database.write() as connection:
            connection.execute(
                sa.update(deletion_table)
                .where(deletion_table.c.token == self._token)
                .values(state=DeletionState.DONE, ended_at=utc_now())
            )

    def _in_state(self, table: sa.Table, state: DeletionState) -> list[Any]:
        query = sa.select(table).where(table.c.token == self._token, table.c.state == state)
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(*table.primary_key)))


def _is_one_of(table: sa.Table, bucket: str, keys: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.bucket == bucket, table.c.key.in_(keys))


def _same(current: dict[str, RawValue], before: dict[str, RawValue]) -> bool:
    return all(raw.encode(current[name]) == raw.encode(value) for name, value in before.items())


def _delete_row(connection: Connection, address: RowAddress, before: dict[str, RawValue]) -> None:
    columns = address.table.columns
    same = [raw.equals(columns[name], value, is_sqlite=address.is_sqlite) for name, value in before.items()]
    done = connection.execute(sa.delete(address.table).where(*address.condition(), *same))
    if done.rowcount != 1:
        raise RowRefusedError(
            "the application changed it since the plan" if not done.rowcount else "its key finds several rows"
        )
