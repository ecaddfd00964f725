"""What the migration has used and cost so far, by month, for the report."""

from dataclasses import dataclass

from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.budget import Budget
from photo_pipeline.core.cost.pricing import usd
from photo_pipeline.core.cost.standing import read_used
from photo_pipeline.core.cost.units import Amounts, Unit, month_of


@dataclass(frozen=True)
class MonthCost:
    """One UTC month: amounts by unit, and what its requests cost at list price, in dollars."""

    month: str
    used: dict[str, int]
    requests_usd: float


@dataclass(frozen=True)
class Costs:
    """What was used, newest month first; dollars are list price.

    Attributes:
        months: Months in which anything was counted.
        requests_usd: All months' requests together.
        storage_usd_a_month: What keeping what is stored now costs a month.
        limits: How far each limit of this month is used, a sentence each.
        prices: Whose prices, and of when.
    """

    months: tuple[MonthCost, ...] = ()
    requests_usd: float = 0.0
    storage_usd_a_month: float = 0.0
    limits: tuple[str, ...] = ()
    prices: str = ""


def collect_costs(connection: Connection, config: PipelineConfig) -> Costs:
    """Return what was used; nothing where an earlier version's state tables have not counted."""
    if not ledger.is_there(connection):
        return Costs()
    budget, now = Budget.of(config), utc_now()
    used = read_used(connection, now)
    this_month: dict[Unit, int] = {
        unit: amount for unit, amount in used.month.items() if unit is not Unit.STORED_BYTES
    }
    by_month: dict[str, Amounts] = dict(used.earlier)
    if any(this_month.values()):
        by_month[month_of(now)] = this_month
    months = tuple(
        MonthCost(month, {str(unit): amount for unit, amount in amounts.items()}, usd(amounts, budget.prices))
        for month, amounts in sorted(by_month.items(), reverse=True)
    )
    return Costs(
        months=months,
        requests_usd=sum(each.requests_usd for each in months),
        storage_usd_a_month=budget.prices.storage_usd_per_month(used.month_stored),
        limits=tuple(state.sentence for state in budget.states(used)),
        prices=f"{budget.prices.region}, {budget.prices.as_of}",
    )
