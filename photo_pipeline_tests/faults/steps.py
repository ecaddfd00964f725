"""Counts what a process makes durable, step by step, and lets the process die between any two of them.

The steps are found where they happen, whatever code asks for them: each COMMIT of SQLAlchemy, each PUT and
DELETE of the object store, each fsync, rename and unlink. Nothing in the product knows of this.
"""

import os
import re
import shutil
import signal
import stat
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import obstore
import sqlalchemy as sa
from botocore.client import BaseClient
from sqlalchemy import event

from photo_pipeline.core.cleanup import trash

Kind = Literal["commit", "PUT", "DELETE", "fsync", "rename", "unlink", "end"]
_CHANGES: dict[str, Kind] = {"PutObject": "PUT", "CopyObject": "PUT", "DeleteObject": "DELETE"}
_WRITES = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM)\s+\W?(\w+)", re.IGNORECASE)
_FSYNC, _REPLACE, _UNLINK, _MKDIR = os.fsync, os.replace, os.unlink, os.mkdir
_RENAME_NEW = trash.rename_new


@dataclass(frozen=True)
class Death:
    """When to die: right before the n-th step, of all or of one kind; 0 means to live.

    Attributes:
        n: Which step, from 1.
        kind: Count only steps of this kind, such as "PUT", "commit", "commit pp_rewrite" (one that writes
            that table) or "fsync .partial" (of a file with that suffix).
        after: Die right after that step instead, that is, before the next one.
        power_cut: Lose also what no fsync brought to the disk: the contents of new files, their names, and
            new folders. (SIGKILL alone loses nothing that was written. SQLite's file is left to SQLite.)
    """

    n: int = 0
    kind: str = ""
    after: bool = False
    power_cut: bool = False


@dataclass
class _Published:
    path: Path
    inode: int
    was_there: bool
    named: bool = False  # its name is on the disk


@dataclass
class _Disk:
    """Which of the files that this process made would outlive a power cut."""

    synced: set[int] = field(default_factory=set)
    published: list[_Published] = field(default_factory=list)
    folders: dict[Path, bool] = field(default_factory=dict)

    def note_fsync(self, handle: int) -> None:
        status = os.fstat(handle)
        if not stat.S_ISDIR(status.st_mode):
            self.synced.add(status.st_ino)
            return
        folder = Path(f"/proc/self/fd/{handle}").readlink()
        for each in self.published:
            each.named |= each.path.parent == folder
        for made in self.folders:
            self.folders[made] |= made.parent == folder

    def lose(self) -> None:
        for each in self.published:
            if not each.named and not each.was_there:
                each.path.unlink(missing_ok=True)
            elif each.inode not in self.synced and each.path.exists():
                os.truncate(each.path, each.path.stat().st_size // 2)
        for folder, named in self.folders.items():
            if not named:
                shutil.rmtree(folder, ignore_errors=True)


class Steps:
    """Counts the steps of this process from `begin` on, and dies as planned."""

    def __init__(self, death: Death) -> None:
        self._death = death
        self._lock = threading.RLock()
        self._disk = _Disk()
        self._counts: Counter[str] = Counter()
        self._doomed = False
        self.taken: list[str] = []

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind of step was taken, by every name that a `Death` may give it."""
        return dict(self._counts)

    def begin(self) -> None:
        """Watch this process from now on; it is not undone."""
        self._watch_database()
        self._watch_store()
        self._watch_files()

    def about_to(self, kind: Kind, *objects: str, torn: Callable[[], object] = lambda: None) -> None:
        """Count a step that comes now.

        Args:
            kind: What it does.
            objects: To what: tables, or the suffix of a file.
            torn: Does to its file what a power cut would.
        """
        with self._lock:
            if self._doomed:
                self._die(torn)
            self.taken.append(kind)
            names = {"", kind, *(f"{kind} {each}" for each in objects)}
            self._counts.update(names)
            if self._death.kind in names and self._counts[self._death.kind] == self._death.n:
                self._doomed = self._death.after
                if not self._doomed:
                    self._die(torn)

    def _die(self, torn: Callable[[], object]) -> None:
        if self._death.power_cut:
            self._death, self._doomed = Death(), False  # what is lost is no step
            torn()
            self._disk.lose()
        os.kill(os.getpid(), signal.SIGKILL)

    def _watch_database(self) -> None:
        # Not in `connection.info`, which a broken connection refuses.
        written: WeakKeyDictionary[sa.Connection, set[str]] = WeakKeyDictionary()

        @event.listens_for(sa.Engine, "after_cursor_execute")
        def note(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
            table = _WRITES.match(statement)
            if table:
                written.setdefault(connection, set()).add(table[1])

        @event.listens_for(sa.Engine, "commit")
        def commit(connection: sa.Connection) -> None:
            self.about_to("commit", *written.pop(connection, ()))

        @event.listens_for(sa.Engine, "rollback")
        def rollback(connection: sa.Connection) -> None:
            written.pop(connection, None)

    def _watch_store(self) -> None:
        put, call = obstore.put, BaseClient._make_api_call

        def counted_put(*args: Any, **options: Any) -> Any:
            self.about_to("PUT")
            return put(*args, **options)

        def counted_call(client: BaseClient, operation: str, arguments: Any) -> Any:
            if operation in _CHANGES:
                self.about_to(_CHANGES[operation])
            return call(client, operation, arguments)

        obstore.put = counted_put
        BaseClient._make_api_call = counted_call

    def _watch_files(self) -> None:
        def counted_fsync(handle: int) -> None:
            # Of a file that is being written: what is not on the disk yet may be lost in part.
            size = os.fstat(handle).st_size
            name = Path(f"/proc/self/fd/{handle}").readlink()
            self.about_to("fsync", name.suffix, torn=lambda: _tear(handle, size))
            _FSYNC(handle)
            self._disk.note_fsync(handle)

        def counted_replace(source: Any, target: Any, **options: Any) -> None:
            self.about_to("rename")
            inode, was_there = Path(source).stat().st_ino, Path(target).exists()
            _REPLACE(source, target, **options)
            self._disk.published.append(_Published(Path(target), inode, was_there))

        def counted_unlink(path: Any, **options: Any) -> None:
            if "dir_fd" in options or Path(path).exists():
                self.about_to("unlink")
            _UNLINK(path, **options)

        def counted_rename(*arguments: Any) -> None:
            self.about_to("rename")
            _RENAME_NEW(*arguments)

        def noted_mkdir(path: Any, *args: Any, **options: Any) -> None:
            _MKDIR(path, *args, **options)
            if "dir_fd" in options:
                return
            self._disk.folders[Path(path)] = False

        trash.rename_new = counted_rename
        os.fsync, os.replace, os.unlink, os.mkdir = (
            counted_fsync,
            counted_replace,
            counted_unlink,
            noted_mkdir,
        )


def _tear(handle: int, size: int) -> None:
    if stat.S_ISREG(os.fstat(handle).st_mode):
        os.ftruncate(handle, size // 2)
