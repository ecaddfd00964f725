"""Sends invalidations to CloudFront: counted before they are sent, within its limits, awaited to a deadline.

What is sent is planned in `invalidation_plan`.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from sqlalchemy import Connection

from photo_pipeline.core.audit import record
from photo_pipeline.core.aws_errors import error_code, http_status
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.breaker import read_breaker
from photo_pipeline.core.cost.budget import REFUSE_OVER, USD, USD_IN_ALL, Budget
from photo_pipeline.core.cost.pricing import price_list
from photo_pipeline.core.cost.standing import read_standing, take_turns
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline.core.delivery.cloudfront import cloudfront_errors
from photo_pipeline.core.delivery.invalidation_plan import InvalidationPlan
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError, InfrastructureError

# CloudFront takes some 10 s at least; asking costs nothing.
_POLL_S = 5
_AUDITED_PATHS = 50


@dataclass(frozen=True)
class Bill:
    """What some paths cost in the present month.

    Attributes:
        paths: How many they are.
        used: How many were counted before in this month, by this installation.
        free_left: How many of the account's free ones that leaves.
        usd: What the rest costs.
    """

    paths: int
    used: int
    free_left: int
    usd: float


@dataclass(frozen=True)
class Invalidated:
    """What was sent, and whether CloudFront has done it. `ids` are CloudFront's of the requests."""

    ids: tuple[str, ...]
    paths: int
    completed: bool
    bill: Bill


@dataclass(frozen=True)
class Patience:
    """How long to wait (seconds), and by which clock."""

    deadline_s: float = 900
    poll_s: float = _POLL_S
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


def bill_for(database: Database, paths: int) -> Bill:
    """Return what so many more paths would cost in this month."""
    with database.read() as connection:
        return _bill(_paths_used(connection, month_of(utc_now())), paths)


def invalidate(
    database: Database,
    cloudfront: Any,
    plan: InvalidationPlan,
    *,
    distribution: str,
    run: str,
    allow_cost: bool = False,
    budget: Budget | None = None,
    patience: Patience = Patience(),
) -> Invalidated:
    """Send the plan's paths and wait until the CDN has forgotten them.

    Args:
        database: With the state tables; counts the month's paths, and keeps the act in the audit log.
        cloudfront: Client of the CloudFront API.
        plan: What to send.
        distribution: Id of the distribution.
        run: Under which the act is recorded.
        allow_cost: Send also what is no longer free in this month.
        budget: The limits; those in dollars hold for paths that cost money too. None: there are none.
        patience: A deadline for all requests together; 0 waits for nothing that needs no waiting.

    Returns:
        What was sent; `completed` is False if the deadline came first. CloudFront goes on by itself.

    Raises:
        GuardRefusedError: it would cost money, and that was not allowed, or the budget has no room for it;
            nothing was sent.
        ConfigurationError: CloudFront refuses the credentials, the distribution or a path.
        InfrastructureError: CloudFront does not answer, or has too many others in progress.
    """
    month = month_of(utc_now())
    bill = _reserve(database, plan, distribution, run=run, allow_cost=allow_cost, budget=budget, month=month)
    sender = _Sender(cloudfront, distribution, patience)
    thing = f"CloudFront distribution {distribution}"
    try:
        with cloudfront_errors(thing, permission="cloudfront:CreateInvalidation, cloudfront:GetInvalidation"):
            for request in plan.requests():
                sender.send(request)
            completed = sender.wait()
    except (ConfigurationError, InfrastructureError):
        _give_back(database, bill.paths - sender.perhaps_sent, month=month)
        raise
    return Invalidated(tuple(sender.ids), bill.paths, completed, bill)


class _Sender:
    """One invalidation after the other, as CloudFront's limits allow."""

    def __init__(self, cloudfront: Any, distribution: str, patience: Patience) -> None:
        self._cloudfront = cloudfront
        self._distribution = distribution
        self._patience = patience
        self._end_s = patience.clock() + patience.deadline_s
        self._waited_for = 0
        self.ids: list[str] = []
        self.perhaps_sent = 0
        """Paths that CloudFront has, or may have without our having heard its answer."""

    def send(self, paths: tuple[str, ...]) -> None:
        # The same reference in each try: CloudFront takes a repeated request for the one it has.
        batch = {
            "Paths": {"Quantity": len(paths), "Items": list(paths)},
            "CallerReference": f"photo-pipeline-{uuid.uuid4().hex}",
        }
        self.perhaps_sent += len(paths)
        while True:
            try:
                answer = self._cloudfront.create_invalidation(
                    DistributionId=self._distribution, InvalidationBatch=batch
                )
            except ClientError as error:
                status = http_status(error)
                if 400 <= status < 500:
                    if error_code(error) == "TooManyInvalidationsInProgress" and self._pause():
                        continue
                    self.perhaps_sent -= len(paths)
                raise
            self.ids.append(answer["Invalidation"]["Id"])
            return

    def wait(self) -> bool:
        """Return whether everything that was sent is done, at the deadline at the latest."""
        while self._waited_for < len(self.ids):
            answer = self._cloudfront.get_invalidation(
                DistributionId=self._distribution, Id=self.ids[self._waited_for]
            )
            if answer["Invalidation"]["Status"].lower() == "completed":
                self._waited_for += 1
            elif not self._pause():
                return False
        return True

    def _pause(self) -> bool:
        """Wait a little; return False where the deadline has come."""
        left_s = self._end_s - self._patience.clock()
        if left_s <= 0:
            return False
        self._patience.pause(min(self._patience.poll_s, left_s))
        return True


def _bill(used_before: int, paths: int) -> Bill:
    prices = price_list().cloudfront
    usd = prices.invalidation_usd(used_before + paths) - prices.invalidation_usd(used_before)
    return Bill(paths, used_before, max(0, prices.free_invalidation_paths - used_before), round(usd, 4))


def _paths_used(connection: Connection, month: str) -> int:
    return ledger.used_in(connection, month).get(Unit.INVALIDATION_PATHS, 0)


def _reserve(
    database: Database,
    plan: InvalidationPlan,
    distribution: str,
    *,
    run: str,
    allow_cost: bool,
    budget: Budget | None,
    month: str,
) -> Bill:
    """Count the paths before they are sent: nothing is spent that was not counted (DESIGN rule 8)."""
    paths, free = len(plan.paths), price_list().cloudfront.free_invalidation_paths
    with database.write() as connection:
        # Batches that reserve, and others that count, wait from here on until this transaction ends.
        take_turns(connection)
        ledger.add(connection, month, {Unit.INVALIDATION_PATHS: paths})
        bill = _bill(_paths_used(connection, month) - paths, paths)
        if bill.usd and not allow_cost:
            raise GuardRefusedError(
                "invalidation",
                cause=f"{paths:,} paths would cost ${bill.usd:,.2f}: of this month's "
                f"{free:,} free ones {bill.used:,} are used; nothing was sent",
                fix="name a wildcard that covers them, wait for the next month, or allow the cost "
                "(--allow-cost)",
            )
        if bill.usd and budget is not None:
            _require_room(connection, budget, bill)
        if paths:
            record(
                connection,
                action="invalidate",
                subject=f"{paths:,} paths of distribution {distribution}",
                details={"paths": list(plan.paths[:_AUDITED_PATHS]), "count": paths, "usd": bill.usd},
                run=run,
            )
    return bill


def _require_room(connection: Connection, budget: Budget, bill: Bill) -> None:
    """Check that the limits in dollars have room for what is counted by now; unless somebody overrides them.

    Raises:
        GuardRefusedError: they have not.
    """
    now = utc_now()
    if read_breaker(connection).is_overridden(now):
        return
    standing = read_standing(connection, now, history=budget.needs_history)
    for state in budget.states(standing.used, standing.reserved):
        if state.name in (USD, USD_IN_ALL) and state.promised_share > REFUSE_OVER + 1e-9:
            raise GuardRefusedError(
                "invalidation",
                cause=f"{bill.paths:,} paths cost ${bill.usd:,.2f}, and the cost guard refuses that: "
                f"{state.promised_share:.0%} of a limit would be used, and {REFUSE_OVER:.0%} may be "
                f"({state.sentence}, with this); nothing was sent",
                fix="name a wildcard that covers them, wait for the next month, raise `limits`, or spend "
                'more on purpose with: photo-pipeline cost override --reason "…"',
            )


def _give_back(database: Database, paths: int, *, month: str) -> None:
    if paths:
        with database.write() as connection:
            ledger.add(connection, month, {Unit.INVALIDATION_PATHS: -paths})
