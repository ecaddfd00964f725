"""What a migration means under each plan: photos a month, months in all, and what would make it fit better.

Arithmetic on counts only; the counts are `core.migration.plan`'s.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from photo_pipeline.core.cost.budget import OPEN_AT, REFUSE_OVER, Budget, plan_amounts
from photo_pipeline.core.cost.pricing import GB, AwsPlan, price_list
from photo_pipeline.core.cost.units import Amounts, Unit


@dataclass(frozen=True)
class PlanFit:
    """How a migration fits one of AWS's plans that limit amounts.

    Attributes:
        plan: As `limits.plan` names it.
        title: As people call it.
        who: Which accounts have it.
        as_of: The day its figures were read.
        source: Where.
        puts_per_month: What it allows.
        photos_per_month: For how many different pictures that is, if nothing else were asked for.
        photos_per_month_guarded: The same up to where the cost guard stops.
        months: Over how many months the migration must be spread; None if it never fits (storage).
        why_never: Why, if it does not.
    """

    plan: str
    title: str
    who: str
    as_of: date
    source: str
    puts_per_month: int
    photos_per_month: int
    photos_per_month_guarded: int
    months: int | None
    why_never: str = ""


@dataclass(frozen=True)
class Fit:
    """What the objects per photo mean.

    Attributes:
        objects_per_photo: On average over the different pictures that are to be moved.
        plans: Each plan that limits amounts.
        usd_once: What the requests cost at list price, once.
        usd_per_month: What the storage costs, each month from then on.
        region: Whose prices.
        configured: The configured limits' name.
        first_month_share: The most used share of a configured limit if all is moved in one month; None
            without limits. Over 0.9 the guard stops on the way.
        suggestions: Sentences on what would fit better, the plainest first.
    """

    objects_per_photo: float
    plans: tuple[PlanFit, ...]
    usd_once: float
    usd_per_month: float
    region: str
    configured: str
    first_month_share: float | None
    suggestions: tuple[str, ...]


@dataclass(frozen=True)
class Workload:
    """What is to be moved.

    Attributes:
        pictures: Different pictures.
        objects: PUT requests for them; as many proofs follow.
        stored_bytes: What stays in the bucket.
        batch_size: Photos per batch.
        sizes: How many variants the configured presets have at most.
        formats: In how many formats each is made.
    """

    pictures: int
    objects: int
    stored_bytes: float
    batch_size: int
    sizes: int
    formats: int

    @property
    def amounts(self) -> Amounts:
        """The same by unit."""
        return {
            Unit.PUTS: self.objects,
            Unit.GETS: self.objects,
            Unit.STORED_BYTES: round(self.stored_bytes),
        }


def fit(work: Workload, budget: Budget) -> Fit:
    """Return what moving `work` means under each plan, and under the configured limits."""
    per_photo = work.objects / work.pictures if work.pictures else 0.0
    plans = tuple(_fit_plan(name, plan, work, per_photo) for name, plan in _limited_plans().items())
    prices = budget.prices
    once = prices.requests_usd(puts=work.objects, gets=work.objects)
    per_month = prices.storage_usd_per_month(work.stored_bytes)
    share = _share(budget, work.amounts, once + per_month)
    return Fit(
        objects_per_photo=per_photo,
        plans=plans,
        usd_once=once,
        usd_per_month=per_month,
        region=prices.region,
        configured=budget.title,
        first_month_share=share,
        suggestions=tuple(_suggestions(work, plans, budget, share, once + per_month, per_photo)),
    )


def _limited_plans() -> Mapping[str, AwsPlan]:
    return {name: plan for name, plan in price_list().plans.items() if plan.puts_per_month}


def _fit_plan(name: str, plan: AwsPlan, work: Workload, per_photo: float) -> PlanFit:
    allowed = plan_amounts(plan)
    puts = int(allowed[Unit.PUTS])
    room = allowed.get(Unit.STORED_BYTES, math.inf)
    never = ""
    if work.stored_bytes > room * OPEN_AT:
        never = f"{work.stored_bytes / GB:,.1f} GB are to be stored, and {room / GB:,.0f} GB are free"
    requests = (Unit.PUTS, Unit.GETS)
    # What the guard lets through in a month is less than the plan has.
    months = max(
        math.ceil(work.amounts[unit] / (allowed[unit] * OPEN_AT)) for unit in requests if unit in allowed
    )
    return PlanFit(
        plan=name,
        title=plan.title,
        who=plan.who,
        as_of=plan.as_of,
        source=plan.source,
        puts_per_month=puts,
        photos_per_month=int(puts / per_photo) if per_photo else 0,
        photos_per_month_guarded=int(puts * OPEN_AT / per_photo) if per_photo else 0,
        months=None if never else max(months, 1),
        why_never=never,
    )


def _share(budget: Budget, amounts: Amounts, dollars: float) -> float | None:
    shares = [amounts.get(unit, 0) / limit for unit, limit in budget.monthly.items()]
    shares += [dollars / limit for limit in (budget.usd_a_month, budget.usd_in_all) if limit]
    return max(shares, default=None)


def _suggestions(
    work: Workload,
    plans: tuple[PlanFit, ...],
    budget: Budget,
    share: float | None,
    dollars: float,
    per_photo: float,
) -> list[str]:
    """Return what would fit better; nothing where the configured limits (or none) have room for all of it."""
    if not work.objects or (share is not None and share < OPEN_AT):
        return []
    said = []
    for each in plans:
        if each.months and each.months > 1 and (share is None or Unit.PUTS in budget.monthly):
            said.append(
                f"spread it over {each.months:,} months: {each.photos_per_month_guarded:,} photos a month "
                f"stay below where the cost guard stops ({OPEN_AT:.0%} of the {each.title})"
            )
    needed = _batch_share(work, budget, per_photo)
    if needed > REFUSE_OVER:
        said.append(
            f"make batches smaller (batches.size is {work.batch_size}): one alone would use {needed:.0%} "
            f"of a month's limit; {int(work.batch_size * 0.5 / needed):,} photos would use half of it"
        )
    if share is not None or any(each.months != 1 for each in plans):
        if work.sizes > 1:
            said.append(
                f"make fewer sizes: each is {work.formats} objects of the {per_photo:.1f} that a photo has"
            )
        # A whole dollar more than it takes, at the share where the guard stops.
        said.append(
            f"pay for it: all in one month is ${dollars:,.2f} at list price; "
            f"limits: {{plan: {{monthly_usd: {math.ceil(dollars / OPEN_AT) or 1}}}}} has room for that"
        )
    return said


def _batch_share(work: Workload, budget: Budget, per_photo: float) -> float:
    limit = budget.monthly.get(Unit.PUTS)
    batch = min(work.batch_size, work.pictures) * per_photo
    return batch / limit if limit else 0.0
