"""The circuit breaker in front of uploads, shared by all processes through one row of the database.

The rules of closed, open and half-open are pybreaker's; here is its storage, and what it asks. A question is
one look unless something changes, and then one transaction in which all processes take turns.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from pybreaker import (
    STATE_CLOSED,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerStorage,
)
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import breaker_table, utc_now
from photo_pipeline.core.cost.budget import OPEN_AT, Budget, LimitState, Used
from photo_pipeline.core.cost.reservation import FIX
from photo_pipeline.core.cost.standing import BREAKER, read_used, take_turns
from photo_pipeline.core.cost.units import month_of
from photo_pipeline.core.errors import BudgetError

LOCK_OUT: Final = timedelta(seconds=60)
"""How long nothing but an override closes a breaker that has opened."""
RESET: Final = timedelta(seconds=300)
"""After how long the next upload is let through to see whether there is room again.

Sooner, but not before the lock-out has passed, if the month or the limits are others than when it opened."""

# Storage changes slowly, and summing it up takes 0.1 s with a million objects.
_STORED_FOR: Final = timedelta(seconds=10)


@dataclass(frozen=True)
class BreakerRow:
    """What the database says of the breaker."""

    state: str
    failures: int
    successes: int
    opened_at: datetime | None
    opened_for: str | None
    reason: str | None
    override_until: datetime | None
    override_reason: str | None
    override_by: str | None

    def is_overridden(self, now: datetime) -> bool:
        """Whether a person has allowed to spend more, for now."""
        return self.override_until is not None and now < self.override_until


class _OverBudgetError(Exception):
    """The trial failed: a limit is used so far that the breaker must be open."""


def _require_room(spent: LimitState | None) -> None:
    if spent is not None:
        raise _OverBudgetError(spent.sentence)


class SqlBreakerStorage(CircuitBreakerStorage):
    """pybreaker's state in the row of `pp_breaker`, for as long as one transaction."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(BREAKER)
        self._connection = connection

    def _get(self, column: str) -> Any:
        query = sa.select(breaker_table.c[column]).where(breaker_table.c.name == BREAKER)
        return self._connection.execute(query).scalar_one()

    def set(self, **values: Any) -> None:
        """Write columns of the row."""
        mine = sa.update(breaker_table).where(breaker_table.c.name == BREAKER)
        self._connection.execute(mine.values(**values, updated_at=utc_now()))

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        return str(self._get("state"))

    @state.setter
    def state(self, state: str) -> None:
        self.set(state=state)

    def increment_counter(self) -> None:
        """Count a failure."""
        self.set(failures=breaker_table.c.failures + 1)

    def reset_counter(self) -> None:
        """Forget the failures."""
        self.set(failures=0)

    def increment_success_counter(self) -> None:
        """Count a success."""
        self.set(successes=breaker_table.c.successes + 1)

    def reset_success_counter(self) -> None:
        """Forget the successes."""
        self.set(successes=0)

    @property
    def counter(self) -> int:
        """How many failures in a row."""
        return int(self._get("failures"))

    @property
    def success_counter(self) -> int:
        """How many successes since it is half-open."""
        return int(self._get("successes"))

    @property
    def opened_at(self) -> datetime | None:
        """When it opened, in UTC."""
        opened: datetime | None = self._get("opened_at")
        return opened

    @opened_at.setter
    def opened_at(self, when: datetime) -> None:
        self.set(opened_at=when)


class Breaker:
    """Says whether uploads may go on, under one budget."""

    def __init__(
        self, database: Database, budget: Budget, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._budget = budget
        self._clock = clock
        self._stored: tuple[datetime, int] | None = None

    def ask(self) -> None:
        """Return if uploads may go on; opens, half-opens and closes the breaker by the way.

        Raises:
            BudgetError: they may not; it says why, and what can be done.
        """
        now = self._clock()
        with self._database.read() as connection:
            row, used = read_breaker(connection), self._used(connection, now)
        if row.is_overridden(now):
            return
        if row.state == STATE_CLOSED and _spent(self._budget, used) is None:
            return
        if row.state == STATE_OPEN and not self._is_due(row, now):
            raise _suspended(row)
        reason = self._database.transact(lambda connection: self._trial(connection, now))
        if reason is not None:
            raise reason

    def _trial(self, connection: Connection, now: datetime) -> BudgetError | None:
        """Let pybreaker decide by how much is used; all processes take turns. What it decided is written."""
        take_turns(connection)
        row, storage = read_breaker(connection), SqlBreakerStorage(connection)
        if row.is_overridden(now) or (row.state == STATE_OPEN and not self._is_due(row, now)):
            return None if row.is_overridden(now) else _suspended(row)
        breaker = CircuitBreaker(
            fail_max=1, reset_timeout=RESET.total_seconds(), state_storage=storage, name=BREAKER
        )
        if row.state == STATE_OPEN:
            # pybreaker's own time-out knows nothing of the lock-out, months and limits: `_is_due` does.
            breaker.half_open()
        spent = _spent(self._budget, read_used(connection, now, history=self._budget.needs_history))
        try:
            breaker.call(_require_room, spent)
        except CircuitBreakerError:
            reason = spent.sentence if spent else ""
            storage.set(opened_at=now, opened_for=self._opened_for(now), reason=reason)
            return _suspended(read_breaker(connection))
        storage.set(reason=None, opened_for=None)
        return None

    def _is_due(self, row: BreakerRow, now: datetime) -> bool:
        """Return whether an open breaker may be tried."""
        if row.opened_at is None or now >= row.opened_at + RESET:
            return True
        return now >= row.opened_at + LOCK_OUT and row.opened_for != self._opened_for(now)

    def _opened_for(self, now: datetime) -> str:
        return hashlib.sha256(f"{month_of(now)} {self._budget.digest}".encode()).hexdigest()[:32]

    def _used(self, connection: Connection, now: datetime) -> Used:
        history = self._budget.needs_history
        if self._stored is None or now >= self._stored[0] + _STORED_FOR:
            used = read_used(connection, now, history=history)
            self._stored = (now, used.month_stored)
            return used
        return read_used(connection, now, stored=self._stored[1], history=history)


def read_breaker(connection: Connection) -> BreakerRow:
    """Return what the database says of the breaker, in any transaction."""
    return BreakerRow(*connection.execute(_ROW).one())


# Spelled once: it is asked five times a second.
_ROW: Final = sa.select(*(breaker_table.c[name] for name in BreakerRow.__dataclass_fields__)).where(
    breaker_table.c.name == BREAKER
)


def _spent(budget: Budget, used: Used) -> LimitState | None:
    """Return the limit that is used most, if it is so far that the breaker must be open."""
    worst = max(budget.states(used), key=lambda state: state.share, default=None)
    return worst if worst is not None and worst.share >= OPEN_AT else None


def _suspended(row: BreakerRow) -> BudgetError:
    since = f" since {row.opened_at:%Y-%m-%d %H:%M:%S} UTC" if row.opened_at else ""
    return BudgetError(
        "uploads",
        cause=f"the cost guard suspends them{since}: {row.reason or 'a limit is nearly used up'}, "
        f"and it stops at {OPEN_AT:.0%}",
        fix=FIX,
    )
