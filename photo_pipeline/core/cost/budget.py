"""Which limits a configuration sets, and how far amounts go towards each. Nothing is read or written here."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.config.limits import PlanLimits
from photo_pipeline.core.cost.pricing import GB, AwsPlan, PriceTable, price_list, usd
from photo_pipeline.core.cost.units import Amounts, Unit

ALERT_AT: Final = 0.80
"""The share of a limit whose use is worth an alert (PRODUCT I3)."""
OPEN_AT: Final = 0.90
"""The share of a limit whose use opens the breaker."""
REFUSE_OVER: Final = 0.95
"""What is used and reserved may not be forecast to exceed this share."""

USD: Final = "usd"
USD_IN_ALL: Final = "usd_in_all"
_UNITS: Final = {
    Unit.PUTS: "PUT, COPY, POST and LIST requests",
    Unit.GETS: "GET and HEAD requests",
    Unit.STORED_BYTES: "bytes stored",
    Unit.CDN_REQUESTS: "our own requests to the CDN",
    Unit.CDN_BYTES_OUT: "bytes of the CDN's answers to us",
    Unit.INVALIDATION_PATHS: "invalidation paths",
}


@dataclass(frozen=True)
class Used:
    """What counts towards limits: this month's amounts, storage included, and each earlier month's."""

    month: Amounts
    earlier: Mapping[str, Amounts]

    @property
    def month_stored(self) -> int:
        """How many bytes are stored now."""
        return self.month.get(Unit.STORED_BYTES, 0)

    def plus(self, more: Amounts) -> "Used":
        """Return the same with more in this month."""
        units = self.month.keys() | more.keys()
        added = {unit: self.month.get(unit, 0) + more.get(unit, 0) for unit in units}
        return Used(added, self.earlier)


@dataclass(frozen=True)
class LimitState:
    """How far one limit is used. Amounts are in its unit: requests, bytes, or US dollars.

    Attributes:
        name: A unit's name, `usd` (a month) or `usd_in_all`.
        title: The same for people.
        limit: How much it allows.
        used: How much is used.
        reserved: How much is promised to work under way besides.
    """

    name: str
    title: str
    limit: float
    used: float
    reserved: float = 0.0

    @property
    def share(self) -> float:
        """The used share; 1 is all."""
        return self.used / self.limit

    @property
    def promised_share(self) -> float:
        """The used and reserved share."""
        return (self.used + self.reserved) / self.limit

    @property
    def sentence(self) -> str:
        """How much of it is used, for people."""
        reserved = f" and {_amount(self.name, self.reserved)} reserved" if self.reserved else ""
        return (
            f"{_amount(self.name, self.used)} of {_amount(self.name, self.limit)} {self.title} are "
            f"used{reserved} ({self.share:.0%})"
        )


@dataclass(frozen=True)
class Budget:
    """The limits of one configuration. Without any, everything is counted and nothing refused.

    Attributes:
        title: How people call it.
        prices: What S3 asks.
        prices_are_of_region: False where the table has none of the region, and another's are used.
        monthly: Amounts per month, by unit.
        usd_a_month: Dollars per month.
        usd_in_all: Dollars over all months, as credits are.
    """

    title: str
    prices: PriceTable
    prices_are_of_region: bool
    monthly: Mapping[Unit, float]
    usd_a_month: float | None = None
    usd_in_all: float | None = None

    @classmethod
    def of(cls, config: PipelineConfig) -> "Budget":
        """Return the limits of that configuration."""
        limits, region = config.limits, config.store.region or None
        prices = price_list().for_region(region, limits.prices if limits else None)
        known = region is None or prices.region == region
        if limits is None:
            return cls("no limits", prices, known, {})
        if isinstance(limits.plan, PlanLimits):
            usd_a_month = limits.plan.monthly_usd
            return cls(f"${usd_a_month:,.2f} a month", prices, known, {}, usd_a_month=usd_a_month)
        plan = price_list().plans[limits.plan]
        return cls(plan.title, prices, known, plan_amounts(plan), usd_in_all=plan.usd_in_all)

    @property
    def has_limits(self) -> bool:
        """Whether anything can be refused."""
        return bool(self.monthly or self.usd_a_month or self.usd_in_all)

    @property
    def needs_history(self) -> bool:
        """Whether earlier months count too."""
        return self.usd_in_all is not None

    @cached_property
    def digest(self) -> str:
        """Stands for the limits: other limits, another digest."""
        facts = (sorted(self.monthly.items()), self.usd_a_month, self.usd_in_all, self.prices)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def states(self, used: Used, reserved: Amounts | None = None) -> list[LimitState]:
        """Return how far each limit is used, and reserved besides."""
        promised = used.plus(reserved or {})
        states = [
            LimitState(unit, _UNITS[unit], limit, used.month.get(unit, 0), (reserved or {}).get(unit, 0))
            for unit, limit in self.monthly.items()
        ]
        for name, title, limit, measure in (
            (USD, "a month", self.usd_a_month, self.usd_of_month),
            (USD_IN_ALL, "in all", self.usd_in_all, self.usd_of_all),
        ):
            if limit is not None:
                spent = measure(used)
                states.append(LimitState(name, title, limit, spent, measure(promised) - spent))
        return states

    def usd_of_month(self, used: Used) -> float:
        """Return what this month's amounts cost, with its storage for the whole month."""
        return usd(used.month, self.prices)

    def usd_of_all(self, used: Used) -> float:
        """Return what all months cost. Their storage is reckoned as today's, which is at least as much."""
        stored = {Unit.STORED_BYTES: used.month.get(Unit.STORED_BYTES, 0)}
        earlier = sum(usd({**amounts, **stored}, self.prices) for amounts in used.earlier.values())
        return earlier + self.usd_of_month(used)


def plan_amounts(plan: AwsPlan) -> dict[Unit, float]:
    """Return what the plan allows per month, by unit."""
    amounts = {
        Unit.PUTS: plan.puts_per_month,
        Unit.GETS: plan.gets_per_month,
        Unit.STORED_BYTES: plan.storage_gb and plan.storage_gb * GB,
        Unit.CDN_REQUESTS: plan.cdn_requests_per_month,
        Unit.CDN_BYTES_OUT: plan.cdn_bytes_per_month,
        Unit.INVALIDATION_PATHS: plan.invalidation_paths_per_month,
    }
    return {unit: amount for unit, amount in amounts.items() if amount is not None}


def _amount(name: str, amount: float) -> str:
    return f"${amount:,.2f}" if name in (USD, USD_IN_ALL) else f"{amount:,.0f}"
