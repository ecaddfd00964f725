"""What the state tables know of the situation that the driver decides in (`driver`). Reads only."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import (
    BatchState,
    RewriteOutcome,
    batch_table,
    pass_table,
    rewrite_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost.breaker import read_breaker
from photo_pipeline.core.cost.guard import CostGuard
from photo_pipeline.core.errors import BudgetError, ErrorClass
from photo_pipeline.core.migration.delta import MAX_PASSES, zero_delta
from photo_pipeline.core.migration.driver import BatchFacts, Situation
from photo_pipeline.core.migration.lease import is_dead
from photo_pipeline.core.migration.watch import read_wish


def read_situation(
    database: Database, config: PipelineConfig, *, busy: Collection[str] = (), is_inventory_busy: bool = False
) -> Situation:
    """Return the situation at this moment.

    Args:
        database: With the state tables, at their present version.
        config: How many batches run at once, whether to look for new photos, and the limits.
        busy: Batches that runs are at work on, or about to be, whether they hold the lease already or not.
        is_inventory_busy: Whether an inventory is under way.

    Raises:
        DatabaseError: the database does not answer.
    """
    suspended = ""
    try:
        CostGuard.of(database, config).require_open()
    except BudgetError as error:
        suspended = str(error)
    delta, now = zero_delta(database), utc_now()
    with database.read() as connection:
        wish = read_wish(connection)
        return Situation(
            now=now,
            at_once=config.batches.at_once,
            control=wish.control,
            stopped=wish.sentence,
            control_at=wish.at,
            suspended=suspended,
            is_overridden=read_breaker(connection).is_overridden(now),
            batches=_batches(connection, busy, now),
            last_success_at=_last_success_at(connection),
            rescan=config.batches.rescan,
            is_pass_due=delta.proven_at is None and _may_find_something(connection),
            is_inventory_busy=is_inventory_busy,
            delta=delta.sentence,
        )


def _batches(connection: Connection, busy: Collection[str], now: datetime) -> tuple[BatchFacts, ...]:
    outcome, batch = rewrite_table.c.outcome, rewrite_table.c.batch
    standing = sa.select(batch).where(outcome == RewriteOutcome.APPLIED).distinct()
    migrated = set(connection.execute(standing).scalars())
    rows = connection.execute(sa.select(batch_table)).all()
    return tuple(
        BatchFacts(
            key=row.key,
            priority=row.priority,
            state=BatchState(row.state),
            failures=row.failures,
            error_class=ErrorClass(row.error_class) if row.error_class else None,
            failed_at=row.failed_at,
            is_busy=row.key in busy or _is_held(row, now),
            is_migrated=row.key in migrated,
        )
        for row in rows
    )


def _is_held(row: Any, now: datetime) -> bool:
    """Return whether a living run or command holds the batch's lease."""
    return bool(row.lease_owner) and row.lease_expires_at > now and not is_dead(row.lease_owner)


def _last_success_at(connection: Connection) -> datetime | None:
    columns = batch_table.c
    through = (BatchState.COMPLETED, BatchState.ROLLED_BACK)
    query = sa.select(sa.func.max(columns.updated_at)).where(
        columns.state.in_(through), columns.failures == 0
    )
    last: datetime | None = connection.execute(query).scalar_one()
    return last


def _may_find_something(connection: Connection) -> bool:
    """Return whether another inventory may find something that the last ones did not (as `migrate` decides).

    Not once the last two left the same photos open and found nothing, nor after too many in a row.
    """
    columns = pass_table.c
    finished = sa.select(pass_table).where(columns.finished_at.is_not(None))
    last = connection.execute(finished.order_by(columns.id.desc()).limit(MAX_PASSES)).all()
    if len(last) < 2:
        return True
    if len(last) == MAX_PASSES and not any(each.still for each in last):
        return False
    newest, before = last[0], last[1]
    return bool(newest.new or newest.changed or newest.gone) or newest.open != before.open or before.still
