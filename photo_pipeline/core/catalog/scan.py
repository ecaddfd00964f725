"""Walks the local roots and records every file in `pp_file`, whatever the application thinks of it.

Only names and stat data are read here; nothing is opened and nothing is followed out of a root, also when a
folder is swapped for a link while it is walked.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from photo_pipeline.core.beneath import require_within
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import ScanFence
from photo_pipeline.core.catalog.tables import PhotoClass, TrashState, file_table, trash_table
from photo_pipeline.core.errors import GuardRefusedError, InfrastructureError
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.sources.mapping import Root
from photo_pipeline.core.sources.spelling import path_key

_CHUNK_FILES = 2_000

TRASH_FOLDER = ".photo_pipeline-trash"
"""Directly below a root: files that the clean-up has moved away. No inventory looks into it."""


@dataclass(frozen=True)
class ScannedFile:
    """One directory entry that is not a folder; sizes in bytes, times in nanoseconds."""

    root: str
    path: str
    size: int | None
    mtime_ns: int | None
    inode: int | None
    problem: str | None = None
    detail: str | None = None


def file_id(root: str, path: str) -> str:
    """Return the digest by which a file is known: hex SHA-256 of root and relative path."""
    return hashlib.sha256(f"{root}\0{path}".encode()).hexdigest()


def scan_roots(
    database: Database,
    roots: tuple[Root, ...],
    *,
    fence: ScanFence,
    max_file_bytes: int,
    progress: Progress = no_progress,
) -> int:
    """Record every file below the roots in `pp_file` under the fence's scan id; return how many there are.

    A file whose size, mtime and inode are unchanged keeps its checksum. Files that are gone are forgotten.

    Raises:
        InfrastructureError: a root does not exist or cannot be listed (nothing is forgotten then).
        GuardRefusedError: a root that had files is empty now, as an unmounted disk looks; or a newer
            inventory has begun.
    """
    require_listable(roots)
    count = 0
    for root in roots:
        before = count
        entries = walk(root, max_file_bytes=max_file_bytes)
        while chunk := list(islice(entries, _CHUNK_FILES)):
            _record(database, chunk, fence)
            count += len(chunk)
            progress("files", count, None)
        if count == before:
            _refuse_sudden_emptiness(database, root)
    with database.write() as connection:
        fence.hold(connection)
        connection.execute(sa.delete(file_table).where(file_table.c.scan != fence.scan))
    return count


def _refuse_sudden_emptiness(database: Database, root: Root) -> None:
    file, trash = file_table.c, trash_table.c
    moved_away = sa.select(trash.file_id).where(trash.state.in_([TrashState.MOVING, TrashState.TRASHED]))
    with database.read() as connection:
        known = connection.execute(
            sa.select(sa.func.count())
            .select_from(file_table)
            .where(file.root == root.name, file.file_id.not_in(moved_away))
        ).scalar_one()
    if known:
        raise GuardRefusedError(
            f"root {root.name!r} ({root.dir})",
            cause=f"it is empty, and {known:,} files were there at the last inventory",
            fix="mount it; if the files are gone on purpose, remove the root from the configuration",
        )


def require_listable(roots: tuple[Root, ...]) -> None:
    """Check that every root is there.

    Raises:
        InfrastructureError: a root does not exist or cannot be listed.
    """
    for root in roots:
        try:
            with os.scandir(root.dir):
                pass
        except OSError as error:
            raise InfrastructureError(
                f"root {root.name!r} ({root.dir})",
                cause=f"the folder cannot be listed ({error.strerror})",
                fix="mount it, correct `dir`, or run as a user who may read it",
            ) from error


def walk(root: Root, *, max_file_bytes: int) -> Iterator[ScannedFile]:
    """Yield every file below the root, depth first, in constant memory (one open folder at a time)."""
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with _opened(root, folder) as handle, os.scandir(handle) as entries:
                for entry in entries:
                    relative = f"{folder}/{entry.name}" if folder else entry.name
                    if relative == TRASH_FOLDER:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(relative)
                    else:
                        yield _scanned(root, relative, entry, max_file_bytes)
        except OSError as error:
            # The folder itself stands in the report for everything in it that cannot be seen.
            yield _problem(root, folder, PhotoClass.UNREADABLE, f"folder: {error.strerror}")


@contextmanager
def _opened(root: Root, folder: str) -> Iterator[int]:
    """Yield a descriptor of a folder that was a real one below the root, unless it no longer is.

    Raises:
        OSError: it was swapped for a link, or cannot be opened.
    """
    links = os.O_NOFOLLOW if folder else 0  # the root itself may be reached by one
    handle = os.open(root.dir / folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | links)
    try:
        require_within(handle, root.dir)
        yield handle
    finally:
        os.close(handle)


def _scanned(root: Root, relative: str, entry: os.DirEntry[str], max_file_bytes: int) -> ScannedFile:
    try:
        relative.encode()
    except UnicodeEncodeError:
        # The slash at the end keeps it apart from a file that is really called like the readable form.
        shown = os.fsencode(relative).decode("utf-8", "backslashreplace") + "/"
        return _problem(root, shown, PhotoClass.UNREADABLE, "its name is not valid UTF-8")
    try:
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            target = _link_target(root, relative)
            if target is None:
                return _problem(root, relative, PhotoClass.OUTSIDE_ROOT, "a symbolic link out of its root")
            info = target.stat()
    except OSError as error:
        return _problem(root, relative, PhotoClass.UNREADABLE, error.strerror or str(error))
    problem, detail = _stat_problem(info, max_file_bytes)
    return ScannedFile(
        root.name, relative, info.st_size, info.st_mtime_ns, info.st_ino, problem=problem, detail=detail
    )


def _link_target(root: Root, relative: str) -> Path | None:
    """Return where a symbolic link leads if that is inside the root, else None."""
    try:
        target = (root.dir / relative).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return target if target.is_relative_to(root.dir.resolve()) else None


def _stat_problem(info: os.stat_result, max_file_bytes: int) -> tuple[str | None, str | None]:
    if not stat.S_ISREG(info.st_mode):
        return PhotoClass.UNREADABLE, "not a regular file (device, pipe, socket or linked folder)"
    if info.st_size == 0:
        return PhotoClass.EMPTY, "0 bytes"
    if info.st_size > max_file_bytes:
        return PhotoClass.TOO_LARGE, f"{info.st_size:,} bytes; inventory.max_file_bytes is {max_file_bytes:,}"
    return None, None


def _problem(root: Root, relative: str, problem: PhotoClass, detail: str) -> ScannedFile:
    return ScannedFile(root.name, relative, None, None, None, problem=problem, detail=detail)


def _record(database: Database, chunk: list[ScannedFile], fence: ScanFence) -> None:
    scan = fence.scan
    rows = {file_id(item.root, item.path): item for item in chunk}
    columns = file_table.c
    with database.write() as connection:
        fence.hold(connection)
        known = {
            row.file_id: (row.size, row.mtime_ns, row.inode)
            for row in connection.execute(
                sa.select(columns.file_id, columns.size, columns.mtime_ns, columns.inode).where(
                    columns.file_id.in_(rows)
                )
            )
        }
        new = [_new_row(key, item, scan) for key, item in rows.items() if key not in known]
        same = [k for k, item in rows.items() if known.get(k) == (item.size, item.mtime_ns, item.inode)]
        changed = [_new_row(k, rows[k], scan) for k in known.keys() - set(same)]
        if new:
            connection.execute(sa.insert(file_table), new)
        if same:
            # The problem may differ although the file does not: max_file_bytes is configuration.
            updates = [{"k": k, "p": rows[k].problem, "d": rows[k].detail} for k in same]
            connection.execute(_touch(scan), updates)
        if changed:
            connection.execute(_replace(), [{f"new_{k}": v for k, v in row.items()} for row in changed])


def _new_row(key: str, item: ScannedFile, scan: str) -> dict[str, Any]:
    lookup = file_id(item.root, path_key(item.path))
    unknown = {"format": None, "unsupported": None, "sha256": None}
    return {"file_id": key, "lookup_id": lookup, "scan": scan, **unknown, **asdict(item)}


def _touch(scan: str) -> sa.Update:
    return (
        sa.update(file_table)
        .where(file_table.c.file_id == sa.bindparam("k"))
        .values(scan=scan, problem=sa.bindparam("p"), detail=sa.bindparam("d"))
    )


def _replace() -> sa.Update:
    names = ("size", "mtime_ns", "inode", "problem", "detail", "scan", "format", "unsupported", "sha256")
    return (
        sa.update(file_table)
        .where(file_table.c.file_id == sa.bindparam("new_file_id"))
        .values({name: sa.bindparam(f"new_{name}") for name in names})
    )
