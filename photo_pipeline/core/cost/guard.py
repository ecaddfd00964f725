"""The cost guard: what work asks before it spends, and what people ask to see where it stands.

Without `limits` in the configuration it refuses nothing; requests are counted all the same (`meter`).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from pybreaker import STATE_CLOSED
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.breaker import Breaker, SqlBreakerStorage, read_breaker
from photo_pipeline.core.cost.budget import ALERT_AT, OPEN_AT, Budget, LimitState, Used
from photo_pipeline.core.cost.meter import Meter, RequestMeter
from photo_pipeline.core.cost.reservation import Reservation
from photo_pipeline.core.cost.standing import read_standing, take_turns
from photo_pipeline.core.cost.units import Amounts, Unit, month_of
from photo_pipeline.core.errors import BudgetError, ConfigurationError, DatabaseError

# As often as work looks whether somebody has paused it.
_LOOK_EVERY_S = 0.2

_LOOK_FIX = (
    "look at less (a smaller sample, or no checksums), or in the next month (UTC); or raise `limits`, or "
    'spend more on purpose with: photo-pipeline cost override --reason "…"'
)


class _Boundless:
    """Grants everything, where there are no limits."""

    is_ample = True

    def draw(self, _connection: Connection, _needed: Amounts, wanted: Amounts) -> Amounts:
        return wanted


class Spending:
    """What one batch may spend; asked between two photos whether it may go on."""

    def __init__(self, breaker: Breaker | None = None, reservation: Reservation | None = None) -> None:
        self._breaker = breaker
        self._reservation = reservation
        self._next_look = 0.0

    def stopped(self) -> BudgetError | None:
        """Return why uploads are suspended, or None if they were not at the last look, at most 0.2 s ago.

        A block of requests that this process has just counted is looked at without delay.
        """
        if self._breaker is None or (time.monotonic() < self._next_look and not self._is_near()):
            return None
        try:
            self._breaker.ask()
        except BudgetError as error:
            return error
        self._next_look = time.monotonic() + _LOOK_EVERY_S
        return None

    def _is_near(self) -> bool:
        """Return whether the last block took a limit to where the breaker opens."""
        nearest = self._reservation.nearest if self._reservation else None
        return nearest is not None and nearest.share >= OPEN_AT


@dataclass(frozen=True)
class CostStatus:
    """Where spending stands this month.

    Attributes:
        month: The UTC month, such as 2026-11.
        budget: The limits' name.
        used: Amounts by unit, storage included.
        reserved: Amounts promised to work under way.
        limits: How far each limit is used.
        projection: The same at the end of the month, if it goes on as it did on average.
        usd: What this month's amounts cost at list price, with storage for the whole month.
        usd_projected: The same at the end of the month.
        prices: Whose prices, of when and where from.
        breaker: closed, open or half-open.
        reason: Why it is open.
        override_until: Until when a person has allowed to spend more.
        override_reason: Why.
        override_by: Who.
    """

    month: str
    budget: str
    used: Mapping[Unit, int]
    reserved: Mapping[Unit, int]
    limits: tuple[LimitState, ...]
    projection: tuple[LimitState, ...]
    usd: float
    usd_projected: float
    prices: str
    breaker: str
    reason: str | None
    override_until: datetime | None
    override_reason: str | None
    override_by: str | None

    @property
    def sentence(self) -> str:
        """Why uploads are suspended, or what else people should know; empty if there is nothing."""
        if self.override_until:
            why = f"{self.override_by or 'somebody'}: {self.override_reason}"
            return f"The limits are overridden until {self.override_until:%Y-%m-%d %H:%M} UTC ({why})."
        if self.breaker != STATE_CLOSED:
            return f"Uploads are suspended by the cost guard: {self.reason}."
        near = [state.sentence for state in self.limits if state.share >= ALERT_AT]
        return f"Spending nears a limit: {'; '.join(near)}." if near else ""


class CostGuard:
    """The limits of one installation, kept in its database."""

    def __init__(
        self, database: Database, budget: Budget, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._budget = budget
        self._clock = clock
        self._breaker = Breaker(database, budget, clock=clock)

    @classmethod
    def of(
        cls, database: Database, config: PipelineConfig, *, clock: Callable[[], datetime] = utc_now
    ) -> "CostGuard":
        """Return the guard of that configuration."""
        return cls(database, Budget.of(config), clock=clock)

    def require_open(self) -> None:
        """Check that uploads may begin.

        Raises:
            BudgetError: the breaker is open.
        """
        if self._budget.has_limits:
            self._breaker.ask()

    @contextmanager
    def spending(self, meter: RequestMeter, amounts: Amounts, *, batch: str) -> Iterator[Spending]:
        """Reserve the amounts for the batch, let `meter` draw upon them in the body, and return the rest.

        Raises:
            BudgetError: the breaker is open, or the amounts do not fit; nothing has been spent.
        """
        if not isinstance(meter, Meter):
            yield Spending()
            return
        if not self._budget.has_limits:
            with meter.under(_Boundless()):
                yield Spending()
            return
        self._breaker.ask()
        if self._is_overridden():
            yield Spending(self._breaker)
            return
        reservation = Reservation.make(self._database, self._budget, amounts, owner=batch, clock=self._clock)
        try:
            with meter.under(reservation):
                yield Spending(self._breaker, reservation)
        finally:
            # If the database is away it expires by itself; what failed before that is the one to hear of.
            with suppress(DatabaseError):
                reservation.release()

    @contextmanager
    def reading(self, meter: RequestMeter, amounts: Amounts, *, what: str) -> Iterator[None]:
        """Reserve the amounts for a look at what is stored, let `meter` draw upon them, and return the rest.

        For looks that can wait for another month. They do not ask the breaker: uploads may be suspended
        for a limit that a look does not touch.

        Args:
            meter: Counts what the body asks for.
            amounts: As foreseen; what it needs beyond them is granted as long as no limit is exceeded.
            what: The look, as people call it.

        Raises:
            BudgetError: the amounts do not fit, nothing has been asked for; or a limit is reached on the way.
        """
        if not self._budget.has_limits or not isinstance(meter, Meter) or self._is_overridden():
            yield
            return
        try:
            reservation = Reservation.make(
                self._database, self._budget, amounts, owner=what, clock=self._clock
            )
        except BudgetError as error:
            raise type(error)(what, cause=error.cause, fix=_LOOK_FIX) from error
        try:
            with meter.under(reservation):
                yield
        finally:
            with suppress(DatabaseError):
                reservation.release()

    def _is_overridden(self) -> bool:
        with self._database.read() as connection:
            return read_breaker(connection).is_overridden(self._clock())

    def status(self) -> CostStatus:
        """Return where spending stands; changes nothing."""
        with self._database.read() as connection:
            return self.status_of(connection)

    def status_of(self, connection: Connection, *, stored: int | None = None) -> CostStatus:
        """Return the same in the caller's transaction; `stored` as in `read_used`."""
        now = self._clock()
        standing, row = read_standing(connection, now, stored=stored), read_breaker(connection)
        budget, used, overridden = self._budget, standing.used, row.is_overridden(now)
        later = projected(used, standing.reserved, now)
        about = budget.prices
        elsewhere = "" if budget.prices_are_of_region else "; of the store's region: set limits.prices"
        return CostStatus(
            month=month_of(now),
            budget=budget.title,
            used=used.month,
            reserved=standing.reserved,
            limits=tuple(budget.states(used, standing.reserved)),
            projection=tuple(budget.states(later)),
            usd=budget.usd_of_month(used),
            usd_projected=budget.usd_of_month(later),
            prices=f"{about.region} list prices of {about.as_of}, {about.source}{elsewhere}",
            breaker=row.state if budget.has_limits else STATE_CLOSED,
            reason=row.reason,
            override_until=row.override_until if overridden else None,
            override_reason=row.override_reason if overridden else None,
            override_by=row.override_by if overridden else None,
        )

    def override(self, *, reason: str, run: str, by: str | None = None) -> datetime:
        """Let uploads go on beyond the limits until the end of this UTC month; everything is still counted.

        Args:
            reason: Why; kept in the audit log.
            run: The run that did it, for the audit log.
            by: Who wants it; None: the account that this process runs under.

        Returns:
            When it ends.

        Raises:
            ConfigurationError: there is no reason, or there are no limits.
        """
        until, who = _next_month(self._clock()), by or audit.account()
        if not reason.strip():
            raise ConfigurationError("--reason", cause="it is empty", fix="say why more may be spent")
        if not self._budget.has_limits:
            cause = "the configuration sets no limits, so there is nothing to override"
            raise ConfigurationError("limits", cause=cause, fix="set `limits` in the file")
        self._note(until, reason.strip(), who, "cost override", run)
        return until

    def end_override(self, *, run: str, by: str | None = None) -> None:
        """Let the limits hold again."""
        self._note(None, None, by or audit.account(), "cost override end", run)

    def _note(self, until: datetime | None, reason: str | None, by: str, action: str, run: str) -> None:
        def write(connection: Connection) -> None:
            take_turns(connection)
            values = {"override_until": until, "override_reason": reason, "override_by": by}
            storage = SqlBreakerStorage(connection)
            storage.set(**values)
            if until is not None:
                # So that the end of the override is a fresh look, and not an old verdict.
                storage.set(state=STATE_CLOSED, failures=0, successes=0, reason=None, opened_at=None)
            details = {"reason": reason or "", "until": until.isoformat() if until else ""}
            audit.record(
                connection, action=action, subject="the cost limits", details=details, run=run, actor=by
            )

        self._database.transact(write)


def cost_status(database: Database, config: PipelineConfig) -> CostStatus | None:
    """Return where spending stands, or None where an earlier version's state tables do not know it yet."""
    with database.read() as connection:
        known = ledger.is_there(connection)
    return CostGuard.of(database, config).status() if known else None


def projected(used: Used, reserved: Amounts, now: datetime) -> Used:
    """Return what will be used at the end of the month if it goes on as it did on average since its first.

    At least what is used and reserved; storage stays as it is with that. In the month's first day the
    average means nothing, so nothing is added to these then.
    """
    start = datetime(now.year, now.month, 1, tzinfo=UTC)
    passed, whole = (now - start).total_seconds(), (_next_month(now) - start).total_seconds()
    factor = whole / passed if passed >= 86_400 else 1.0
    promised = used.plus(reserved).month
    later = {
        unit: promised[unit] if unit is Unit.STORED_BYTES else max(promised[unit], _grown(used, unit, factor))
        for unit in promised
    }
    return Used(later, used.earlier)


def _grown(used: Used, unit: Unit, factor: float) -> int:
    return round(used.month.get(unit, 0) * factor)


def _next_month(now: datetime) -> datetime:
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return datetime(year, month, 1, tzinfo=UTC)
