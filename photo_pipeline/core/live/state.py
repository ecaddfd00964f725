"""Everything that a live page shows, read from the state tables. Writes nothing, asks neither store nor CDN.

What changes with each photo is read each time, by statements that an index answers. What needs a look at
all photos (findings, zero delta, bytes stored) is read at most every ten seconds, and never for more than a
twentieth of the time.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from pybreaker import STATE_CLOSED
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.audit import AuditEntry
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import MIGRATION
from photo_pipeline.core.catalog.inventory import Inventory
from photo_pipeline.core.catalog.schema import schema_exists
from photo_pipeline.core.catalog.tables import (
    GONE,
    BatchState,
    Control,
    PhotoState,
    batch_table,
    migration_table,
    pass_table,
    photo_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost.breaker import BreakerRow, read_breaker
from photo_pipeline.core.cost.guard import CostStatus, cost_status
from photo_pipeline.core.live import batches as board
from photo_pipeline.core.live.batches import BatchBoard, Cell, LiveBatch
from photo_pipeline.core.live.pace import WINDOW, Pace, TimeLeft, measure, time_left
from photo_pipeline.core.live.sentence import NOT_STARTED, Facts, PhotoCounts, Standing, stand
from photo_pipeline.core.live.workers import Worker, workers
from photo_pipeline.core.migration.delta import ZeroDelta, zero_delta
from photo_pipeline.core.migration.lease import LEASE_TTL
from photo_pipeline.core.migration.watch import Wish, read_wish
from photo_pipeline.core.report.findings import FindingGroup, count_findings

LAST_EVENTS: Final = 12
# Six entries a batch, which would leave nothing else to be seen.
_ROUTINE: Final = ("backup",)
LISTED_BATCHES: Final = 25

_SLOW_EVERY_S: Final = 10.0
_SLOW_SHARE: Final = 20
_BETWEEN_ASSETS: Final = timedelta(seconds=30)
_NO_PACE: Final = Pace(None, 1.0, 0.0, (0,) * 20)


@dataclass(frozen=True)
class BreakerState:
    """Whether the cost guard lets uploads go on, and if not, since when and why."""

    state: str
    since: datetime | None
    reason: str | None
    override_until: datetime | None
    override_by: str | None
    override_reason: str | None


@dataclass(frozen=True)
class Thorough:
    """What needs a look at all photos, and when that was (UTC).

    Attributes:
        at: When it was read.
        findings: What a person should look at, by reason, each with its fix; no photo is listed.
        zero_delta: Whether nothing is left to migrate.
        cost: What is used this month beside the limits; None where the state tables are too old.
        sentence: What the cost guard has to say; empty if nothing.
    """

    at: datetime
    findings: tuple[FindingGroup, ...]
    zero_delta: ZeroDelta
    cost: CostStatus | None
    sentence: str

    @property
    def findings_total(self) -> int:
        """How many findings there are."""
        return sum(group.count for group in self.findings)


@dataclass(frozen=True)
class LiveState:
    """How the migration stands. These names are the keys of `/api/status`.

    Attributes:
        as_of: When it was read (UTC).
        standing: The sentence, its level and its kind.
        control: What people want: running, paused or aborted; who, when and why.
        photos: Photos in batches by how far they are.
        photo_states: The same by state.
        batch_states: Batches by state.
        cells: The map.
        listed: Batches to look at: those under way, paused or failed; at most `LISTED_BATCHES`.
        unlisted: How many more of them there are.
        pace: Photos finished per second.
        time_left: How long the rest takes; None where that is not known.
        workers: Who holds a lease.
        breaker: Of the cost guard.
        events: The last audit entries but those of backups, the newest first.
        inventory: The last inventory's totals.
        inventoried_at: When it ended (UTC).
        thorough: What needs a look at all photos; up to some ten seconds older than the rest.
    """

    as_of: datetime
    standing: Standing = NOT_STARTED
    control: Wish = field(default_factory=lambda: Wish(Control.RUNNING))
    photos: PhotoCounts = field(default_factory=PhotoCounts)
    photo_states: dict[str, int] = field(default_factory=dict)
    batch_states: dict[str, int] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()
    listed: tuple[LiveBatch, ...] = ()
    unlisted: int = 0
    pace: Pace = _NO_PACE
    time_left: TimeLeft | None = None
    workers: tuple[Worker, ...] = ()
    breaker: BreakerState | None = None
    events: tuple[AuditEntry, ...] = ()
    inventory: Inventory | None = None
    inventoried_at: datetime | None = None
    thorough: Thorough | None = None

    @property
    def is_started(self) -> bool:
        """Whether there has been an inventory."""
        return self.standing is not NOT_STARTED

    def unchanged_since(self, other: "LiveState | None") -> bool:
        """Return whether nothing but the clock has moved on."""
        if other is None or (self.thorough is None) != (other.thorough is None):
            return False
        mine, theirs = self, other
        if self.thorough and other.thorough:
            mine = replace(mine, thorough=replace(self.thorough, at=self.as_of))
            theirs = replace(theirs, thorough=replace(other.thorough, at=self.as_of))
        return mine == replace(theirs, as_of=self.as_of)


class LiveReader:
    """Reads the state again and again, and remembers what cannot have changed. Not thread-safe."""

    def __init__(
        self, database: Database, config: PipelineConfig, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._config = config
        self._clock = clock
        self._board = BatchBoard()
        self._has_schema = False
        self._alive_at: datetime | None = None
        self._thorough: Thorough | None = None
        self._thorough_until = 0.0

    def read(self) -> LiveState:
        """Return how it stands at this moment.

        Raises:
            DatabaseError: the database does not answer.
        """
        now = self._clock()
        self._has_schema = self._has_schema or schema_exists(self._database)
        if not self._has_schema:
            return LiveState(now)
        thorough = self._read_thorough(now)
        with self._database.read() as connection:
            row = connection.execute(
                sa.select(migration_table).where(migration_table.c.name == MIGRATION)
            ).one_or_none()
            if row is None:
                return LiveState(now)
            return self._read(connection, row, now, thorough)

    def _read(self, connection: Connection, row: Any, now: datetime, thorough: Thorough) -> LiveState:
        wish = read_wish(connection)
        found = self._board.read(connection, now)
        states = _photo_states(found)
        photos = _photo_counts(states)
        pace = _pace(connection, now, wish)
        left = time_left(photos.to_do, pace)
        breaker = _breaker(connection, now) if thorough.cost else None
        busy = workers(connection, found, now)
        if any(each.health == "alive" for each in busy):
            self._alive_at = now
        listed = [each for each in found if each.state in _LISTED]
        standing = stand(
            Facts(
                wish=wish,
                photos=photos,
                batches=found,
                workers=busy,
                time_left=left,
                suspended=_suspended(breaker, thorough.cost),
                findings=thorough.findings_total,
                zero_delta_proven=thorough.zero_delta.proven_at is not None,
                between_steps=bool(photos.to_do) and is_between_steps(found, now, self._alive_at),
            )
        )
        return LiveState(
            as_of=now,
            standing=standing,
            control=wish,
            photos=photos,
            photo_states=states,
            batch_states=board.by_state(found),
            cells=board.cells(found),
            listed=tuple(listed[:LISTED_BATCHES]),
            unlisted=max(0, len(listed) - LISTED_BATCHES),
            pace=pace,
            time_left=left if standing.kind == "running" else None,
            workers=busy,
            breaker=breaker,
            events=tuple(reversed(audit.entries(connection, last=LAST_EVENTS, without=_ROUTINE))),
            inventory=Inventory(**row.inventory) if row.inventory else None,
            inventoried_at=row.inventoried_at,
            thorough=thorough,
        )

    def _read_thorough(self, now: datetime) -> Thorough:
        began = time.monotonic()
        if self._thorough is None or began >= self._thorough_until:
            delta, cost = zero_delta(self._database), cost_status(self._database, self._config)
            with self._database.read() as connection:
                findings = count_findings(connection)
            self._thorough = Thorough(now, findings, delta, cost, cost.sentence if cost else "")
            ended = time.monotonic()
            self._thorough_until = ended + max(_SLOW_EVERY_S, _SLOW_SHARE * (ended - began))
        return self._thorough


_LISTED: Final = (BatchState.RUNNING, BatchState.ROLLING_BACK, BatchState.FAILED, BatchState.PAUSED)


def is_between_steps(found: Sequence[LiveBatch], now: datetime, alive_at: datetime | None) -> bool:
    """Return whether a run seems to go on although nobody holds a batch.

    A completed batch is validated without its lease, and Dagster gives the lease back between two assets.

    Args:
        found: All batches.
        now: In UTC.
        alive_at: When we last saw a living worker.
    """
    begun = [each for each in found if each.state != BatchState.PENDING]
    last = max(begun, key=lambda each: each.changed_at, default=None)
    if last is None or last.owner:
        return False
    if last.state == BatchState.COMPLETED:
        return now - last.changed_at < LEASE_TTL
    return last.is_busy and alive_at is not None and now - alive_at < _BETWEEN_ASSETS


def _photo_states(found: Sequence[LiveBatch]) -> dict[str, int]:
    states = dict.fromkeys(map(str, PhotoState), 0)
    for batch in found:
        for state, count in batch.photos.items():
            states[state] = states.get(state, 0) + count
    return states


def _photo_counts(states: dict[str, int]) -> PhotoCounts:
    def count(wanted: Sequence[PhotoState]) -> int:
        return sum(states[state] for state in wanted)

    return PhotoCounts(
        total=sum(states.values()) - count(GONE),
        done=count(board.DONE),
        to_do=count(board.TO_DO),
        set_aside=count(board.SET_ASIDE),
        rolled_back=states[PhotoState.ROLLED_BACK],
    )


def _pace(connection: Connection, now: datetime, wish: Wish) -> Pace:
    """Count what was finished lately, in batches that something has happened to lately."""
    photo, batch, since = photo_table.c, batch_table.c, now - WINDOW
    # Not the pending ones: after an inventory that would be all.
    lately = sa.select(batch.key).where(
        batch.state != BatchState.PENDING, (batch.updated_at >= since) | batch.lease_owner.is_not(None)
    )
    query = (
        sa.select(photo.updated_at, sa.func.count())
        .where(photo.batch.in_(lately), photo.state.in_(board.DONE), photo.updated_at >= since)
        .group_by(photo.updated_at)
        .order_by(photo.updated_at)
    )
    finished = [(row[0], int(row[1])) for row in connection.execute(query)]
    passed = connection.execute(sa.select(sa.func.max(pass_table.c.finished_at))).scalar()
    begun = [at for at in (wish.at, passed) if at is not None]
    return measure(finished, now=now, not_before=max(begun, default=None))


def _breaker(connection: Connection, now: datetime) -> BreakerState:
    row: BreakerRow = read_breaker(connection)
    overridden = row.is_overridden(now)
    return BreakerState(
        state=row.state,
        since=row.opened_at if row.state != STATE_CLOSED else None,
        reason=row.reason if row.state != STATE_CLOSED else None,
        override_until=row.override_until if overridden else None,
        override_by=row.override_by if overridden else None,
        override_reason=row.override_reason if overridden else None,
    )


def _suspended(breaker: BreakerState | None, cost: CostStatus | None) -> str:
    """Return why uploads are suspended; empty if they are not, or if nothing is limited."""
    if (
        breaker is None
        or breaker.state == STATE_CLOSED
        or breaker.override_until
        or not (cost and cost.limits)
    ):
        return ""
    return f"Uploads are suspended by the cost guard: {breaker.reason or 'a limit is nearly used up'}."
