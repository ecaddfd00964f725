"""What a process has counted ahead and not used, in a file that outlives it: so that a kill wastes nothing.

Each process has a small file, mapped into its memory, that says of each unit how much of its block is left.
It is brought down before a request is sent, never after: what it still says when the process is dead was
never sent, and the next process that counts takes it out of the ledger again (`sweep`).

That holds as long as the machine has not crashed, which may forget what was last written to a file. So a file
has the name of the machine's boot, and one of another boot is thrown away: too much stays counted then, and
never too little. The same where there is no such file: without a folder, without Linux, or on a full disk.
"""

import fcntl
import hashlib
import mmap
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from photo_pipeline.core.cost.units import Unit

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
# One place a unit, in this order, after the month as 202611. Another order needs another suffix.
_UNITS: Final = (
    Unit.PUTS,
    Unit.GETS,
    Unit.DELETES,
    Unit.BYTES_IN,
    Unit.BYTES_OUT,
    Unit.CDN_REQUESTS,
    Unit.CDN_BYTES_OUT,
    Unit.INVALIDATION_PATHS,
)
_PLACE: Final = {unit: number for number, unit in enumerate(_UNITS, start=1)}
_SUFFIX, _SIZE = ".till1", 8 * (1 + len(_UNITS))
_STILLBORN_AFTER_S: Final = 3600.0


class Till:
    """The file of this process, or nothing where there can be none. Not thread-safe."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._file: int | None = None
        self._path: Path | None = None
        self._places: memoryview | None = None

    def begin(self, month: str) -> None:
        """Start with nothing left of that month, such as 2026-11."""
        if self._places is None:
            self._open()
        if self._places is not None:
            # First nothing is left, and then it is nothing of another month.
            for place in _PLACE.values():
                self._places[place] = 0
            self._places[0] = int(month.replace("-", "") or 0)

    def note(self, unit: Unit, rest: int) -> None:
        """Write down how much of the unit is left, before what is missing from it is sent."""
        if self._places is not None:
            self._places[_PLACE[unit]] = rest

    def close(self) -> None:
        """Take the file away; what it says must have been given back before."""
        if self._file is not None and self._path is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
        self._file = self._path = self._places = None

    def forget(self) -> None:
        """Let go of it in a forked process: it is its parent's."""
        if self._file is not None:
            os.close(self._file)
        self._file = self._path = self._places = None

    def _open(self) -> None:
        name = _this_boot()
        if self.folder is None or name is None:
            return
        path = self.folder / f"{name}-{uuid.uuid4().hex}{_SUFFIX}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            # Read-only, full, somebody else's: counting goes on without it, and a kill wastes a block.
            self.folder = None
            return
        try:
            # Held until this process and its forks have ended, however they do.
            fcntl.flock(file, fcntl.LOCK_EX)
            # Room on the disk for certain: or a write to the mapped file would kill this process.
            os.posix_fallocate(file, 0, _SIZE)
            self._places = memoryview(mmap.mmap(file, _SIZE)).cast("q")
        except OSError:
            self.folder = None
            path.unlink(missing_ok=True)
            os.close(file)
            return
        self._file, self._path = file, path


def sweep(folder: Path | None, give_back: Callable[[str, Mapping[Unit, int]], None]) -> None:
    """Give back what dead processes of this boot had left.

    Args:
        folder: Of the files.
        give_back: Takes amounts of a month, such as 2026-11, out of the ledger. Where it fails they stay
            counted: a file is emptied before, so that nothing is ever given back twice.
    """
    if folder is None or _this_boot() is None:
        return
    for path in sorted(folder.glob(f"{_machine()}-*{_SUFFIX}")):
        rest = _rest_of_the_dead(path)
        if rest is not None and rest[1]:
            give_back(*rest)


def _rest_of_the_dead(path: Path) -> tuple[str, dict[Unit, int]] | None:
    """Empty a dead process's file and take it away; return its month and amounts, or None of any other."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # another process has just taken it away, or it is not ours
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _emptied(file, path)
    except BlockingIOError:
        return None
    finally:
        os.close(file)


def _emptied(file: int, path: Path) -> tuple[str, dict[Unit, int]] | None:
    about = os.fstat(file)
    if about.st_nlink == 0:
        return None
    if about.st_size < _SIZE:
        # Made, and not locked yet; or its process died right then.
        if time.time() - about.st_mtime > _STILLBORN_AFTER_S:
            path.unlink(missing_ok=True)
        return None
    places = memoryview(os.pread(file, _SIZE, 0)).cast("q")
    month, rest = (
        int(places[0]),
        {unit: int(places[place]) for unit, place in _PLACE.items() if places[place] > 0},
    )
    os.pwrite(file, bytes(_SIZE), 0)
    path.unlink(missing_ok=True)
    if not path.name.startswith(f"{_this_boot()}-"):
        return None
    return f"{month // 100:04d}-{month % 100:02d}", rest


def _machine() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


@cache
def _this_boot() -> str | None:
    """Return what the files of this machine since its last start begin with; None where that is not known."""
    try:
        return f"{_machine()}-{_BOOT_ID.read_text(encoding='ascii').strip().replace('-', '')[:16]}"
    except OSError:
        return None
