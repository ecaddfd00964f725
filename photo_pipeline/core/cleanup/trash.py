"""The trash folder of each root: files go in and come back by one rename, and `pp_trash` knows of each.

What is announced in the database before a rename is settled after a crash by looking where the file is. Which
files go, and when, is `local_files`; the folder is `.photo_pipeline-trash` below the root, so that it is on
the same file system, and only our account may look into it.
"""

import fcntl
import os
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.beneath import (
    UnsafePathError,
    file_at,
    folder_at,
    opened_folder,
    parts_of,
    rename_new,
    sha256_of,
    status_at,
)
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.scan import TRASH_FOLDER
from photo_pipeline.core.catalog.tables import TrashState, file_table, trash_table, utc_now
from photo_pipeline.core.errors import GuardRefusedError, InfrastructureError
from photo_pipeline.core.sources.mapping import Root

UNDER_WAY = (TrashState.MOVING, TrashState.RESTORING, TrashState.PURGING)
# What each state becomes once its rename (or removal) has happened, and what it does otherwise.
_FINISHED = {
    TrashState.MOVING: TrashState.TRASHED,
    TrashState.RESTORING: TrashState.RESTORED,
    TrashState.PURGING: TrashState.PURGED,
}
# How the audit log calls what has happened.
_ACTS = {TrashState.TRASHED: "trash", TrashState.RESTORED: "untrash", TrashState.PURGED: "purge"}


@dataclass(frozen=True)
class Identity:
    """What makes a local file the same one: device aside, what the inventory keeps of it."""

    inode: int
    size: int
    mtime_ns: int
    sha256: str

    def matches(self, info: os.stat_result) -> bool:
        """Return whether the status is this file's; says nothing of its content."""
        return (info.st_ino, info.st_size, info.st_mtime_ns) == (self.inode, self.size, self.mtime_ns)


class NotTouchedError(Exception):
    """The file stays where it is; `outcome` says in a word why, the message in a sentence."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class Trash:
    """The trash folder of one root, held by this process alone while it is open (`Trash.opened`)."""

    def __init__(self, database: Database, root: Root, *, base: int, folder: int, run: str) -> None:
        self._database = database
        self._root = root
        self._base = base
        self._folder = folder
        self._run = run

    @classmethod
    @contextmanager
    def opened(cls, database: Database, root: Root, *, run: str) -> Iterator["Trash"]:
        """Hold the root's trash, having settled what a run that died has left half done.

        Waits while another process holds it; the lock ends with the process that has it.

        Raises:
            InfrastructureError: the root is not there, or takes no folder.
            GuardRefusedError: what is called like the trash folder is none of ours.
        """
        try:
            with opened_folder(root.dir) as base, _trash_folder(root, base) as folder:
                fcntl.flock(folder, fcntl.LOCK_EX)
                trash = cls(database, root, base=base, folder=folder, run=run)
                trash._settle()
                yield trash
        except PermissionError as error:
            raise InfrastructureError(
                f"root {root.name!r} ({root.dir})",
                cause=f"files cannot be moved in it ({error.strerror})",
                fix="run as a user who may write into it",
            ) from error

    # --- in

    def announce(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Write down, before anything is moved, which files are about to be; return the rows' ids.

        Args:
            connection: In a write transaction.
            rows: `file_id`, `path`, the values of `Identity`, `original_key`, `batches` and `photos`.
        """
        now = utc_now()
        values = [
            {
                **row,
                "root": self._root.name,
                "name": uuid.uuid4().hex,
                "state": TrashState.MOVING,
                "run": self._run,
                "trashed_at": now,
            }
            for row in rows
        ]
        if not values:
            return []
        statement = sa.insert(trash_table).returning(trash_table.c.id, sort_by_parameter_order=True)
        return list(connection.execute(statement, values).scalars())

    def move_in(self, row: Any, *, links: bool) -> None:
        """Move one announced file, if it is the one that was announced to the last byte.

        Args:
            row: Of `pp_trash`.
            links: Whether a file with other names (hard links) may be moved, too.

        Raises:
            NotTouchedError: it is another one, or no longer a plain file of the root.
            OSError: the disk fails.
        """
        with _explained(), self._parent(row) as (parent, name), file_at(parent, name) as handle:
            self._require_same(handle, row, links=links)
            known = os.fstat(handle)
            rename_new(parent, name, self._folder, row.name)
            there = status_at(self._folder, row.name)
            if (there.st_dev, there.st_ino) != (known.st_dev, known.st_ino):
                raise NotTouchedError("changed", self._put_back(row))
            os.fsync(self._folder)
            os.fsync(parent)

    def _put_back(self, row: Any) -> str:
        """Give back what took the file's name right before the rename; return what happened, as a reason."""
        what = "something else had its name when it was to be moved"
        try:
            self.move_back(row)
        except NotTouchedError as error:
            return f"{what}, and is in {TRASH_FOLDER}/{row.name} now: {error}"
        return f"{what}; that was put back"

    def _require_same(self, handle: int, row: Any, *, links: bool) -> None:
        before = os.fstat(handle)
        if before.st_dev != os.fstat(self._folder).st_dev:
            raise NotTouchedError("not_plain", "it is on another file system than its root")
        if before.st_nlink != 1 and not links:
            raise NotTouchedError("other_names", f"it has {before.st_nlink} names (hard links)")
        self._require_content(handle, _identity(row))

    def _require_content(self, handle: int, identity: Identity) -> None:
        before = os.fstat(handle)
        if not identity.matches(before):
            raise NotTouchedError("changed", "its inode, size or time is not what was catalogued")
        digest, after = sha256_of(handle), os.fstat(handle)
        if digest != identity.sha256:
            raise NotTouchedError("changed", "its content is not what was catalogued")
        # The kernel sets ctime at every change; mtime can be set back by whoever wrote.
        if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
            after.st_size,
            after.st_mtime_ns,
            after.st_ctime_ns,
        ):
            raise NotTouchedError("changed", "it was changed while it was read")

    # --- out

    def move_back(self, row: Any) -> None:
        """Put one announced file back where it was; folders that are gone are made again.

        Raises:
            NotTouchedError: something has its place by now, or the trash no longer has it.
            OSError: the disk fails.
        """
        with _explained(), self._parent(row, make=True) as (parent, name):
            try:
                rename_new(self._folder, row.name, parent, name)
            except FileExistsError as error:
                raise NotTouchedError(
                    "place_taken", f"another file is at {self._root.dir / row.path} by now"
                ) from error
            os.fsync(parent)
            os.fsync(self._folder)

    def remove(self, row: Any) -> None:
        """Delete one announced file for good, if it is still the one that was moved in.

        Raises:
            NotTouchedError: it is not, or it is gone.
            OSError: the disk fails.
        """
        with _explained(), file_at(self._folder, row.name) as handle:
            self._require_content(handle, _identity(row))
            if status_at(self._folder, row.name).st_ino != row.inode:
                raise NotTouchedError("changed", "it was swapped for something else while it was looked at")
            os.unlink(row.name, dir_fd=self._folder)
        os.fsync(self._folder)

    def holds(self, row: Any) -> bool:
        """Return whether the trash has the file of that row, with the content that was moved in."""
        try:
            with file_at(self._folder, row.name) as handle:
                self._require_content(handle, _identity(row))
        except (OSError, NotTouchedError):
            return False
        return True

    # --- the manifest

    def begin(self, connection: Connection, ids: Sequence[int], state: TrashState) -> list[Any]:
        """Announce what is about to happen to files that are in the trash; return those that still are."""
        columns = trash_table.c
        connection.execute(
            sa.update(trash_table)
            .where(columns.id.in_(ids), columns.state == TrashState.TRASHED)
            .values(state=state, run=self._run, reason=None)
        )
        return self.rows(connection, ids, states=[state])

    def rows(self, connection: Connection, ids: Sequence[int], *, states: Sequence[TrashState]) -> list[Any]:
        """Return those rows of the manifest that are in one of the states."""
        columns = trash_table.c
        query = sa.select(trash_table).where(
            columns.id.in_(ids), columns.root == self._root.name, columns.state.in_(states)
        )
        return list(connection.execute(query.order_by(columns.id)))

    def finish(
        self, connection: Connection, done: Sequence[Any], kept: Mapping[int, str], *, why: str = ""
    ) -> None:
        """Record what has happened to announced files. Call it last in its transaction: it writes the audit.

        Args:
            connection: In a write transaction.
            done: Rows whose file was moved (or removed), all announced alike.
            kept: Reasons by id, of the rows whose file stayed where it was.
            why: What brought it about, if not the clean-up itself.
        """
        columns = trash_table.c
        for row_id, reason in kept.items():
            connection.execute(
                sa.update(trash_table)
                .where(columns.id == row_id)
                .values(
                    state=sa.case(
                        (columns.state == TrashState.MOVING, TrashState.REFUSED.value),
                        else_=TrashState.TRASHED.value,
                    ),
                    reason=reason,
                )
            )
        if done:
            self._finish_done(connection, done, why)

    def _finish_done(self, connection: Connection, done: Sequence[Any], why: str) -> None:
        columns, state = trash_table.c, _FINISHED[TrashState(done[0].state)]
        ended = None if state is TrashState.TRASHED else utc_now()
        connection.execute(
            sa.update(trash_table)
            .where(columns.id.in_([row.id for row in done]))
            .values(state=state, reason=why or None, ended_at=ended)
        )
        if state is TrashState.TRASHED:
            # Else an inventory would take a root that was cleaned up for one that is not mounted.
            connection.execute(
                sa.delete(file_table).where(file_table.c.file_id.in_([row.file_id for row in done]))
            )
        audit.record(
            connection,
            action=_ACTS[state],
            subject=f"{len(done)} local files of root {self._root.name}",
            details={
                "files": [[row.path, row.sha256, row.size] for row in done],
                "ids": [row.id for row in done],
                "why": why,
            },
            run=self._run,
        )

    # --- after a crash

    def _settle(self) -> None:
        """Finish, in the manifest, what a process that died here has done or not done to the files."""
        columns = trash_table.c
        query = sa.select(trash_table).where(
            columns.root == self._root.name, columns.state.in_([str(each) for each in UNDER_WAY])
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(columns.id)).all()
        for state in UNDER_WAY:
            self._settle_alike([row for row in rows if row.state == state])

    def _settle_alike(self, rows: Sequence[Any]) -> None:
        done, kept = [], {}
        for row in rows:
            in_trash = self._status(row)
            if (in_trash is not None) == (row.state == TrashState.MOVING):
                if in_trash is not None and not _identity(row).matches(in_trash):
                    # It was swapped in right before the rename, and the process died before putting it back.
                    kept[row.id] = self._put_back(row)
                    continue
                done.append(row)
            else:
                kept[row.id] = "the run that was at it ended before"
        if rows:
            os.fsync(self._folder)
            with self._database.write() as connection:
                self.finish(connection, done, kept, why="finished after an interrupted run" if done else "")

    def _status(self, row: Any) -> os.stat_result | None:
        try:
            return status_at(self._folder, row.name)
        except FileNotFoundError:
            return None

    @contextmanager
    def _parent(self, row: Any, *, make: bool = False) -> Iterator[tuple[int, str]]:
        *folders, name = parts_of(row.path)
        with folder_at(self._base, folders, make=make) as parent:
            yield parent, name


def settle(database: Database, root: Root, *, run: str) -> None:
    """Finish what a run that died has left half done in the root's trash, if there is anything.

    Raises:
        InfrastructureError: the root is not there, or takes no folder.
    """
    columns = trash_table.c
    query = sa.select(columns.id).where(
        columns.root == root.name, columns.state.in_([str(each) for each in UNDER_WAY])
    )
    with database.read() as connection:
        is_needed = connection.execute(query.limit(1)).first() is not None
    if is_needed:
        with Trash.opened(database, root, run=run):
            pass


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what the disk says about one file into the reason for leaving it."""
    try:
        yield
    except UnsafePathError as error:
        raise NotTouchedError("not_plain", error.strerror or str(error)) from error
    except FileNotFoundError as error:
        raise NotTouchedError("missing", "it is not there") from error


@contextmanager
def _trash_folder(root: Root, base: int) -> Iterator[int]:
    with suppress(FileExistsError):
        os.mkdir(TRASH_FOLDER, 0o700, dir_fd=base)
        os.fsync(base)
    try:
        with folder_at(base, [TRASH_FOLDER]) as folder:
            info = os.fstat(folder)
            if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o022:
                raise UnsafePathError("others may write into it")
            yield folder
    except UnsafePathError as error:
        raise GuardRefusedError(
            str(root.dir / TRASH_FOLDER),
            cause=f"it cannot be the trash folder: {error.strerror}",
            fix="find out who made it, and move it away",
        ) from error


def _identity(row: Any) -> Identity:
    return Identity(row.inode, row.size, row.mtime_ns, row.sha256)
