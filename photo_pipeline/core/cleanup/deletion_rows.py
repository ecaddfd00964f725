"""Deletes the references of rows to photos, as a confirmed deletion says: the first half of `deletion`."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from photo_pipeline.core import audit
from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import ROW_LOCK_TIMEOUT_S, Database
from photo_pipeline.core.catalog.faults import refusal
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import (
    DeletionState,
    PhotoState,
    deleted_row_table,
    photo_table,
    utc_now,
)
from photo_pipeline.core.cleanup.deletion_references import rows_that_go_along
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.ledger import RowRefusedError
from photo_pipeline.core.progress import Progress

_ROWS = 100


class RowDeletion:
    """Does to the rows of one deletion what was confirmed, chunk by chunk, each under its batch's lease."""

    def __init__(
        self, database: Database, config: PipelineConfig, token: str, *, run: str, progress: Progress
    ) -> None:
        self._database = database
        self._config = config
        self._token = token
        self._run = run
        self._progress = progress

    def change_rows(self) -> None:
        """Change each row that is still to be changed; one that refuses is kept, with the reason.

        Raises:
            LeaseLostError: a run works on a batch of the photos.
            DatabaseError: the database is gone; confirm again to go on.
        """
        by_batch: dict[str | None, list[Any]] = defaultdict(list)
        rows = self._pending()
        batches = self._batches([int(photo) for row in rows for photo in row.photos])
        for row in rows:
            by_batch[batches.get(int(next(iter(row.photos))))].append(row)
        done = 0
        for batch, members in by_batch.items():
            for start in range(0, len(members), _ROWS):
                chunk = members[start : start + _ROWS]
                if batch is None:
                    self._change_chunk(chunk, None)
                else:
                    with BatchLease(self._database, batch, run=self._run) as lease:
                        self._change_chunk(chunk, lease)
                done += len(chunk)
                self._progress("rows", done, len(rows))

    def _batches(self, photos: Sequence[int]) -> dict[int, str]:
        columns = photo_table.c
        found: dict[int, str] = {}
        with self._database.read() as connection:
            for start in range(0, len(photos), 500):
                query = sa.select(columns.id, columns.batch).where(
                    columns.id.in_(photos[start : start + 500]), columns.batch.is_not(None)
                )
                found |= {row.id: row.batch for row in connection.execute(query)}
        return found

    def _change_chunk(self, rows: Sequence[Any], lease: BatchLease | None) -> None:
        def change(connection: Connection) -> None:
            if lease is not None:
                lease.hold(connection)
            changed = []
            for row in rows:
                reason = self._change_row(connection, row)
                self._note_row(connection, row, reason)
                if reason is None:
                    changed.append([row.source, row.row_key, row.act, sorted(row.before)])
            if changed:
                audit.record(
                    connection,
                    action="delete_rows",
                    subject=f"{len(changed)} rows",
                    batch=lease.batch if lease is not None else None,
                    details={"token": self._token, "rows": changed},
                    run=self._run,
                )

        self._database.transact(change, lock_timeout_s=ROW_LOCK_TIMEOUT_S)

    def _change_row(self, connection: Connection, row: Any) -> str | None:
        """Do to one row what was confirmed; return why it was left instead, or None."""
        if row.act == "leave":
            return None
        try:
            with connection.begin_nested():
                self._swap(connection, row)
        except (RowRefusedError, ConfigurationError, DBAPIError) as error:
            return refusal(error)
        return None

    def _swap(self, connection: Connection, row: Any) -> None:
        address = RowAddress.of(self._database, self._config.source(row.source), row.row_key)
        before = {name: raw.decode(*value) for name, value in row.before.items()}
        gone = [name for name in before if name not in address.table.columns]
        if gone:
            raise RowRefusedError(f"column {gone[0]!r} no longer exists")
        current = address.read(connection, list(before))
        if current is None or not _same(current, before):
            raise RowRefusedError("the application changed it since the plan")
        if row.act == "delete_row":
            _delete_row(connection, address, before)
        elif before and not ledger.swap(
            connection, address, before=before, after=dict.fromkeys(before, None)
        ):
            raise RowRefusedError("the application changed it since the plan")
        elif any((address.read(connection, list(before)) or {}).values()):
            raise RowRefusedError("the database did not keep it empty (a trigger?)")

    def _note_row(self, connection: Connection, row: Any, reason: str | None) -> None:
        now, columns = utc_now(), deleted_row_table.c
        connection.execute(
            sa.update(deleted_row_table)
            .where(columns.token == self._token, columns.row_id == row.row_id)
            .values(state=DeletionState.KEPT if reason else DeletionState.DONE, reason=reason, at=now)
        )
        if reason is None:
            connection.execute(
                sa.update(photo_table)
                .where(photo_table.c.id.in_([int(photo) for photo in row.photos]))
                .values(state=PhotoState.DELETED, error_type=None, error_detail=None, updated_at=now)
            )

    def _pending(self) -> list[Any]:
        columns = deleted_row_table.c
        query = sa.select(deleted_row_table).where(
            columns.token == self._token, columns.state == DeletionState.PENDING
        )
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(*deleted_row_table.primary_key)))


def _same(current: dict[str, RawValue], before: dict[str, RawValue]) -> bool:
    return all(raw.encode(current[name]) == raw.encode(value) for name, value in before.items())


def _delete_row(connection: Connection, address: RowAddress, before: dict[str, RawValue]) -> None:
    columns = address.table.columns
    same = [raw.equals(columns[name], value, is_sqlite=address.is_sqlite) for name, value in before.items()]
    # The row is locked: what refers to it from now on waits, and is refused.
    if along := rows_that_go_along(connection, address):
        raise RowRefusedError(along)
    done = connection.execute(sa.delete(address.table).where(*address.condition(), *same))
    if done.rowcount != 1:
        raise RowRefusedError(
            "the application changed it since the plan" if not done.rowcount else "its key finds several rows"
        )
