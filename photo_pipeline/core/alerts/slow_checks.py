"""Looks that take too long for each minute: each has an interval of its own, and what it found is kept.

The conditions read what was found; so an alert stays open until a later look finds nothing.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.alerts.situation import Situation
from photo_pipeline.core.catalog.database import Database, insert_or_update
from photo_pipeline.core.catalog.tables import check_table, rewrite_table
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost.meter import Meter
from photo_pipeline.core.errors import PhotoPipelineError
from photo_pipeline.core.migration.ledger_audit import verify_ledger

_SOON: Final = timedelta(hours=1)
"""What was wrong, or could not be looked at, is looked at again after this time at the latest."""
_MOST_LEDGER_ROWS: Final = 200_000
"""A larger ledger would keep the sensor from the other alerts: then only the log is proven here."""
_SHOWN = 5


@dataclass(frozen=True)
class Found:
    """What a look found: how many things, and the first of them for people."""

    findings: int = 0
    detail: str = ""


@dataclass(frozen=True)
class SlowCheck:
    """One such look.

    Attributes:
        name: Of its row in `pp_check`.
        hours: After how many it is due again, by the configuration; None: never.
        look: Does it.
    """

    name: str
    hours: Callable[[PipelineConfig], float | None]
    look: Callable[[Situation], Found]


def prove_the_audit_log(situation: Situation) -> Found:
    """Do what `audit verify` does: the chain of the log, and the ledger that it vouches for."""
    with situation.database.read() as connection:
        chain = audit.verify(connection)
        if not chain.holds:
            return Found(1, f"The audit log is broken at entry {chain.broken_seq:,}: {chain.reason}.")
        rows = connection.execute(sa.select(sa.func.count()).select_from(rewrite_table)).scalar_one()
        ledger = verify_ledger(connection) if rows <= _MOST_LEDGER_ROWS else None
    if ledger is not None and not ledger.holds:
        return Found(1, f"The ledger is changed, by entry {ledger.broken_seq:,} of the log: {ledger.reason}.")
    return Found()


def look_for_drift(situation: Situation) -> Found:
    """Do what `provision drift` does: some 40 requests to AWS, which take seconds."""
    # boto3 and its models: 0.5 s, and not needed at each look.
    from photo_pipeline.core.provisioning.aws import Aws
    from photo_pipeline.core.provisioning.plan import make_plan
    from photo_pipeline.core.provisioning.resource import World

    config = situation.config
    with closing(Meter(situation.database, tills=config.state.counted_dir)) as meter:
        plan = make_plan(World(config, Aws(config.store, meter=meter)))
    found = [*plan.warnings, *(f"{each.resource} is not as configured" for each in plan.changes)]
    more = [f"and {len(found) - _SHOWN:,} more"] if len(found) > _SHOWN else []
    return Found(len(found), "\n".join([*found[:_SHOWN], *more]))


AUDIT, DRIFT = "audit_log", "drift"
CHECKS: Final = (
    SlowCheck(AUDIT, lambda config: config.alerts.audit_hours, prove_the_audit_log),
    SlowCheck(DRIFT, lambda config: config.alerts.drift_hours, look_for_drift),
)


def run_due(situation: Situation, *, now_all: bool = False) -> None:
    """Make the looks that are due, and keep what they found.

    One that fails (AWS does not answer, say) is no finding: why is kept, and it is tried again later.

    Args:
        situation: The installation, now.
        now_all: Whether all that are switched on are due.

    Raises:
        DatabaseError: the database does not answer.
    """
    for check in CHECKS:
        hours = check.hours(situation.config)
        every = None if hours is None else timedelta(hours=hours)
        if every is not None and _claim(situation, check.name, every, now_all=now_all):
            _run(situation, check)


def found_by(database: Database, name: str) -> Found:
    """Return what the last look of that name found; nothing if there was none."""
    columns = check_table.c
    with database.read() as connection:
        row = connection.execute(
            sa.select(columns.findings, columns.detail).where(columns.name == name)
        ).one_or_none()
    return Found(*row) if row else Found()


def _claim(situation: Situation, name: str, every: timedelta, *, now_all: bool) -> bool:
    """Return whether the look is due, and ours: of two processes that look at once one makes it."""
    mine = sa.select(check_table).where(check_table.c.name == name)

    def is_due(row: Any) -> bool:
        return row is None or now_all or situation.now >= _due_at(row, every)

    def claim(connection: Connection) -> bool:
        row = connection.execute(mine.with_for_update()).one_or_none()
        if not is_due(row):
            return False
        kept = {"findings": row.findings, "detail": row.detail} if row else {"findings": 0, "detail": ""}
        # Until it is done, an unfinished look: one that dies is tried again soon.
        values = kept | {"name": name, "checked_at": situation.now, "error": "it has not ended"}
        insert_or_update(connection, check_table, [values])
        return True

    # Mostly it is not, and then nothing is locked.
    with situation.database.read() as connection:
        row = connection.execute(mine).one_or_none()
    return is_due(row) and situation.database.transact(claim)


def _due_at(row: Any, every: timedelta) -> datetime:
    wait = min(every, _SOON) if row.findings or row.error else every
    due: datetime = row.checked_at + wait
    return due


def _run(situation: Situation, check: SlowCheck) -> None:
    mine = sa.update(check_table).where(check_table.c.name == check.name)
    try:
        found = check.look(situation)
    except PhotoPipelineError as error:
        failed = mine.values(error=str(error))
        situation.database.transact(lambda connection: connection.execute(failed))
        return
    done = mine.values(findings=found.findings, detail=found.detail, error=None)
    situation.database.transact(lambda connection: connection.execute(done))
