"""Rehearses a rollback on real rows, in a transaction that is never committed (PRODUCT F6).

Rows that are not migrated yet are rewritten and taken back; migrated ones are taken back. Either way every
column of the row is compared, and then the database undoes all of it. Nothing is uploaded or fetched.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import ROW_LOCK_TIMEOUT_S, Database
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import PhotoState, RewriteOutcome, rewrite_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import Photo, batch_photos, row_primaries
from photo_pipeline.core.migration.row_parts import RowPart, whole_row
from photo_pipeline.core.migration.row_rewrite import RowRewriter
from photo_pipeline.core.migration.row_rollback import RowRollback

# Not yet migrated; a row is rehearsed forward and back only while all its photos are in the same one.
_FORWARD = (PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED)


@dataclass
class Rehearsed:
    """What a rehearsal found, by row: `exact` ones came back to what they were, byte by byte.

    Attributes:
        batch: The batch that the rows are from.
        rows: How many rows were tried.
        exact: How many came back exactly.
        edited: How many a rollback would leave, because the application has edited them since.
        refused: Rows that the database would not take, with its reason.
        differing: Rows that came back otherwise, with what differs.
    """

    batch: str
    rows: int = 0
    exact: int = 0
    edited: int = 0
    refused: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether a rollback would restore every row that the application has not edited."""
        return not self.refused and not self.differing


def rehearse_rollback(
    database: Database, config: PipelineConfig, batch: str, *, rows: int, run: str
) -> Rehearsed:
    """Rehearse on the first `rows` rows of the batch, and record the result in the audit log.

    The rows stay locked for as long as it takes; on SQLite, other writers wait.

    Raises:
        DatabaseError: the database went away.
    """
    outcome = Rehearsed(batch)
    try:
        with database.write(lock_timeout_s=ROW_LOCK_TIMEOUT_S) as connection:
            _Rehearsal(database, config, outcome, run).play(connection, rows)
            raise _CurtainError
    except _CurtainError:
        pass
    with database.write() as connection:
        audit.record(
            connection,
            action="rehearsal",
            subject=f"{outcome.exact} of {outcome.rows} rows came back exactly",
            batch=batch,
            details={"edited": outcome.edited, "refused": outcome.refused, "differing": outcome.differing},
            run=run,
        )
    return outcome


class _CurtainError(Exception):
    """Ends the transaction without a commit."""


class _Rehearsal:
    def __init__(self, database: Database, config: PipelineConfig, outcome: Rehearsed, run: str) -> None:
        self._database = database
        self._config = config
        self._outcome = outcome
        self._run = run
        self._naming = ObjectNaming(config, database)
        self._photos = batch_photos(database, outcome.batch)
        self._leading = row_primaries(database, config, self._photos, (*_FORWARD, PhotoState.MIGRATED))

    def play(self, connection: Connection, rows: int) -> None:
        """Try the rows, inside the transaction that will be undone."""
        by_row: dict[str, list[Photo]] = defaultdict(list)
        for photo in self._photos:
            if photo.state in (*_FORWARD, PhotoState.MIGRATED):
                by_row[photo.row_id].append(photo)
        for photos in list(by_row.values())[:rows]:
            self._outcome.rows += 1
            self._try(connection, photos)

    def _try(self, connection: Connection, photos: Sequence[Photo]) -> None:
        name = f"{photos[0].source} {photos[0].row_key}"
        address = RowAddress.of(self._database, self._config.source(photos[0].source), photos[0].row_key)
        found = _whole_row(connection, address)
        if found is None:
            self._outcome.edited += 1
            return
        expected = found
        state = PhotoState(photos[0].state)
        if state in _FORWARD:
            if problem := self._rewrite(connection, [p for p in photos if p.state == state], state):
                self._outcome.refused.append(f"{name}: {problem}")
                return
        else:
            expected = self._local_row(connection, photos[0], found)
        counts = RowRollback(
            self._database, self._config, {p.id: p for p in self._photos}, batch=self._outcome.batch
        ).roll_back(connection, self._applied_whole(connection, photos[0]))
        self._judge(name, expected, _whole_row(connection, address), counts)

    def _rewrite(self, connection: Connection, photos: list[Photo], state: PhotoState) -> str | None:
        """Rewrite the row as the migration would; return why it cannot be, if so."""
        rewriter = RowRewriter(
            self._database,
            self._config,
            self._naming,
            _PROVEN,
            batch=self._outcome.batch,
            run=self._run,
            expected_state=state,
        )
        primary = self._leading.get(photos[0].row_id)
        counts = rewriter.rewrite(connection, photos, primary)
        if counts.rows:
            return None
        columns = rewrite_table.c
        reason = connection.execute(
            sa.select(columns.reason)
            .where(columns.row_id == photos[0].row_id, columns.run == self._run)
            .order_by(columns.id.desc())
        ).scalar()
        return reason or "it is not ready to be rewritten"

    def _applied(self, connection: Connection, photo: Photo) -> list[Any]:
        columns = rewrite_table.c
        query = sa.select(rewrite_table).where(
            columns.row_id == photo.row_id,
            columns.batch == self._outcome.batch,
            columns.outcome == RewriteOutcome.APPLIED,
        )
        return list(connection.execute(query.order_by(columns.id.desc())))

    def _applied_whole(self, connection: Connection, photo: Photo) -> RowPart:
        entries = self._applied(connection, photo)
        return whole_row(entries, ledger.photos_of(connection, entries))

    def _local_row(
        self, connection: Connection, photo: Photo, found: Mapping[str, RawValue]
    ) -> dict[str, RawValue]:
        """Return the row as a rollback has to leave it: each unedited cell as before its first rewrite."""
        chains: dict[str, list[Any]] = defaultdict(list)
        for entry in self._applied(connection, photo):
            chains[entry.column].append(entry)
        local = dict(found)
        for name, chain in chains.items():
            if name in found and found[name] == ledger.after_of(chain[0]):
                local[name] = ledger.before_of(chain[-1])
        return local

    def _judge(
        self,
        name: str,
        expected: Mapping[str, RawValue],
        back: Mapping[str, RawValue] | None,
        counts: Any,
    ) -> None:
        outcome = self._outcome
        if counts.failed:
            outcome.refused.append(f"{name}: the database did not take the old values")
        elif counts.conflicts and not counts.rolled_back:
            outcome.edited += 1
        elif differing := [] if back is None else _differing(expected, back):
            outcome.differing.append(f"{name}: {', '.join(differing)}")
        elif back is None:
            outcome.differing.append(f"{name}: the row is gone")
        else:
            outcome.exact += 1


def _whole_row(connection: Connection, address: RowAddress) -> dict[str, RawValue] | None:
    return address.read(connection, list(address.table.columns.keys()))


def _differing(expected: Mapping[str, RawValue], back: Mapping[str, RawValue]) -> list[str]:
    return [name for name, value in expected.items() if raw.encode(value) != raw.encode(back[name])]


class _AlwaysProven(Mapping[str, Any]):
    """Stands in for objects that may not be made yet: a rehearsal is about rows, and shows nobody a URL."""

    _OBJECT = SimpleNamespace(
        verified_at=utc_now(), deleted_at=None, bytes=1, width=1, height=1, mime="image/jpeg", quality=80
    )

    def __getitem__(self, key: str) -> Any:
        return self._OBJECT

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


_PROVEN = _AlwaysProven()
