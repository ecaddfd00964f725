"""Writes files that survive a power cut: what is reported as written is on the disk."""

import os
from collections.abc import Iterator
from pathlib import Path


def write_durably(path: Path, data: bytes, *, mtime_ns: int | None = None) -> None:
    """Write a file so that after any crash it is there whole, or (before this returns) not at all.

    Args:
        path: Where; missing folders are made. A file that is there is replaced.
        data: Its content.
        mtime_ns: Its modification time, in nanoseconds since 1970; None: now.

    Raises:
        OSError: the disk refuses it.
    """
    made = list(_make_folders(path.parent))
    partial = path.with_name(f".{path.name[:200]}.partial")
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    if mtime_ns is not None:
        os.utime(partial, ns=(mtime_ns, mtime_ns))
    partial.replace(path)
    # The name is an entry of the folder, and a new folder's name one of the folder above.
    for folder in (path.parent, *(each.parent for each in reversed(made))):
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Bring the folder's entries to the disk: files that were made, renamed or removed in it.

    Raises:
        OSError: the disk refuses it.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folders(folder: Path) -> Iterator[Path]:
    """Make the folder and those above it; yield the new ones, the uppermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        yield each
