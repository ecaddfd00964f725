"""Opens, moves and removes files below a folder such that nothing outside of it can be reached.

For folders that others write into while we work: every step is relative to an open folder, so a name that
is swapped for a link meanwhile leads nowhere. Knows nothing of photos. Linux only (`/proc/self/fd`,
`renameat2`).
"""

import ctypes
import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE = 1  # linux/fs.h
# Without them a pipe would wait for its writer, a terminal would become ours, and a child inherit the file.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
_BLOCK_BYTES = 1 << 20


class UnsafePathError(OSError):
    """The name leads out of its folder, or to something else than a plain file; nothing of it was read."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ELOOP, reason)


def parts_of(relative: str) -> list[str]:
    """Return the segments of a relative path.

    Raises:
        UnsafePathError: it is absolute, empty, or has an empty, `.` or `..` segment or a NUL.
    """
    parts = relative.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise UnsafePathError("its path has a segment that is no name")
    return parts


@contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    """Yield a descriptor of the folder, whose own path may lead over links.

    Raises:
        OSError: it is not there, or no folder.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def folder_at(base: int, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
    """Yield a descriptor of the folder below `base`; no segment may be a link.

    Args:
        base: Descriptor of the folder to start from.
        parts: Segments, as of `parts_of`.
        make: Make the folders that are missing.

    Raises:
        UnsafePathError: a segment is a link or no folder.
        OSError: a segment is not there.
    """
    handle = os.dup(base)
    try:
        for part in parts:
            below = _step(handle, part, make=make)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _step(handle: int, part: str, *, make: bool) -> int:
    if make:
        with suppress(FileExistsError):
            os.mkdir(part, dir_fd=handle)
            os.fsync(handle)
    try:
        return os.open(part, _FOLDER, dir_fd=handle)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise UnsafePathError("a folder of its path is a link, or no folder") from error
        raise


@contextmanager
def file_at(folder: int, name: str) -> Iterator[int]:
    """Yield a descriptor for reading the plain file of that name in the open folder.

    Raises:
        UnsafePathError: it is a link, pipe, socket, device or folder.
        OSError: it is not there or cannot be read.
    """
    # Asked first: opening a device may already do something.
    if not stat.S_ISREG(status_at(folder, name).st_mode):
        raise UnsafePathError("it is no plain file (a link, folder, pipe, socket or device)")
    try:
        handle = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise UnsafePathError("it became something else than a plain file") from error
        raise
    try:
        _require_plain(handle)
        yield handle
    finally:
        os.close(handle)


def status_at(folder: int, name: str) -> os.stat_result:
    """Return the status of the name itself, link or not.

    Raises:
        FileNotFoundError: there is nothing of that name.
    """
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


@contextmanager
def file_within(folder: Path, relative: str) -> Iterator[int]:
    """Yield a descriptor for reading a plain file below the folder; links on the way may not lead out of it.

    Raises:
        UnsafePathError: it is outside, or no plain file. Nothing was read then.
        OSError: it is not there or cannot be read.
    """
    handle = os.open(folder / relative, _READ)
    try:
        _require_plain(handle)
        require_within(handle, folder)
        yield handle
    finally:
        os.close(handle)


def require_within(handle: int, folder: Path) -> None:
    """Check that what was opened lies below the folder, by where the kernel says that it is.

    Raises:
        UnsafePathError: it does not.
    """
    if not Path(os.readlink(f"/proc/self/fd/{handle}")).is_relative_to(folder.resolve()):  # noqa: PTH115
        raise UnsafePathError("it leads out of its root")


def _require_plain(handle: int) -> None:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise UnsafePathError("it is no plain file (a link, folder, pipe, socket or device)")


def sha256_of(handle: int) -> str:
    """Return the SHA-256 (hex) of what the descriptor reads from the file's beginning."""
    digest, offset = hashlib.sha256(), 0
    while block := os.pread(handle, _BLOCK_BYTES, offset):
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()


def rename_new(from_folder: int, name: str, to_folder: int, new_name: str) -> None:
    """Rename in one step, or not at all where the new name is taken.

    Raises:
        FileExistsError: something has the new name.
        OSError: there is nothing of the old name, or the folders are on different file systems.
    """
    failed = _LIBC.renameat2(
        from_folder, os.fsencode(name), to_folder, os.fsencode(new_name), _RENAME_NOREPLACE
    )
    if not failed:
        return
    number = ctypes.get_errno()
    if number not in _UNSUPPORTED:
        raise OSError(number, os.strerror(number), name)
    # A file system without it (some network ones): two steps, between which the file has both names.
    os.link(name, new_name, src_dir_fd=from_folder, dst_dir_fd=to_folder, follow_symlinks=False)
    os.unlink(name, dir_fd=from_folder)
