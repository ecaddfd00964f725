"""Backs rows up before they are rewritten, and what was written after: to a local file and to the bucket.

No row is rewritten before a backup of it was written, read back and compared with the database
(PRODUCT A6). The files are enough to restore from, without any state table: see `restore`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.tables import (
    backup_table,
    photo_table,
    recipe_table,
    rewrite_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.durable import write_durably
from photo_pipeline.core.errors import InfrastructureError, StoreError
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.backup_file import BackupFile, BackupKind, decode
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.sources.mapping import Source
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.probe import probe_store
from photo_pipeline.core.storage.proof import is_proven
from photo_pipeline.core.storage.store import PhotoStore

_ROWS_PER_FILE = 10_000
_ROWS_PER_QUERY = 100  # with keys of several columns, far from SQLite's limits on terms and parameters
# A row that the application changes while it is being backed up is read again, this many times in all.
_TRIES = 3

Cells = dict[str, RawValue]
"""The raw values of one row's columns."""


RowContents = dict[str | None, set[str]]
"""The contents (SHA-256) that a column of a row may show, by column; under None what any of them may."""


@dataclass(frozen=True)
class BackedUp:
    """What became of the rows that were to be backed up.

    Attributes:
        photos: Those whose rows may be rewritten now, and those of rows that are gone.
        gone: The ids of rows that were not there, and have no backup. That they are gone may be reported; one
            that is there again by now must not be rewritten.
    """

    photos: list[Photo]
    gone: frozenset[str] = frozenset()


def back_up_rows(
    database: Database,
    config: PipelineConfig,
    lease: BatchLease,
    store: PhotoStore,
    photos: Sequence[Photo],
    leading: Mapping[str, Photo],
) -> BackedUp:
    """Back up the rows of the photos; return the photos whose rows may be rewritten now.

    Left out are those of rows that the application kept changing meanwhile. A row that was deleted has
    nothing to back up: it is for the rewrite to say so.

    Args:
        database: The application's database.
        config: The configuration.
        lease: On the batch.
        store: Receives a copy of each file.
        photos: They are about to be rewritten.
        leading: By row, the photo that the row's resized copies are copies of.

    Raises:
        InfrastructureError: the backup cannot be written, or is not what was written when it is read back.
        LeaseLostError: another run has taken the batch over.
    """
    contents: dict[tuple[str, str], RowContents] = defaultdict(lambda: defaultdict(set))
    for photo in photos:
        primary = leading.get(photo.row_id) if photo.is_copy else None
        shown = [photo, primary] if primary else [photo]
        for column in (photo.column, None):
            contents[photo.source, photo.row_key][column] |= {each.sha256 for each in shown}
    writer = _Writer(database, config, lease, store)
    covered: set[tuple[str, str]] = set()
    gone: set[tuple[str, str]] = set()
    for name in dict.fromkeys(photo.source for photo in photos):
        source = config.source(name)
        wanted = {key: found for (each, key), found in contents.items() if each == name}
        # Of rows in which nothing will be written there is nothing to lose.
        safe, lost = (
            _back_up_source(writer, source, wanted) if source.written_columns else (set(wanted), set())
        )
        covered |= {(name, key) for key in safe}
        gone |= {(name, key) for key in lost}
    known = [photo for photo in photos if (photo.source, photo.row_key) in covered | gone]
    return BackedUp(known, frozenset(p.row_id for p in known if (p.source, p.row_key) in gone))


def back_up_ledger(database: Database, config: PipelineConfig, lease: BatchLease, store: PhotoStore) -> None:
    """Keep a copy of what the batch's rewrites wrote, and of its catalog, unless there is one already.

    With it a restore knows exactly which values are ours, and a lost catalog can be rebuilt.

    Raises:
        InfrastructureError: it cannot be written, or is not what was written when it is read back.
        LeaseLostError: another run has taken the batch over.
    """
    if not _has_new_rewrites(database, config, lease.batch):
        return
    writer = _Writer(database, config, lease, store)
    for kind, table in ((BackupKind.LEDGER, rewrite_table), (BackupKind.PHOTOS, photo_table)):
        by_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
        with database.read() as connection:
            query = sa.select(table).where(table.c.batch == lease.batch).order_by(table.c.id)
            found = connection.execute(query).all()
            links = ledger.photos_of(connection, found) if kind is BackupKind.LEDGER else {}
            for row in found:
                linked = {"photos": list(links[row.id])} if links else {}
                by_source[row.source].append(dict(row._mapping) | linked)
        # Rows of a source that is declared no more were copied while it was.
        for source in config.sources:
            if rows := by_source.get(source.name):
                writer.write(kind, source, str(table.name), rows, len(rows))


def _has_new_rewrites(database: Database, config: PipelineConfig, batch: str) -> bool:
    """Return whether the ledger has rows of the batch that no copy has.

    By their number, which only grows: the clock of the machine that made the copy may be ahead of ours.
    """
    rewrite, backup = rewrite_table.c, backup_table.c
    declared = [source.name for source in config.sources]  # the others are copied no more
    counts = (
        sa.select(rewrite.source, sa.func.count())
        .where(rewrite.batch == batch, rewrite.source.in_(declared))
        .group_by(rewrite.source)
    )
    copies = (
        sa.select(backup.source, backup.table, backup.rows)
        .where(backup.batch == batch, backup.verified_at.is_not(None))
        .where(backup.table.in_([rewrite_table.name, photo_table.name]))
        .order_by(backup.id)
    )
    with database.read() as connection:
        there = {source: count for source, count in connection.execute(counts)}
        files = connection.execute(copies).all()
    copied = {file.source: file.rows for file in files if file.table == rewrite_table.name}
    # The catalog is written last: without it the copy was not finished.
    is_whole = bool(files) and files[-1].table == photo_table.name
    return bool(there) and not (is_whole and there.items() <= copied.items())


def _back_up_source(
    writer: "_Writer", source: Source, contents: Mapping[str, RowContents]
) -> tuple[set[str], set[str]]:
    """Return the keys of the rows that are safe, and of those that are gone."""
    open_keys, covered, gone = list(contents), set[str](), set[str]()
    for _ in range(_TRIES):
        changed: list[str] = []
        for start in range(0, len(open_keys), _ROWS_PER_FILE):
            chunk = open_keys[start : start + _ROWS_PER_FILE]
            safe, moved = writer.back_up(source, chunk, contents)
            covered |= safe
            changed += sorted(moved)
            gone |= set(chunk) - safe - moved
        open_keys = changed
        if not open_keys:
            break
    return covered, gone


class _Writer:
    """Writes and proves the files of one batch."""

    def __init__(
        self, database: Database, config: PipelineConfig, lease: BatchLease, store: PhotoStore
    ) -> None:
        self._database = database
        self._config = config
        self._lease = lease
        self._store = store

    def back_up(
        self, source: Source, keys: Sequence[str], contents: Mapping[str, RowContents]
    ) -> tuple[set[str], set[str]]:
        """Back up the rows with those keys; return the keys of those that are safe, and of changed ones.

        A row that was in the database at neither the beginning nor the end is in neither.
        """
        found = read_cells(self._database, source, keys)
        if not found:
            return set(), set()
        rows = [
            _cell(key, name, value, contents[key].get(name, contents[key][None]))
            for key, cells in found.items()
            for name, value in cells.items()
        ]
        written = self.write(BackupKind.ROWS, source, source.table, rows, len(found))
        saved: dict[str, Cells] = defaultdict(dict)
        for row in written.rows:
            saved[row["row_key"]][row["column"]] = raw.decode(row["value"], row["type"])
        now = read_cells(self._database, source, keys)
        moved = {key for key in now if not _same(now[key], saved.get(key))}
        return set(found) - moved, moved

    def write(
        self, kind: BackupKind, source: Source, table: str, rows: Sequence[Mapping[str, Any]], count: int
    ) -> BackupFile:
        """Write, prove and record one file; return it as it was read back.

        Raises:
            InfrastructureError: the disk or the store does not keep it.
        """
        file = BackupFile(
            kind, self._lease.batch, self._lease.run, source, utc_now(), rows, self._facts(kind)
        )
        data = file.encoded()
        name = file.file_name(data)
        path = self._config.state.backup_dir / name
        try:
            write_durably(path, data)
            read_back = decode(name, path.read_bytes())
        except OSError as error:
            raise InfrastructureError(
                f"backup {path}",
                cause=f"it cannot be written ({error.strerror})",
                fix="make room or correct state.backup_dir, then run again: no row is rewritten without it",
            ) from error
        key = self._send(name, data)
        self._record(file, name, data, key=key, table=table, count=count)
        return read_back

    def _facts(self, kind: BackupKind) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "dialect": self._database.engine.dialect.name,
            "bucket": self._config.store.bucket,
            "prefix": self._config.store.prefix,
            "originals_prefix": self._config.store.originals_prefix,
            "cdn": self._config.cdn.base_url,
        }
        if kind is BackupKind.PHOTOS:
            with self._database.read() as connection:
                recipes = [dict(row) for row in connection.execute(sa.select(recipe_table)).mappings()]
            facts["recipes"] = [each | {"first_used_at": str(each["first_used_at"])} for each in recipes]
        return facts

    def _send(self, name: str, data: bytes) -> str:
        """Put the file into the bucket and prove it there; return its key."""
        key = f"{self._config.store.backups_prefix}/{name}"
        probe = probe_store(self._database, self._store)
        self._store.put_new(key, data, content_type="application/vnd.apache.parquet", cache_control="private")
        if not is_proven(self._store, probe, key, sha256_hex(data), size=len(data)):
            cause, fix = "the store does not give back the backup that it was given", "no row was rewritten"
            try:
                self._store.delete(key)  # ours alone, and a restore would stumble over it
            except StoreError as error:  # the policy of the role `migrator` lets it delete no backup
                cause, fix = f"{cause}, and it stays there ({error.cause})", f"delete it by hand; {fix}"
            raise StoreError(
                f"s3://{self._store.bucket}/{key}",
                cause=cause,
                fix=f"do not trust this store before that is explained; {fix}",
            )
        return key

    def _record(self, file: BackupFile, name: str, data: bytes, *, key: str, table: str, count: int) -> None:
        row = {
            "run": file.run,
            "batch": file.batch,
            "source": file.source.name,
            "table": table,
            "path": name,
            "sha256": sha256_hex(data),
            "bytes": len(data),
            "rows": count,
            "bucket": self._store.bucket,
            "key": key,
            "made_at": file.made_at,
            "verified_at": utc_now(),
        }
        with self._database.write() as connection:
            self._lease.hold(connection)
            connection.execute(sa.insert(backup_table), row)
            audit.record(
                connection,
                action="backup",
                subject=f"{count} rows of {table}",
                batch=file.batch,
                details={"path": name, "sha256": row["sha256"], "key": key},
                run=file.run,
            )


def _cell(key: str, name: str, value: RawValue, contents: Iterable[str]) -> dict[str, Any]:
    text, kind = raw.encode(value)
    # Whose URLs a rewritten cell may show: by them a restore tells ours from another photo's.
    return {"row_key": key, "column": name, "value": text, "type": kind, "contents": sorted(contents)}


def _same(now: Cells, saved: Cells | None) -> bool:
    # By their stored form: 1 and 1.0 and True are equal in Python, and different bytes.
    return saved is not None and {n: raw.encode(v) for n, v in now.items()} == {
        n: raw.encode(v) for n, v in saved.items()
    }


def read_cells(database: Database, source: Source, keys: Sequence[str]) -> dict[str, Cells]:
    """Return the raw values of every column that a rewrite of the source may change, by row key.

    Rows that are gone are left out. Read in one transaction, which writes nothing and locks nothing.
    """
    table, is_sqlite = database.table(source.table, source.schema_name), database.is_sqlite
    columns = list(dict.fromkeys(source.written_columns))
    labels = [f"k{i}" for i in range(len(source.key))] + [f"c{i}" for i in range(len(columns))]
    expressions = [
        raw.read_expression(table.columns[name], is_sqlite=is_sqlite).label(label)
        for name, label in zip([*source.key, *columns], labels, strict=True)
    ]
    found: dict[str, Cells] = {}
    with database.read() as connection:
        for start in range(0, len(keys), _ROWS_PER_QUERY):
            query = sa.select(*expressions).where(
                sa.or_(
                    *(_is_row(table, source, key, is_sqlite) for key in keys[start : start + _ROWS_PER_QUERY])
                )
            )
            found |= _by_key(connection, query, source, columns)
    return {key: found[key] for key in keys if key in found}


def _by_key(
    connection: Connection, query: sa.Select[Any], source: Source, columns: Sequence[str]
) -> dict[str, Cells]:
    width = len(source.key)
    return {
        raw.encode_key(list(row[:width])): dict(zip(columns, row[width:], strict=True))
        for row in connection.execute(query)
    }


def _is_row(table: sa.Table, source: Source, key: str, is_sqlite: bool) -> sa.ColumnElement[bool]:
    return sa.and_(
        *(
            raw.key_equals(table.columns[name], value, is_sqlite=is_sqlite)
            for name, value in zip(source.key, raw.decode_key(key), strict=True)
        )
    )


def local_backups(folder: Path) -> list[Path]:
    """Return every backup file below the folder, by name."""
    return sorted(path for path in folder.rglob("*.parquet") if path.is_file())
