"""Who works on what, since when, and whether there is still a sign of life."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import lease_table
from photo_pipeline.core.live.batches import LiveBatch
from photo_pipeline.core.migration.lease import LEASE_TTL, is_dead

# A lease is renewed with each photo, and the slowest photo takes 30 s.
_QUIET_AFTER: Final = timedelta(seconds=45)

Health = Literal["alive", "quiet", "gone"]


@dataclass(frozen=True)
class Worker:
    """One holder of a lease.

    Attributes:
        work: What it works on: a batch's key, or another lease's name.
        doing: The batch's state, or what the lease is for.
        host: Its machine.
        process: Its process id there.
        run: Its run.
        since: When the step began (UTC); None where that is not recorded.
        health: alive, quiet (no renewal for longer than a photo takes) or gone.
        note: The same for people.
    """

    work: str
    doing: str
    host: str
    process: str
    run: str
    since: datetime | None
    health: Health
    note: str


def workers(
    connection: Connection,
    batches: Iterable[LiveBatch],
    now: datetime,
    *,
    has_ended: Callable[[str], bool] = is_dead,
) -> tuple[Worker, ...]:
    """Return who holds a lease, or held one when it ran out.

    Args:
        connection: In any transaction.
        batches: All batches.
        now: In UTC.
        has_ended: Whether an owner of this machine has ended, as far as that can be known.
    """
    found = [
        _worker(each.key, each.state, each.owner, each.expires_at, each.changed_at, now, has_ended)
        for each in batches
        if each.owner
    ]
    lease = lease_table.c
    query = sa.select(lease.name, lease.owner, lease.expires_at).where(lease.owner.is_not(None))
    found += [
        _worker(row.name.replace("_", " "), "running", row.owner, row.expires_at, None, now, has_ended)
        for row in connection.execute(query.order_by(lease.name))
    ]
    return tuple(found)


def _worker(
    work: str,
    doing: str,
    owner: str,
    expires_at: datetime | None,
    since: datetime | None,
    now: datetime,
    has_ended: Callable[[str], bool],
) -> Worker:
    host, _, rest = owner.partition("/")
    process, _, run = rest.partition("/")
    health, note = _health(expires_at, now, ended=has_ended(owner))
    return Worker(work, doing, host, process, run, since, health, note)


def _health(expires_at: datetime | None, now: datetime, *, ended: bool) -> tuple[Health, str]:
    if ended:
        return "gone", "its process has ended; the next run takes over at once"
    if expires_at is None:
        return "quiet", "its lease has no end"
    seen = expires_at - LEASE_TTL
    if expires_at <= now:
        return "gone", f"no sign of life since {seen:%H:%M:%S} UTC; the next run takes over"
    if now - seen > _QUIET_AFTER:
        return "quiet", f"no sign of life since {seen:%H:%M:%S} UTC; taken over after {expires_at:%H:%M:%S}"
    return "alive", "renews its lease"
