"""A process that races others for the last PUTs of a limit, over and over.

A month is a race: each has the same limit, of which a part is used already.
"""

import random
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cost.budget import Budget
from photo_pipeline.core.cost.meter import Meter
from photo_pipeline.core.cost.reservation import Reservation
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.errors import BudgetError
from photo_pipeline_tests.core.cost.budgets import puts

LIMIT, LEFT, PROCESSES = 2_000, 100, 8


def month_number(race: int) -> datetime:
    return datetime(2026 + race // 12, race % 12 + 1, 15, tzinfo=UTC)


def compete(url: str, number: int, races: int, start: Barrier, result: Connection) -> None:
    """Take part in each race; send how many PUTs were allowed in each."""
    chance = random.Random(number)
    with closing(Database.open(url)) as database:
        spent = []
        for race in range(races):
            start.wait()
            spent.append(_race(database, race, number, chance))
        result.send(spent)


def _race(database: Database, race: int, number: int, chance: random.Random) -> int:
    spent: list[int] = []

    def spend(meter: Meter) -> None:
        meter.count(Unit.PUTS)
        spent.append(1)

    spend_until_refused(
        database,
        puts(LIMIT),
        lambda: month_number(race),
        owner=f"batch-{number}",
        largest=30,
        chance=chance,
        spend=spend,
    )
    return len(spent)


def spend_until_refused(
    database: Database,
    budget: Budget,
    clock: Callable[[], datetime],
    *,
    owner: str,
    largest: int,
    chance: random.Random,
    spend: Callable[[Meter], object],
) -> None:
    """Reserve and spend, at times less or more than was reserved, until not even one PUT more is allowed.

    Args:
        database: With the ledger.
        budget: The limit.
        clock: Tells the time in UTC.
        owner: Of the reservations.
        largest: How many PUTs are reserved at most.
        chance: Draws how many are reserved, and spent.
        spend: Counts one PUT.
    """
    meter, wanted = Meter(database, clock=clock), chance.randint(1, largest)
    while True:
        try:
            reservation = Reservation.make(
                database, budget, {Unit.PUTS: wanted}, owner=owner, share=1.0, clock=clock
            )
        except BudgetError:
            if wanted == 1:
                return
            wanted = 1
            continue
        with meter.under(reservation), suppress(BudgetError):
            for _ in range(chance.randint(0, wanted + 2) if wanted > 1 else 1):
                spend(meter)
        reservation.release()
        wanted = chance.randint(1, largest)


def compete_without_turns(url: str, number: int, races: int, start: Barrier, result: Connection) -> None:
    """The same, but each looks first and takes afterwards, in a transaction of its own: the control."""
    with closing(Database.open(url)) as database:
        spent = []
        for race in range(races):
            start.wait()
            spent.append(_look_then_take(database, race))
        result.send(spent)


def _look_then_take(database: Database, race: int) -> int:
    from photo_pipeline.core.cost import ledger
    from photo_pipeline.core.cost.units import month_of

    month, spent = month_of(month_number(race)), 0
    while True:
        with database.read() as connection:
            if ledger.used_in(connection, month).get(Unit.PUTS, 0) + 10 > LIMIT:
                return spent
        with database.write() as connection:
            ledger.add(connection, month, {Unit.PUTS: 10})
        spent += 10
