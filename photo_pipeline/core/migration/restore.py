"""Takes the application's rows back from the backup files alone, even if every state table is lost.

While the state tables are there, `rollback` is the better way. A cell goes back only while it holds a value
that the pipeline wrote: one that a copied ledger has, or, for rewrites that no copy knows, one of our
URLs of a photo that the row had. Anything else was written by the application, and is listed and left.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from photo_pipeline.core import audit
from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.cells import row_names
from photo_pipeline.core.catalog.database import ROW_LOCK_TIMEOUT_S, Database
from photo_pipeline.core.catalog.faults import refusal
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress, row_id
from photo_pipeline.core.catalog.schema import ensure_schema, schema_exists
from photo_pipeline.core.catalog.tables import (
    RewriteOutcome,
    batch_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.backup_file import BackupFile, BackupKind
from photo_pipeline.core.migration.cell_history import CellHistory, Seen, Written, is_equal, names_ours
from photo_pipeline.core.migration.lease import is_dead
from photo_pipeline.core.migration.ledger import RowRefusedError
from photo_pipeline.core.migration.restored_states import settle_batches, settle_row
from photo_pipeline.core.sources.mapping import Source


class CellOutcome(StrEnum):
    """What becomes of one cell."""

    RESTORED = "restored"
    UNCHANGED = "unchanged"  # it holds what the backup has
    EDITED = "edited"  # the application wrote it since; left
    UNPROVEN = "unproven"  # written back or touched by a rewrite that no copied ledger has; left
    OLDER_BACKUP_MISSING = "older_backup_missing"  # what the backup has is one of our URLs itself; left
    OVERWRITTEN = "overwritten"  # edited or unproven, and set back by force
    REFUSED = "refused"  # the database did not take the old value


@dataclass(frozen=True)
class CellChange:
    """One cell that is worth a look. `before` and `after` are what it held, and what it holds (or would)."""

    source: str
    row_key: str
    column: str
    outcome: CellOutcome
    before: RawValue
    after: RawValue
    reason: str = ""


@dataclass
class Restored:
    """What a restore did, or would do; `cells` counts by outcome, `left` lists all but the simple ones."""

    applied: bool
    files: int = 0
    rows: int = 0
    rows_restored: int = 0
    rows_deleted: list[str] = field(default_factory=list)
    cells: dict[str, int] = field(default_factory=lambda: {str(each): 0 for each in CellOutcome})
    left: list[CellChange] = field(default_factory=list)

    @property
    def has_findings(self) -> bool:
        """Whether rows are left that are not what they were before the migration."""
        return bool(self.rows_deleted or self.left)


def restore(
    database: Database,
    config: PipelineConfig,
    files: Sequence[BackupFile],
    *,
    run: str,
    apply: bool = False,
    force: bool = False,
) -> Restored:
    """Set every backed-up cell back that still holds what the pipeline wrote.

    Args:
        database: The application's database; its state tables may be lost.
        config: For the size of a transaction.
        files: The backup files, in any order.
        run: The id under which it is recorded, where there are state tables.
        apply: Write; without it the database is only read.
        force: Also set back cells that the application has edited since. They are listed.

    Raises:
        ConfigurationError: a table or key column of the backup no longer exists.
        GuardRefusedError: a run is working on a batch.
        DatabaseError: the database went away; committed chunks stand, the rest is untouched.
    """
    outcome = Restored(applied=apply, files=len(files))
    has_state = schema_exists(database)
    if has_state and apply:
        ensure_schema(database)
        _refuse_beside_a_run(database)
    by_source: dict[str, list[BackupFile]] = defaultdict(list)
    for file in files:
        by_source[file.source.name].append(file)
    for same in by_source.values():
        worker = _SourceRestore(database, same, outcome, force=force, run=run, has_state=has_state)
        worker.run(apply=apply, chunk=config.rewrite.rows_per_transaction)
    return outcome


class _SourceRestore:
    """Restores the rows of one source."""

    def __init__(
        self,
        database: Database,
        files: Iterable[BackupFile],
        outcome: Restored,
        *,
        force: bool,
        run: str,
        has_state: bool,
    ) -> None:
        self._database = database
        self._outcome = outcome
        self._force = force
        self._run = run
        self._has_state = has_state
        self._ended: set[str] = set()  # batches with rewrites that the present chunk has ended
        self._source = Source.model_construct()
        self._rows: dict[str, dict[str, CellHistory]] = {}
        # By row, too: state tables that were lost and begun anew count from 1 again.
        self._photos: dict[tuple[str, int], _Named] = {}
        for file in sorted(files, key=lambda each: each.made_at):
            self._source = file.source  # the newest one's
            self._learn(file)

    def _learn(self, file: BackupFile) -> None:
        if file.kind is BackupKind.PHOTOS:
            for row in file.rows:
                self._photos[row["row_key"], row["id"]] = _Named(row["field"], row["column"], row["value"])
            return
        for row in file.rows:
            history = self._rows.setdefault(row["row_key"], {}).setdefault(row["column"], CellHistory())
            if file.kind is BackupKind.ROWS:
                value = raw.decode(row["value"], row["type"])
                history.seen.append(Seen(file.made_at, value, frozenset(row["contents"])))
            elif row["applied_at"] is not None:
                key = (row["applied_at"], row["id"])
                # A later copy of the same entry knows whether it was rolled back.
                if row["outcome"] in _STANDING:
                    values = ledger.before_of(_Row(row)), ledger.after_of(_Row(row))
                    photos = frozenset(row.get("photos") or ())
                    history.written[key] = Written(*key, *values, photos)
                else:
                    history.written.pop(key, None)

    def run(self, *, apply: bool, chunk: int) -> None:
        """Restore every row, in chunks; each is one transaction."""
        table = self._database.table(self._source.table, self._source.schema_name)
        gone = [name for name in self._source.key if name not in table.columns]
        if gone:
            raise ConfigurationError(
                f"source {self._source.name}: key column {gone[0]!r}",
                cause=f"table {table.name!r} no longer has it, so its rows cannot be found",
                fix="restore the table's structure first",
            )
        keys = list(self._rows)
        for start in range(0, len(keys), chunk):
            self._restore_chunk(keys[start : start + chunk], apply=apply)

    def _restore_chunk(self, keys: Sequence[str], *, apply: bool) -> None:
        def change(connection: Connection) -> list[tuple[str, list[CellChange] | None]]:
            self._ended = set()
            done = [(key, self._restore_row(connection, key, apply=apply)) for key in keys]
            restored = [key for key, changes in done if _is_restored(changes)]
            if apply and self._has_state and restored:
                subject = f"{len(restored)} rows of {self._source.table}"
                audit.record(
                    connection, action="restore", subject=subject, details={"rows": restored}, run=self._run
                )
            if self._ended:
                settle_batches(connection, self._ended)
            return done

        # A chunk counts only when it has committed.
        if apply:
            done = self._database.transact(change, lock_timeout_s=ROW_LOCK_TIMEOUT_S)
        else:
            with self._database.read() as connection:
                done = change(connection)
        for key, changes in done:
            self._count(key, changes)

    def _count(self, key: str, changes: list[CellChange] | None) -> None:
        outcome = self._outcome
        outcome.rows += 1
        if changes is None:
            outcome.rows_deleted.append(f"{self._source.name} {key}")
            return
        outcome.rows_restored += _is_restored(changes)
        for change in changes:
            outcome.cells[change.outcome] += 1
            if change.outcome not in (CellOutcome.RESTORED, CellOutcome.UNCHANGED):
                outcome.left.append(change)

    def _restore_row(self, connection: Connection, key: str, *, apply: bool) -> list[CellChange] | None:
        """Return what became of the row's cells, or None if the row is gone."""
        address = RowAddress.of(self._database, self._source, key)
        names = [name for name in self._rows[key] if name in address.table.columns]
        looked_into = [name for name in self._source.read_columns if name in address.table.columns]
        found = address.read(connection, list(dict.fromkeys([*names, *looked_into])), lock=apply)
        if found is None:
            return None
        current = {name: found[name] for name in names}
        changes = self._judged(key, current, found)
        targets = {c.column: c.after for c in changes if c.outcome in _WRITTEN}
        if apply and targets:
            try:
                with connection.begin_nested():
                    self._swap(connection, address, current, targets)
            except (RowRefusedError, DBAPIError) as error:
                reason = refusal(error)
                changes = [_refused(c, reason) if c.column in targets else c for c in changes]
        return changes

    def _judged(
        self, key: str, current: Mapping[str, RawValue], row: Mapping[str, RawValue]
    ) -> list[CellChange]:
        """Decide what becomes of each cell of a row; columns that no longer exist are left out.

        Args:
            key: The row's key.
            current: What the cells hold that a backup has.
            row: That, and what the fields look into.
        """
        cells, rewrite = self._rows[key], self._source.rewrite
        # In mode columns a photo's own column was never written: others tell where it is.
        shows = rewrite.markers or [each.column for each in self._source.fields]
        judged = {
            name: self._judge(name, cells[name], value) for name, value in current.items() if name in shows
        }
        reach = _reach(list(judged.values()))
        primary = self._source.primary_column
        facts = _reach([judged[primary]]) if primary in judged else reach
        # What describes a photo goes no further back than the photo itself: before that, it told of another.
        for name, value in current.items():
            if name not in judged:
                since = facts if name in rewrite.write_back else reach
                judged[name] = self._judge(name, cells[name], value, since=since)
        before = {**row, **{name: each.target for name, each in judged.items()}}
        stale = {
            name
            for name, each in judged.items()
            if each.outcome is CellOutcome.RESTORED and self._is_of_another_photo(key, name, before)
        }
        for name in stale:
            judged[name] = self._left_to_another_photo(current[name], judged[name])
        photo_cells = [each.outcome for name, each in judged.items() if name in shows or name in stale]
        if CellOutcome.EDITED in photo_cells and CellOutcome.RESTORED not in photo_cells:
            # As a rollback does: what describes another photo now is not ours to describe.
            for name, each in judged.items():
                if each.outcome is CellOutcome.RESTORED:
                    judged[name] = _Verdict(CellOutcome.EDITED, current[name])
        return [
            CellChange(
                self._source.name,
                key,
                name,
                judged[name].outcome,
                value,
                judged[name].target,
                judged[name].reason or _REASONS.get(judged[name].outcome, ""),
            )
            for name, value in current.items()
        ]

    def _left_to_another_photo(self, value: RawValue, verdict: "_Verdict") -> "_Verdict":
        if self._force:
            return _forced(value, verdict.target, verdict.reach)
        return _Verdict(CellOutcome.EDITED, value)

    def _is_of_another_photo(self, key: str, name: str, row: Mapping[str, RawValue]) -> bool:
        """Return whether the cell speaks of a photo without naming it, and the row names that one no more."""
        if self._source.fields_on(name):
            return False
        fields = {field.label: field for field in self._source.fields}
        photos = (self._photos.get((key, photo)) for photo in self._rows[key][name].last_photos)
        return any(
            photo is not None
            and photo.value is not None
            and photo.field in fields
            and photo.column not in self._rows[key]
            and not row_names(fields[photo.field], row, photo.value)
            for photo in photos
        )

    def _judge(
        self, name: str, history: CellHistory, value: RawValue, *, since: datetime | None = None
    ) -> "_Verdict":
        target, undone = history.walk_back(value, since=since)
        if undone:
            contents = frozenset[str]().union(*(seen.contents for seen in history.seen))
            if isinstance(target, str) and names_ours(target, contents):
                return _Verdict(CellOutcome.OLDER_BACKUP_MISSING, value)
            return _Verdict(CellOutcome.RESTORED, target, history.first_seen(target))
        newest = history.newest
        if history.holds(value):
            return _Verdict(CellOutcome.UNCHANGED, value, history.first_seen(value))
        if newest is not None and self._force:
            # By force a cell goes no further back than its photo, either.
            target = history.before_newest(newest, since=None if since == _NEVER else since)
            return _forced(value, target, history.first_seen(target))
        rewrite = self._source.rewrite
        side = (*rewrite.set, *rewrite.write_back, *rewrite.touch)
        unknown = name in side and not history.written
        return _Verdict(CellOutcome.UNPROVEN if unknown else CellOutcome.EDITED, value)

    def _swap(
        self,
        connection: Connection,
        address: RowAddress,
        current: Mapping[str, RawValue],
        targets: Mapping[str, RawValue],
    ) -> None:
        if not ledger.swap(connection, address, before=current, after=targets):
            raise RowRefusedError("the application changed it during the restore")
        stored = address.read(connection, list(targets))
        changed = [n for n, v in targets.items() if stored is None or not is_equal(stored[n], v)]
        if changed:
            raise RowRefusedError(f"the database did not keep the old value of {changed[0]!r} (a trigger?)")
        if self._has_state:
            self._ended |= settle_row(connection, row_id(address.source.name, address.row_key), list(targets))


@dataclass(frozen=True)
class _Verdict:
    """What becomes of one cell; `reach` is when a backup first saw its target."""

    outcome: CellOutcome
    target: RawValue
    reach: datetime | None = None
    reason: str = ""


@dataclass(frozen=True)
class _Named:
    """What a copied catalog says of a photo: by which field, in which column, and how its row named it."""

    field: str
    column: str | None
    value: str | None


class _Row:
    """A ledger row of a backup file, with attributes as one of the table has."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.before, self.before_type = row["before"], row["before_type"]
        self.after, self.after_type = row["after"], row["after_type"]


# What the pipeline wrote and a rollback has not taken back.
_STANDING = (RewriteOutcome.APPLIED, RewriteOutcome.ROLLBACK_DEFERRED)
_WRITTEN = (CellOutcome.RESTORED, CellOutcome.OVERWRITTEN)
_REASONS = {
    CellOutcome.EDITED: "the application changed it since",
    CellOutcome.UNPROVEN: "no copied ledger has what the rewrite wrote here; --force sets it back",
    CellOutcome.OLDER_BACKUP_MISSING: "the backup has a CDN address already; an older backup is missing",
}


# Later than whatever a backup knows.
_NEVER = datetime.max.replace(tzinfo=UTC)


def _forced(value: RawValue, target: RawValue, reach: datetime | None) -> _Verdict:
    return _Verdict(CellOutcome.OVERWRITTEN, target, reach, f"forced; lost: {value!r}")


def _reach(photo_cells: Sequence[_Verdict]) -> datetime | None:
    """Return how far back a row goes whose photo cells do that: None is as far as its values lead.

    A row of which no photo goes back stays as it is, as in a rollback: what describes another photo now is
    not ours to describe.
    """
    undone = [each for each in photo_cells if each.outcome in _WRITTEN]
    if not undone and any(each.outcome is CellOutcome.EDITED for each in photo_cells):
        return _NEVER
    return min((each.reach for each in undone or photo_cells if each.reach is not None), default=None)


def _is_restored(changes: list[CellChange] | None) -> bool:
    return any(change.outcome in _WRITTEN for change in changes or ())


def _refused(change: CellChange, reason: str) -> CellChange:
    return CellChange(
        change.source,
        change.row_key,
        change.column,
        CellOutcome.REFUSED,
        change.before,
        change.before,
        reason,
    )


def _refuse_beside_a_run(database: Database) -> None:
    columns = batch_table.c
    with database.read() as connection:
        query = sa.select(columns.key, columns.lease_owner).where(
            columns.lease_owner.is_not(None), columns.lease_expires_at > utc_now()
        )
        held = connection.execute(query).all()
    for batch in held:
        # A run that was killed must not keep out the one who clears up after it.
        if not is_dead(batch.lease_owner):
            raise GuardRefusedError(
                batch.key,
                cause=f"the run {batch.lease_owner!r} is working on it",
                fix="end it, then restore",
            )
