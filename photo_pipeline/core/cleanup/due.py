"""Which local files may go, by what the state tables say; each file gets exactly one class.

Reads only, and asks neither the disk nor the store: what they say is looked at when a file is moved
(`local_files`). A file that several rows show may go only when each of them is ready for it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.cells import CellReader
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import MIGRATION
from photo_pipeline.core.catalog.files import lookup_id
from photo_pipeline.core.catalog.tables import (
    GONE,
    BatchState,
    PhotoClass,
    PhotoState,
    RewriteOutcome,
    TrashState,
    batch_table,
    file_table,
    migration_table,
    photo_table,
    rewrite_table,
    trash_table,
    utc_now,
    validation_table,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.lease import is_dead
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.migration.proof import ready_photos
from photo_pipeline.core.sources.spelling import Refused

_IDS_PER_QUERY = 500
# Photos in these states show their local file no more, and nothing brings them back to it by itself.
_CLEANED_UP = (TrashState.TRASHED, TrashState.RESTORING, TrashState.PURGING, TrashState.PURGED)


class FileClass(StrEnum):
    """What becomes of a local file that was migrated; each is in one class."""

    DUE = "due"
    TRASHED = "trashed"
    BATCH_NOT_COMPLETED = "batch_not_completed"
    BATCH_BUSY = "batch_busy"
    NOT_VALIDATED = "not_validated"
    WITHIN_RETENTION = "within_retention"
    STILL_REFERENCED = "still_referenced"
    NOT_STORED = "not_stored"
    CHANGED = "changed"
    OTHER_NAMES = "other_names"
    NOT_PLAIN = "not_plain"
    MISSING = "missing"


@dataclass(frozen=True)
class Candidate:
    """One local file that migrated rows showed; `photos` are all of them, `reason` says why it is not due."""

    file_id: str
    root: str
    path: str
    photos: tuple[Photo, ...]
    batches: tuple[str, ...]
    outcome: FileClass
    reason: str = ""

    @property
    def photo(self) -> Photo:
        """One of its photos; they agree on the file's content."""
        return self.photos[0]


@dataclass(frozen=True)
class _BatchFacts:
    """What one batch lets its files do."""

    outcome: FileClass
    reason: str


class DueFiles:
    """Judges the files of batches.

    Args:
        database: With the state tables.
        config: With the waiting times.
        run: Our run; a lease of its own makes no batch busy.
        now: The instant to judge for.
    """

    def __init__(
        self, database: Database, config: PipelineConfig, *, run: str = "", now: datetime | None = None
    ) -> None:
        self._database = database
        self._config = config
        self._now = now or utc_now()
        self._retention = timedelta(days=config.cleanup.retention_days)
        self._run = run
        self._facts: dict[str, _BatchFacts] = {}

    def batches(self) -> list[str]:
        """Return the batches with migrated photos, in running order."""
        photo, batch = photo_table.c, batch_table.c
        migrated = sa.exists().where(photo.batch == batch.key, photo.state == PhotoState.MIGRATED)
        with self._database.read() as connection:
            query = sa.select(batch.key).where(migrated).order_by(batch.priority, batch.key)
            return list(connection.execute(query).scalars())

    def of_batch(self, key: str) -> list[Candidate]:
        """Return the files of which this batch is the first that shows them, each with its class."""
        photo = photo_table.c
        mine = sa.select(photo.file_id).where(
            photo.batch == key, photo.state == PhotoState.MIGRATED, photo.file_id.is_not(None)
        )
        with self._database.read() as connection:
            ids = list(connection.execute(mine.distinct()).scalars())
        found = self.of_files(ids)
        return [each for each in found.values() if each.batches[0] == key]

    def of_files(self, ids: Sequence[str]) -> dict[str, Candidate]:
        """Judge those files as they stand now, by file id; what is cleaned up already is left out."""
        self._facts.clear()
        with self._database.read() as connection:
            everyone = self._photos(connection, ids)
            there = _some(connection, file_table.c.file_id, ids)
            handled = _some(connection, trash_table.c.file_id, ids, trash_table.c.state.in_(_CLEANED_UP))
        found = {
            file: self._candidate(file, rows, is_there=file in there)
            for file, rows in everyone.items()
            if file in there or file not in handled
        }
        return self._proven({file: each for file, each in found.items() if each is not None})

    def _proven(self, found: dict[str, Candidate]) -> dict[str, Candidate]:
        """Leave due only what has all that its rows need in the store; asked for all of them at once."""
        due = {file: each for file, each in found.items() if each.outcome is FileClass.DUE}
        photos = [photo for each in due.values() for photo in each.photos]
        ready = {photo.id for photo in ready_photos(self._database, self._config, photos)}
        reason = "an object that its row needs is not proven in the store"
        return found | {
            file: replace(each, outcome=FileClass.NOT_STORED, reason=reason)
            for file, each in due.items()
            if not all(photo.id in ready for photo in each.photos)
        }

    def _photos(self, connection: Connection, ids: Sequence[str]) -> dict[str, list[Any]]:
        """Return every reference to each of the files, in whichever state."""
        photo = photo_table.c
        found: dict[str, list[Any]] = defaultdict(list)
        for chunk in _chunks(ids):
            query = sa.select(photo_table).where(photo.file_id.in_(chunk), photo.source.is_not(None))
            for row in connection.execute(query.order_by(photo.batch, photo.id)):
                found[row.file_id].append(row)
        return found

    @cached_property
    def _found_twice(self) -> set[str]:
        """The files that the inventory found under several names: by links, or in roots that overlap."""
        file = file_table.c
        twice = sa.select(file.inode).group_by(file.inode).having(sa.func.count() > 1)
        with self._database.read() as connection:
            query = sa.select(file.file_id).where(file.inode.in_(twice))
            return set(connection.execute(query).scalars())

    def _candidate(self, file: str, rows: list[Any], *, is_there: bool) -> Candidate | None:
        standing = [row for row in rows if row.state not in GONE]
        migrated = [row for row in standing if row.state == PhotoState.MIGRATED and row.sha256]
        if not migrated or migrated[0].path is None:
            return None
        photos = tuple(
            Photo(*(getattr(row, name) for name in Photo.__dataclass_fields__)) for row in migrated
        )
        batches = tuple(sorted({row.batch for row in migrated if row.batch is not None}))
        outcome, reason = FileClass.MISSING, "the inventory did not find it, and no clean-up took it"
        if is_there:
            outcome, reason = self._judge(file, standing, photos, batches)
        return Candidate(file, photos[0].root, photos[0].path, photos, batches, outcome, reason)

    def _judge(
        self, file: str, standing: list[Any], photos: Sequence[Photo], batches: Sequence[str]
    ) -> tuple[FileClass, str]:
        open_ones = [row for row in standing if row.state != PhotoState.MIGRATED or row.batch is None]
        if open_ones:
            row = open_ones[0]
            return FileClass.STILL_REFERENCED, f"{row.source} {row.row_key} {row.field} is {row.state}"
        if len({(photo.sha256, photo.inode, photo.size, photo.mtime_ns) for photo in photos}) > 1:
            return FileClass.CHANGED, "its rows were migrated from different contents of it"
        for key in batches:
            facts = self._batch(key)
            if facts.outcome is not FileClass.DUE:
                return facts.outcome, facts.reason
        if file in self._found_twice:
            return FileClass.OTHER_NAMES, "the inventory found the same file under another name, too"
        return FileClass.DUE, ""

    def _batch(self, key: str) -> _BatchFacts:
        if key not in self._facts:
            with self._database.read() as connection:
                self._facts[key] = self._batch_facts(connection, key)
        return self._facts[key]

    def _batch_facts(self, connection: Connection, key: str) -> _BatchFacts:
        row = connection.execute(sa.select(batch_table).where(batch_table.c.key == key)).one()
        owner = row.lease_owner or f"/{self._run}"
        if not owner.endswith(f"/{self._run}") and row.lease_expires_at > self._now and not is_dead(owner):
            return _BatchFacts(FileClass.BATCH_BUSY, f"{key}: the run {row.lease_owner} is working on it")
        if row.state != BatchState.COMPLETED:
            return _BatchFacts(FileClass.BATCH_NOT_COMPLETED, f"{key} is {row.state}")
        flaw = _validation_flaw(connection, key)
        if flaw:
            return _BatchFacts(FileClass.NOT_VALIDATED, f"{key}: {flaw}")
        ledger = rewrite_table.c
        last = connection.execute(
            sa.select(sa.func.max(ledger.applied_at)).where(
                ledger.batch == key, ledger.outcome == RewriteOutcome.APPLIED
            )
        ).scalar()
        if last is None:
            return _BatchFacts(FileClass.WITHIN_RETENTION, f"{key}: no ledger says when it was rewritten")
        due = last + self._retention
        if due > self._now:
            return _BatchFacts(FileClass.WITHIN_RETENTION, f"{key}: until {due:%Y-%m-%d %H:%M} UTC")
        return _BatchFacts(FileClass.DUE, "")


def _validation_flaw(connection: Connection, key: str) -> str | None:
    """Return why the batch's validation, since its last rewrite, does not count as passed."""
    photo, seen = photo_table.c, validation_table.c
    migrated = (photo.batch == key, photo.state == PhotoState.MIGRATED)
    passed = connection.execute(sa.select(sa.func.count(photo.validated_at)).where(*migrated)).scalar_one()
    failed = connection.execute(
        sa.select(sa.func.count())
        .select_from(validation_table)
        .join(photo_table, photo.id == seen.photo_id)
        .where(*migrated, seen.ok.is_(False))
    ).scalar_one()
    if failed:
        return f"{failed} of its photos did not pass"
    return None if passed else "it was not validated since its rewrite"


def missing_references(database: Database, config: PipelineConfig) -> set[str]:
    """Return the lookup ids of all files that rows refer to and the last inventory did not find."""
    photo, cells = photo_table.c, CellReader(config)
    scan = sa.select(migration_table.c.last_scan).where(migration_table.c.name == MIGRATION)
    query = sa.select(photo.source, photo.field, photo.value).where(
        photo["class"] == PhotoClass.FILE_MISSING, photo.scan == scan.scalar_subquery()
    )
    wanted: set[str] = set()
    with database.read() as connection:
        for row in connection.execute(query):
            field = config.source(row.source).field(row.field)
            meaning = field.interpret(row.value or "", cells.roots[field.root])
            if not isinstance(meaning, Refused):
                wanted.update(lookup_id(field.root, path) for path in meaning.candidates)
    return wanted


def original_key(naming: ObjectNaming, photo: Photo) -> str | None:
    """Return the key of the photo's original, or None where the configuration discards originals."""
    original = naming.original(photo)
    return original.key if original else None


def _some(
    connection: Connection, column: sa.Column[Any], ids: Iterable[str], *conditions: sa.ColumnElement[bool]
) -> set[str]:
    """Return those of the ids that the column has, in rows that fulfil the conditions."""
    found: set[str] = set()
    for chunk in _chunks(ids):
        query = sa.select(column).where(column.in_(chunk), *conditions)
        found.update(connection.execute(query).scalars())
    return found


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    wanted = list(ids)
    for start in range(0, len(wanted), _IDS_PER_QUERY):
        yield wanted[start : start + _IDS_PER_QUERY]
