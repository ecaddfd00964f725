"""Reservations: what a batch may spend is taken from the limits before it begins.

So batches that run together cannot overshoot together. What is left at the end is returned; what a dead
process holds expires.
"""

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import reservation_table, utc_now
from photo_pipeline.core.cost.budget import ALERT_AT, REFUSE_OVER, Budget, LimitState, Used
from photo_pipeline.core.cost.meter import AMPLY, BLOCKS
from photo_pipeline.core.cost.standing import read_standing, take_turns
from photo_pipeline.core.cost.units import Amounts, Unit
from photo_pipeline.core.errors import BudgetError, ForecastRefusedError

LIFETIME: Final = timedelta(minutes=10)
"""How long a reservation lives without being drawn upon. A later draw asks the limits again."""

# Of a limit: a thousandth, so that many processes together do not open the breaker early.
_NEXT_TO_NOTHING: Final = 0.001
_AMPLE: Final = {unit: AMPLY * amount for unit, amount in BLOCKS.items()}

# Spelled once: each block of requests that is counted sends them (`meter`).
_LEFT: Final = sa.select(reservation_table.c.unit, reservation_table.c.amount).where(
    reservation_table.c.id == sa.bindparam("mine"), reservation_table.c.expires_at > sa.bindparam("at")
)
_TAKE: Final = (
    sa.update(reservation_table)
    .where(reservation_table.c.id == sa.bindparam("mine"), reservation_table.c.unit == sa.bindparam("of"))
    .values(amount=sa.bindparam("rest"), expires_at=sa.bindparam("until"))
)


class Reservation:
    """Amounts that only its owner may draw, until they are released or expire."""

    def __init__(self, database: Database, budget: Budget, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._budget = budget
        self._clock = clock
        self.id = uuid.uuid4().hex
        # Storage as it was when it was reserved: summing it up again for each block would cost too much.
        self._stored = 0
        self.nearest: LimitState | None = None
        """The limit that is used most, as of the last draw."""
        self.is_ample = False
        """Whether a few blocks counted ahead are next to nothing of every limit, as of the last draw."""

    @classmethod
    def make(
        cls,
        database: Database,
        budget: Budget,
        amounts: Amounts,
        *,
        owner: str,
        share: float = REFUSE_OVER,
        clock: Callable[[], datetime] = utc_now,
    ) -> "Reservation":
        """Reserve the amounts, all or none of them.

        Where they are more than a whole month without any use would allow, as much as fits is reserved
        instead: or such a batch could never begin.

        Args:
            database: With the state tables.
            budget: The limits.
            amounts: What will be needed.
            owner: The batch; what an earlier run of it still holds is released.
            share: How much of each limit may be promised; 1 is all.
            clock: Tells the time in UTC.

        Raises:
            BudgetError: what is used and reserved leaves no room for them.
        """
        made = cls(database, budget, clock=clock)
        database.transact(lambda connection: made._reserve(connection, amounts, owner, share))
        return made

    def _reserve(self, connection: Connection, amounts: Amounts, owner: str, share: float) -> None:
        take_turns(connection)
        now, columns = self._clock(), reservation_table.c
        connection.execute(
            sa.delete(reservation_table).where(sa.or_(columns.expires_at <= now, columns.owner == owner))
        )
        standing = read_standing(connection, now, history=self._budget.needs_history)
        self._stored = standing.used.month[Unit.STORED_BYTES]
        granted = dict(amounts)
        over = _over(self._budget, standing.used, standing.reserved, amounts, share)
        if over is not None:
            month = Used({Unit.STORED_BYTES: self._stored}, standing.used.earlier)
            if _over(self._budget, month, {}, amounts, share) is None:
                raise _refusal(owner, over, share)
            granted = _what_fits(self._budget, standing.used.plus(standing.reserved), amounts, share)
            if not granted.get(Unit.PUTS):
                raise _refusal(owner, over, share)
        made = {"id": self.id, "owner": owner, "created_at": now, "expires_at": now + LIFETIME}
        rows = [made | {"unit": unit, "amount": amount} for unit, amount in granted.items() if amount]
        if rows:
            connection.execute(sa.insert(reservation_table), rows)

    def draw(self, connection: Connection, needed: Amounts, wanted: Amounts) -> Mapping[Unit, int]:
        """Return how much of each unit may be counted, and take it out of what is left.

        What retries need beyond it is granted as long as no limit is exceeded by it.

        Raises:
            BudgetError: what is needed would exceed a limit.
        """
        take_turns(connection)
        now = self._clock()
        left = self._left(connection, now)
        drawn = {unit: min(amount, left.get(unit, 0)) for unit, amount in wanted.items()}
        granted = {unit: max(amount, needed.get(unit, 0)) for unit, amount in drawn.items()}
        standing = read_standing(connection, now, stored=self._stored, history=self._budget.needs_history)
        beyond = {unit: granted[unit] - drawn[unit] for unit in granted if granted[unit] > drawn[unit]}
        limited = {unit: amount for unit, amount in beyond.items() if unit not in _NEVER_LIMITED}
        if limited:
            over = _over(self._budget, standing.used, standing.reserved, limited, 1.0)
            if over is not None:
                raise _refusal("the upload", over, 1.0)
        self._take(connection, left, drawn, now)
        states = self._budget.states(standing.used.plus(granted))
        self.nearest = max(states, key=lambda state: state.share, default=None)
        later = self._budget.states(standing.used.plus(granted).plus(_AMPLE))
        self.is_ample = all(
            after.share < ALERT_AT and after.share - now_used.share <= _NEXT_TO_NOTHING
            for now_used, after in zip(states, later, strict=True)
        )
        return {unit: wanted[unit] if unit in _NEVER_LIMITED else granted[unit] for unit in granted}

    def _left(self, connection: Connection, now: datetime) -> dict[Unit, int]:
        rows = connection.execute(_LEFT, {"mine": self.id, "at": now})
        return {Unit(row[0]): row[1] for row in rows}

    def _take(self, connection: Connection, left: Amounts, drawn: Amounts, now: datetime) -> None:
        """Write what is left after the draw; all of it lives on."""
        row = {"mine": self.id, "until": now + LIFETIME}
        rest = [row | {"of": unit, "rest": amount - drawn.get(unit, 0)} for unit, amount in left.items()]
        if rest:
            connection.execute(_TAKE, rest)

    def release(self) -> None:
        """Return what is left of it to the limits."""
        mine = reservation_table.c.id == self.id
        statement = sa.delete(reservation_table).where(mine)
        self._database.transact(lambda connection: connection.execute(statement))


# Free of charge in any amount: counted, but nothing to reserve.
_NEVER_LIMITED = frozenset({Unit.DELETES, Unit.BYTES_IN, Unit.BYTES_OUT})


def _over(budget: Budget, used: Used, reserved: Amounts, more: Amounts, share: float) -> LimitState | None:
    """Return the limit that more would exceed most, of those that it touches, if any."""
    together = {unit: reserved.get(unit, 0) + more.get(unit, 0) for unit in reserved.keys() | more.keys()}
    states = [
        after
        for before, after in zip(budget.states(used, reserved), budget.states(used, together), strict=True)
        if after.reserved > before.reserved
    ]
    worst = max(states, key=lambda state: state.promised_share, default=None)
    return worst if worst is not None and worst.promised_share > share + 1e-9 else None


def _what_fits(budget: Budget, used: Used, amounts: Amounts, share: float) -> dict[Unit, int]:
    """Return the largest part of the amounts, in thousandths of each, that the limits have room for."""
    low, high = 0, 1000
    while low < high:
        middle = (low + high + 1) // 2
        fits = _over(budget, used, {}, _part(amounts, middle), share) is None
        low, high = (middle, high) if fits else (low, middle - 1)
    return _part(amounts, low)


def _part(amounts: Amounts, thousandths: int) -> dict[Unit, int]:
    return {unit: amount * thousandths // 1000 for unit, amount in amounts.items()}


def _refusal(owner: str, over: LimitState, share: float) -> BudgetError:
    return ForecastRefusedError(
        owner,
        cause=f"the cost guard refuses it: with it {over.promised_share:.0%} of a limit would be used, and "
        f"{share:.0%} may be ({over.sentence}, with this)",
        fix=FIX,
    )


FIX: Final = (
    "it goes on with the next `photo-pipeline migrate` in a month with room (UTC); or raise `limits`, or "
    'spend more on purpose with: photo-pipeline cost override --reason "…"'
)
"""What a person can do about a limit."""
