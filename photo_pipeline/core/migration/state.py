"""Where batches and the migration as a whole stand, kept beside the ledger."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import MIGRATION
from photo_pipeline.core.catalog.tables import (
    BatchState,
    Control,
    PhotoState,
    RewriteOutcome,
    batch_table,
    migration_table,
    photo_table,
    rewrite_table,
    utc_now,
)
from photo_pipeline.core.errors import (
    ErrorClass,
    ForecastRefusedError,
    GuardRefusedError,
    PausedError,
    PhotoPipelineError,
)
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.watch import read_wish, require_running
from photo_pipeline.core.retry_rules import class_of

_UNFINISHED = (PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED)


@dataclass(frozen=True)
class BatchStatus:
    """One batch as `status` shows it; `photos` counts references by state."""

    key: str
    state: str
    photos: dict[str, int]
    error: str | None
    error_class: str | None = None
    failures: int = 0


@dataclass(frozen=True)
class _Outcome:
    """What is written of a batch's work: why it stopped, and what that counts as (None: as no failure)."""

    error: str | None = None
    failure: ErrorClass | None = None
    is_through: bool = False

    def values(self) -> dict[str, Any]:
        """Return the columns; a start or a pause leaves the count of failures as it is."""
        if self.is_through:
            return {"error": None, "error_class": None, "failures": 0}
        if self.failure is None:
            return {"error": self.error}
        counted = {"failures": batch_table.c.failures + 1, "failed_at": utc_now()}
        return {"error": self.error, "error_class": self.failure} | counted


def _begun(lease: BatchLease, state: BatchState) -> _Outcome:
    """Return what a start writes: failures on the way forward say nothing of the way back, and vice versa."""
    # `completed` with failures: a rollback that left rows.
    back = (BatchState.ROLLING_BACK, BatchState.COMPLETED)
    forward = (BatchState.COMPLETED, BatchState.ROLLED_BACK)
    before = lease.previous_state
    turns = before in forward if state is BatchState.RUNNING else before not in back
    return _Outcome(is_through=True) if turns else _Outcome()


def _failed(error: BaseException) -> _Outcome:
    """Return what an error counts as: a stop by a person, or by the cost guard's breaker, as no failure."""
    if isinstance(error, PausedError) and not isinstance(error, ForecastRefusedError):
        return _Outcome(str(error))
    if isinstance(error, PhotoPipelineError):
        return _Outcome(str(error), error.error_class)
    if isinstance(error, Exception):
        return _Outcome(f"ended by {type(error).__name__}; run it again to continue", class_of(error))
    how = "interrupted" if isinstance(error, KeyboardInterrupt) else f"ended by {type(error).__name__}"
    return _Outcome(f"{how}; run it again to continue")


@contextmanager
def working_on(database: Database, lease: BatchLease, state: BatchState) -> Iterator[None]:
    """Mark the batch as `state` while the body runs; an exception marks it failed, with its message.

    A pause marks it paused. A rollback that fails stays `rolling_back`: it has to be finished, not migrated
    over.

    Raises:
        PausedError: the batch shall move forward, but the migration is paused or aborted.
        GuardRefusedError: the batch shall move forward, but its rollback was interrupted.
    """
    forward = state is BatchState.RUNNING
    if forward and lease.previous_state == BatchState.ROLLING_BACK:
        raise GuardRefusedError(
            lease.batch,
            cause="its rollback was interrupted",
            fix=f"finish it first: photo-pipeline rollback --batch {lease.batch}",
        )
    if forward:
        _require_wanted(database, lease)
    after_failure = BatchState.FAILED if forward else state
    _set(database, lease, state, _begun(lease, state))
    try:
        yield
    except PausedError as error:
        _set(database, lease, BatchState.PAUSED if forward else state, _failed(error))
        raise
    except BaseException as error:
        _set(database, lease, after_failure, _failed(error))
        raise


def _require_wanted(database: Database, lease: BatchLease) -> None:
    """Refuse to begin, or to go on with the next step of a batch, while the migration is stopped."""
    try:
        require_running(database)
    except PausedError as error:
        if lease.previous_state == BatchState.RUNNING:
            _set(database, lease, BatchState.PAUSED, _failed(error))
        raise


def settle_forward(database: Database, lease: BatchLease) -> BatchState:
    """Close a batch after its rewrite: completed, or failed if photos are left unfinished.

    A batch whose photos are rolled back, and none migrated, stays rolled back.
    """
    counts = photo_states(database, lease.batch)
    left = sum(counts[state] for state in _UNFINISHED)
    state = BatchState.FAILED if left else BatchState.COMPLETED
    if not left and counts[PhotoState.ROLLED_BACK] and not counts[PhotoState.MIGRATED]:
        state = BatchState.ROLLED_BACK
    _set(database, lease, state, _settled(left, "photos are not migrated yet; run it again"))
    return state


def settle_back(database: Database, lease: BatchLease) -> BatchState:
    """Close a batch after a rollback: rolled back, or still completed if rewritten rows are left."""
    columns = rewrite_table.c
    with database.read() as connection:
        left = connection.execute(
            sa.select(sa.func.count()).where(
                columns.batch == lease.batch,
                columns.outcome == RewriteOutcome.APPLIED,
                columns.photo_id.is_not(None),
                columns.photo_id.not_in(
                    sa.select(photo_table.c.id).where(photo_table.c.state == PhotoState.DELETED)
                ),
            )
        ).scalar_one()
    state = BatchState.COMPLETED if left else BatchState.ROLLED_BACK
    _set(database, lease, state, _settled(left, "photos were not rolled back"))
    return state


def settle_partly_back(database: Database, lease: BatchLease) -> BatchState:
    """Close a batch after some of its photos went back: as after a rewrite of the others.

    An interrupted rollback of the whole batch stays to be finished, unless there is nothing left of it.
    """
    if lease.previous_state != BatchState.ROLLING_BACK:
        return settle_forward(database, lease)
    if not photo_states(database, lease.batch)[PhotoState.MIGRATED]:
        return settle_back(database, lease)
    return BatchState.ROLLING_BACK


def _settled(left: int, what: str) -> _Outcome:
    return _Outcome(f"{left} {what}", ErrorClass.PROCESSING) if left else _Outcome(is_through=True)


def _set(database: Database, lease: BatchLease, state: BatchState, outcome: _Outcome) -> None:
    def change(connection: Connection) -> None:
        # Whoever changes both takes the migration's row before a batch's, as inventories do.
        read_wish(connection, lock=True)
        lease.hold(connection)
        connection.execute(
            sa.update(batch_table)
            .where(batch_table.c.key == lease.batch)
            .values(state=state, updated_at=utc_now(), **outcome.values())
        )
        refresh_migration(connection)

    database.transact(change)


def photo_states(database: Database, batch: str) -> Counter[str]:
    """Return how many photos of the batch are in each state."""
    columns = photo_table.c
    with database.read() as connection:
        grouped = (
            sa.select(columns.state, sa.func.count()).where(columns.batch == batch).group_by(columns.state)
        )
        return Counter({str(row[0]): int(row[1]) for row in connection.execute(grouped)})


def photos_in_trouble(database: Database) -> int:
    """Return how many photos are quarantined or in conflict, in whichever batch or in none."""
    photo = photo_table.c
    with database.read() as connection:
        query = sa.select(sa.func.count()).where(
            photo.source.is_not(None), photo.state.in_([PhotoState.QUARANTINED, PhotoState.CONFLICT])
        )
        return int(connection.execute(query).scalar_one())


def unbatched_states(database: Database) -> dict[str, int]:
    """Return how many photos that are in no batch need a look, by state."""
    photo = photo_table.c
    with database.read() as connection:
        query = (
            sa.select(photo.state, sa.func.count())
            .where(photo.batch.is_(None), photo.state == PhotoState.QUARANTINED, photo.source.is_not(None))
            .group_by(photo.state)
        )
        return {str(row[0]): int(row[1]) for row in connection.execute(query)}


def batch_statuses(database: Database) -> list[BatchStatus]:
    """Return every batch with its photos by state, in running order."""
    photo, batch = photo_table.c, batch_table.c
    by_batch: dict[str, dict[str, int]] = {}
    with database.read() as connection:
        grouped = (
            sa.select(photo.batch, photo.state, sa.func.count())
            .where(photo.batch.is_not(None))
            .group_by(photo.batch, photo.state)
        )
        for key, state, count in connection.execute(grouped):
            by_batch.setdefault(key, {})[state] = count
        rows = connection.execute(sa.select(batch_table).order_by(batch.priority, batch.key)).all()
    return [
        BatchStatus(row.key, row.state, by_batch.get(row.key, {}), row.error, row.error_class, row.failures)
        for row in rows
    ]


def batch_keys(database: Database) -> list[str]:
    """Return the keys of all batches, in running order."""
    columns = batch_table.c
    with database.read() as connection:
        query = sa.select(columns.key).order_by(columns.priority, columns.key)
        return list(connection.execute(query).scalars())


def refresh_migration(connection: Connection) -> None:
    """Derive the migration's status from its batches and what is wanted, and store it.

    In the transaction that changed either: a run that dies in between would leave a status that nobody mends.
    """
    wanted = read_wish(connection, lock=True).control
    grouped = sa.select(batch_table.c.state, sa.func.count()).group_by(batch_table.c.state)
    counts: dict[str, int] = {str(row[0]): int(row[1]) for row in connection.execute(grouped)}
    connection.execute(
        sa.update(migration_table)
        .where(migration_table.c.name == MIGRATION)
        .values(status=_overall(counts, wanted), updated_at=utc_now())
    )


def _overall(counts: dict[str, int], control: Control) -> str:
    """Return the migration's status: work under way decides first, then what is wanted, then what is left."""
    for state in (BatchState.ROLLING_BACK, BatchState.RUNNING):
        if counts.get(state):
            return state
    if control is not Control.RUNNING:
        return control
    for state in (BatchState.FAILED, BatchState.PAUSED):
        if counts.get(state):
            return state
    finished = [state for state, count in counts.items() if count]
    if not finished:
        return BatchState.PENDING
    if len(finished) == 1:
        return finished[0]
    return BatchState.PENDING if counts.get(BatchState.PENDING) else BatchState.COMPLETED


def migration_row(database: Database) -> Any | None:
    """Return the row of `pp_migration`, or None before the first inventory."""
    with database.read() as connection:
        return connection.execute(
            sa.select(migration_table).where(migration_table.c.name == MIGRATION)
        ).one_or_none()
