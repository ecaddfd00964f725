"""SHA-256 of every matched file, read once and kept while size, mtime and inode stay the same."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from photo_pipeline.core.beneath import file_within, sha256_of
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import GONE, PhotoClass, PhotoState, file_table, photo_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.progress import Progress, no_progress

_CHUNK_FILES = 500
# hashlib releases the GIL; more threads than this only queue for the disk (facts/backends.md, section 4).
_THREADS = 4


@dataclass(frozen=True)
class Checksums:
    """What a pass over the matched files did; sizes in bytes."""

    hashed: int
    reused: int
    failed: int
    bytes_read: int
    duplicate_groups: int
    duplicate_files: int


def hash_file(path: Path) -> str:
    """Return the file's SHA-256 as hex.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def has_checksum(path: Path, sha256: str) -> bool:
    """Return whether the file is there, readable, and has that SHA-256 (hex)."""
    try:
        return hash_file(path) == sha256
    except OSError:
        return False


def hash_matched_files(
    database: Database, config: PipelineConfig, *, rehash: bool = False, progress: Progress = no_progress
) -> Checksums:
    """Hash every matched file that has no current checksum, and copy checksums to the photos.

    A file that fails to read, or changes while it is read, is quarantined with the reason; the rest go on.

    Args:
        database: The application's database.
        config: Roots.
        rehash: Read every file again, also the unchanged ones.
        progress: Told after each chunk.
    """
    if rehash:
        with database.write() as connection:
            connection.execute(sa.update(file_table).values(sha256=None))
    total = _count(database, file_table.c.sha256.is_(None))
    reused = _count(database, file_table.c.sha256.is_not(None))
    roots = {root.name: root.dir for root in config.roots}
    hashed = failed = read = 0
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="hash") as pool:
        pending = _pending(database)
        while chunk := list(islice(pending, _CHUNK_FILES)):
            results = list(pool.map(lambda file: _hash_one(file, roots[file.root]), chunk))
            _store(database, results)
            failed += sum(1 for result in results if result.error)
            hashed += sum(1 for result in results if result.sha256)
            read += sum(result.size for result in results if result.sha256)
            progress("checksums", hashed + failed, total)
    _copy_to_photos(database)
    groups, files = _duplicates(database)
    return Checksums(hashed, reused, failed, read, groups, files)


@dataclass(frozen=True)
class _Hashed:
    file_id: str
    size: int
    sha256: str | None = None
    error: str | None = None


def _hash_one(file: Any, root: Path) -> _Hashed:
    path = root / file.path
    try:
        # Whatever was swapped in since the scan: what leads out of the root is not read.
        with file_within(root, file.path) as handle:
            digest = sha256_of(handle)
            info = os.fstat(handle)
    except OSError as error:
        return _Hashed(file.file_id, 0, error=f"{path}: {error.strerror or error}")
    if (info.st_size, info.st_mtime_ns, info.st_ino) != (file.size, file.mtime_ns, file.inode):
        return _Hashed(file.file_id, 0, error=f"{path}: it changed after the inventory listed it")
    return _Hashed(file.file_id, info.st_size, sha256=digest)


def _matched(after: str = "") -> sa.Exists:
    photo = photo_table.c
    return sa.exists().where(
        photo.file_id == file_table.c.file_id,
        photo.file_id > after,  # implied, and lets a planner without statistics start at the right place
        photo["class"] == PhotoClass.MATCHED,
        photo.state.not_in(GONE),
    )


def _count(database: Database, condition: sa.ColumnElement[bool]) -> int:
    with database.read() as connection:
        query = sa.select(sa.func.count()).select_from(file_table).where(condition, _matched())
        return int(connection.execute(query).scalar_one())


def _pending(database: Database) -> Iterator[Any]:
    """Yield files without a checksum in chunks by id, so that failures are not met again and again."""
    after = ""
    while True:
        columns = file_table.c
        query = (
            sa.select(
                columns.file_id, columns.root, columns.path, columns.size, columns.mtime_ns, columns.inode
            )
            .where(columns.sha256.is_(None), columns.file_id > after, _matched(after))
            .order_by(columns.file_id)
            .limit(_CHUNK_FILES)
        )
        with database.read() as connection:
            rows = connection.execute(query).all()
        if not rows:
            return
        yield from rows
        after = rows[-1].file_id


def _store(database: Database, results: list[_Hashed]) -> None:
    good = [{"k": result.file_id, "s": result.sha256} for result in results if result.sha256]
    bad = [{"k": result.file_id, "e": result.error, "t": utc_now()} for result in results if result.error]
    with database.write() as connection:
        if good:
            connection.execute(
                sa.update(file_table)
                .where(file_table.c.file_id == sa.bindparam("k"))
                .values(sha256=sa.bindparam("s")),
                good,
            )
        if bad:
            connection.execute(
                sa.update(photo_table)
                .where(photo_table.c.file_id == sa.bindparam("k"), photo_table.c.state == PhotoState.PENDING)
                .values(
                    state=PhotoState.QUARANTINED,
                    error_type="changed_on_disk",
                    error_detail=sa.bindparam("e"),
                    updated_at=sa.bindparam("t"),
                ),
                bad,
            )


def _copy_to_photos(database: Database) -> None:
    photo, file = photo_table.c, file_table.c
    checksum = sa.select(file.sha256).where(file.file_id == photo.file_id).scalar_subquery()
    with database.write() as connection:
        connection.execute(
            sa.update(photo_table)
            .where(photo["class"] == PhotoClass.MATCHED, photo.state.not_in(GONE))
            .where(sa.or_(photo.sha256.is_(None), photo.sha256 != checksum))
            .values(sha256=checksum)
        )


def _duplicates(database: Database) -> tuple[int, int]:
    """Return how many contents exist more than once, and how many files those are."""
    grouped = (
        sa.select(sa.func.count().label("n"))
        .select_from(file_table)
        .where(file_table.c.sha256.is_not(None))
        .group_by(file_table.c.sha256)
        .having(sa.func.count() > 1)
        .subquery()
    )
    with database.read() as connection:
        row = connection.execute(
            sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(grouped.c.n), 0)).select_from(grouped)
        ).one()
    return int(row[0]), int(row[1])
