"""A process that takes part in races whose limits, amounts, jumps of the clock and deaths are random.

What was allowed is added up in shared memory, so that it is known of the dead as well.
"""

import os
import random
import signal
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

from sqlalchemy import event

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cost.meter import Meter
from photo_pipeline.core.cost.reservation import LIFETIME
from photo_pipeline.core.cost.units import Unit
from photo_pipeline_tests.core.cost.budgets import puts
from photo_pipeline_tests.core.cost.racing import month_number, spend_until_refused


@dataclass(frozen=True)
class Race:
    """One race, as one of its processes sees it.

    `dies_at` is the statement to the database before which the process kills itself; 0: it lives.
    """

    number: int
    seed: int
    limit: int
    largest: int
    jumps: float
    dies_at: int


def take_part(url: str, jumped: Any, spent: Any, races: Connection) -> None:
    """Take part in each race that is sent, until None comes; answer when not one more is allowed.

    Args:
        url: The database.
        jumped: Shared by all processes: how often the clock has jumped beyond what a reservation lives.
        spent: This process's own counter in shared memory.
        races: Brings the races.
    """
    with closing(Database.open(url)) as database:
        fuse = _Fuse()
        event.listen(database.engine, "before_cursor_execute", fuse.pass_by)
        while (race := races.recv()) is not None:
            spent.value = 0
            fuse.left = race.dies_at
            _take_part(database, race, jumped, spent)
            races.send(race.number)
            # At rest nobody dies: the race would be over.
            fuse.left = 0


class _Fuse:
    """Ends this process by SIGKILL right before its n-th statement."""

    left = 0

    def pass_by(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _take_part(database: Database, race: Race, jumped: Any, spent: Any) -> None:
    chance, budget = random.Random(race.seed), puts(race.limit)

    def clock() -> datetime:
        jumps: int = jumped.value
        return month_number(race.number) + jumps * (LIFETIME + timedelta(seconds=1))

    def spend(meter: Meter) -> None:
        if chance.random() < race.jumps:
            # Not atomic, and it need not be: the clock may jump once less.
            jumped.value += 1
        meter.count(Unit.PUTS)
        spent.value += 1

    spend_until_refused(
        database,
        budget,
        clock,
        owner=f"batch-{race.seed}",
        largest=race.largest,
        chance=chance,
        spend=spend,
    )
