"""Counts requests before they are sent, so that a killed process may have counted too many but never too few.

Small blocks are added to the ledger ahead, in one transaction for all units, and used up in memory; what is
left of them is given back at the end. A process that is killed leaves at most one block of each unit too
much (`BLOCKS`). The requests themselves are seen by `hooks` and by `core.storage.store`.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final, Protocol

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import usage_table, utc_now
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.units import Amounts, Unit, month_of
from photo_pipeline.core.errors import DatabaseError

_BYTES: Final = 8 * 1024**2
# As many as upload at the same time by default. Twice as many would halve what counting costs, and double
# what a killed process costs a free tier of 2,000.
BLOCKS: Final[Mapping[Unit, int]] = {
    Unit.PUTS: 16,
    Unit.GETS: 16,
    Unit.DELETES: 16,
    Unit.CDN_REQUESTS: 16,
    Unit.INVALIDATION_PATHS: 1,
    Unit.BYTES_IN: _BYTES,
    Unit.BYTES_OUT: _BYTES,
    Unit.CDN_BYTES_OUT: _BYTES,
}
"""How much of each unit is counted ahead at a time."""


class RequestMeter(Protocol):
    """What counts requests."""

    def count(self, unit: Unit, amount: int = 1) -> None:
        """Count so much of the unit, before the request is sent.

        Raises:
            DatabaseError: it cannot be written down, so the request must not be sent.
            BudgetError: it is not allowed any more, so the request must not be sent.
        """


class _Uncounted:
    def count(self, unit: Unit, amount: int = 1) -> None:
        """Count nothing."""


UNCOUNTED: Final[RequestMeter] = _Uncounted()
"""For tests and tools that spend nobody's money."""


class Grant(Protocol):
    """What decides how much of what is wanted may be counted (see `reservation`)."""

    def draw(
        self, connection: Connection, month: str, needed: Amounts, wanted: Amounts
    ) -> Mapping[Unit, int]:
        """Return how much of each unit is granted: at least `needed`, at most `wanted` (if that is more).

        Raises:
            BudgetError: what is needed is more than is left.
        """


class Meter:
    """Counts what one process sends, into the ledger of one database. Thread-safe."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._month = ""
        # Counted ahead and not used yet.
        self._rest: dict[Unit, int] = {}
        # Used before there were state tables to write it to.
        self._owed: dict[Unit, int] = {}
        self._has_ledger = False
        self._grant: Grant | None = None

    def count(self, unit: Unit, amount: int = 1) -> None:
        """Count so much of the unit, before the request is sent.

        Before the first inventory there are no state tables: what is counted until then (the look whether
        the bucket is there) is kept in memory and written with the next count after that.

        Raises:
            DatabaseError: it cannot be written down, so the request must not be sent.
            BudgetError: it is not allowed any more, so the request must not be sent.
        """
        if amount <= 0:
            return
        with self._lock:
            self._begin_month()
            if self._rest.get(unit, 0) < amount:
                self._claim(unit, amount)
            self._rest[unit] -= amount

    @contextmanager
    def under(self, grant: Grant) -> Iterator[None]:
        """Ask `grant` for all that is counted in the body; what is left of it is given back at the end."""
        self.give_back()
        with self._lock:
            self._grant = grant
        try:
            yield
        finally:
            with self._lock:
                self._grant = None
            self.give_back()

    def give_back(self) -> None:
        """Take what was counted ahead and not used out of the ledger again.

        Where the database is away it stays there: too much is counted then, and never too little.
        """
        with self._lock, suppress(DatabaseError):
            rest, self._rest = self._rest, {}
            if any(rest.values()) and os.getpid() == self._process:
                self._add(self._month, {unit: -amount for unit, amount in rest.items()})

    close = give_back

    def _begin_month(self) -> None:
        """Start with nothing in another month, or in a forked process, whose parent uses up the rest."""
        if os.getpid() != self._process:
            self._process, self._rest, self._owed = os.getpid(), {}, {}
        month = month_of(self._clock())
        if month != self._month:
            self.give_back()
            self._month = month

    def _claim(self, unit: Unit, amount: int) -> None:
        """Count a block ahead, of the other units that run low too: one transaction for all."""
        if not self._is_written():
            self._owed[unit] = self._owed.get(unit, 0) + amount
            self._rest[unit] = self._rest.get(unit, 0) + amount
            return
        needed = {unit: amount - self._rest.get(unit, 0)}
        low = [each for each in self._rest if self._rest[each] < BLOCKS[each] // 2]
        wanted = {each: max(BLOCKS[each] - self._rest.get(each, 0), 0) for each in {unit, *low}}
        wanted[unit] = max(needed[unit], wanted[unit])
        granted = self._database.transact(lambda connection: self._write(connection, needed, wanted))
        self._owed = {}
        for each, more in granted.items():
            self._rest[each] = self._rest.get(each, 0) + more

    def _write(self, connection: Connection, needed: Amounts, wanted: Amounts) -> Mapping[Unit, int]:
        granted = wanted
        if self._grant is not None:
            granted = self._grant.draw(connection, self._month, needed, wanted)
        total = dict(granted)
        for each, amount in self._owed.items():
            total[each] = total.get(each, 0) + amount
        ledger.add(connection, self._month, total)
        return granted

    def _add(self, month: str, amounts: Amounts) -> None:
        if self._is_written():
            self._database.transact(lambda connection: ledger.add(connection, month, amounts))

    def _is_written(self) -> bool:
        if not self._has_ledger:
            with self._database.read() as connection:
                self._has_ledger = sa.inspect(connection).has_table(usage_table.name)
        return self._has_ledger
