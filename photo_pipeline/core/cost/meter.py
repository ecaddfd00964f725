"""Counts requests before they are sent, so that a killed process may have counted too many but never too few.

Small blocks are added to the ledger ahead, in one transaction for all units, and used up in memory; what is
left of them is given back at the end. What a killed process had left of them (`BLOCKS`, at most) the next one
gives back, where it was written down (`till`). The requests themselves are seen by `hooks` and by
`core.storage.store`.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.till import Till, sweep
from photo_pipeline.core.cost.units import Amounts, Unit, month_of
from photo_pipeline.core.errors import DatabaseError

_BYTES: Final = 8 * 1024**2
# The next block is claimed when a quarter of one is left, as many as upload at the same time by default: few
# wait for it. Larger ones would cost less time, and more of a free tier of 2,000 with a kill.
BLOCKS: Final[Mapping[Unit, int]] = {
    Unit.PUTS: 64,
    Unit.GETS: 64,
    Unit.DELETES: 64,
    Unit.CDN_REQUESTS: 64,
    Unit.INVALIDATION_PATHS: 1,
    Unit.BYTES_IN: _BYTES,
    Unit.BYTES_OUT: _BYTES,
    Unit.CDN_BYTES_OUT: _BYTES,
}
"""How much of each unit is counted ahead at a time."""
AMPLY: Final = 4
"""So many times as much where there is ample room: a transaction takes a millisecond of processor time."""


# Stands for this process: each fork has another. Asking for its id takes as long as all the rest of a count.
_process = object()


def _after_a_fork() -> None:
    global _process
    _process = object()


os.register_at_fork(after_in_child=_after_a_fork)


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

    @property
    def is_ample(self) -> bool:
        """Whether more than a block at a time hardly matters to any limit, as of the last draw."""

    def draw(self, connection: Connection, needed: Amounts, wanted: Amounts) -> Mapping[Unit, int]:
        """Return how much of each unit is granted: at least `needed`, at most `wanted` (if that is more).

        Raises:
            BudgetError: what is needed is more than is left.
        """


class Meter:
    """Counts what one process sends, into the ledger of one database. Thread-safe."""

    def __init__(
        self, database: Database, *, clock: Callable[[], datetime] = utc_now, tills: Path | None = None
    ) -> None:
        """Count into the ledger of that database.

        Args:
            database: With the state tables, or before they are made.
            clock: Tells the time in UTC.
            tills: A folder on this machine; None: a killed process's block stays counted.
        """
        self._database = database
        self._clock = clock
        self._tills = tills
        self._till: Till | None = None
        # Held while a block is claimed; the others go on with what is left meanwhile.
        self._claims = threading.Lock()
        # Of what follows; never held during a transaction.
        self._lock = threading.Lock()
        self._process = _process
        self._month, self._year_and_month = "", (0, 0)
        # Counted ahead and not used yet.
        self._rest: dict[Unit, int] = {}
        # The same of months that have ended, to be given back.
        self._stale: list[tuple[str, dict[Unit, int]]] = []
        # Used before there were state tables to write it to.
        self._owed: dict[Unit, int] = {}
        # Units of which there is nothing left to claim ahead.
        self._dry: set[Unit] = set()
        self._has_ledger = False
        self._grant: Grant | None = None
        # Claimed without a grant since the last give-back: who needs little holds little back from others.
        self._claimed: dict[Unit, int] = {}

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
        if not self._take(unit, amount):
            with self._claims:
                # Another thread may have claimed meanwhile.
                if not self._take(unit, amount):
                    self._claim(unit, amount)
        elif self._is_low(unit) and self._claims.acquire(blocking=False):
            try:
                # Whoever needs more than is left will hear of it.
                with suppress(DatabaseError):
                    self._claim(unit, 0)
            finally:
                self._claims.release()

    @contextmanager
    def under(self, grant: Grant) -> Iterator[None]:
        """Ask `grant` for all that is counted in the body; what is left of it is given back at the end."""
        self._grant_by(grant)
        try:
            yield
        finally:
            self._grant_by(None)

    def give_back(self) -> None:
        """Take what was counted ahead and not used out of the ledger again.

        Where the database is away it stays there: too much is counted then, and never too little.
        """
        with self._claims, suppress(DatabaseError):
            self._give_back()

    def close(self) -> None:
        """Do so for good."""
        self.give_back()
        with self._lock:
            if self._till is not None:
                self._till.close()

    def _grant_by(self, grant: Grant | None) -> None:
        with self._claims:
            with suppress(DatabaseError):
                self._give_back()
            self._grant = grant
            self._dry = set()

    def _give_back(self) -> None:
        with self._lock:
            self._begin_month()
            stale, self._stale = [*self._stale, (self._month, self._rest)], []
            self._rest, self._claimed = {}, {}
            if self._till is not None:
                self._till.begin(self._month)
        if any(amount for _, rest in stale for amount in rest.values()) and self._is_written():
            self._database.transact(lambda connection: _subtract(connection, stale))

    def _begin_month(self) -> None:
        """Start with nothing in another month, or in a forked process, whose parent uses up the rest."""
        if self._process is not _process:
            self._process, self._rest, self._stale, self._owed = _process, {}, [], {}
            if self._till is not None:
                self._till.forget()
                self._till = None
        now = self._clock()
        # Not by the month's name, which takes ten times as long to spell as all the rest of a count.
        if (now.year, now.month) != self._year_and_month:
            self._stale.append((self._month, self._rest))
            self._month, self._rest, self._dry = month_of(now), {}, set()
            self._year_and_month = (now.year, now.month)
            if self._till is not None:
                self._till.begin(self._month)

    def _take(self, unit: Unit, amount: int) -> bool:
        """Use up what is counted ahead, if it is enough."""
        with self._lock:
            self._begin_month()
            if self._rest.get(unit, 0) < amount:
                return False
            self._rest[unit] -= amount
            if self._till is not None:
                self._till.note(unit, self._rest[unit])
            return True

    def _is_low(self, unit: Unit) -> bool:
        return unit not in self._dry and self._rest.get(unit, 0) < min(BLOCKS[unit], self._block(unit)) // 4

    def _block(self, unit: Unit) -> int:
        """Return how much is counted ahead now; without a grant as much as was needed so far."""
        if self._grant is None:
            return min(BLOCKS[unit], self._claimed.get(unit, 0))
        return BLOCKS[unit] * (AMPLY if self._grant.is_ample else 1)

    def _claim(self, unit: Unit, amount: int) -> None:
        """Use `amount`, and fill up the blocks of all units that are used here: one transaction for all."""
        with self._lock:
            self._begin_month()
            month, rest = self._month, dict(self._rest)
            stale, self._stale = self._stale, []
        if not self._is_written():
            self._owed[unit] = self._owed.get(unit, 0) + amount
            return
        if self._till is None and self._tills is not None:
            self._open_till(self._tills)
        wanted = {each: max(self._block(each) - rest.get(each, 0), 0) for each in {unit, *rest} - self._dry}
        wanted[unit] = max(amount, wanted.get(unit, 0))
        needed = {unit: amount} if amount else {}
        try:
            granted = self._database.transact(
                lambda connection: self._write(connection, month, needed, wanted, stale)
            )
        except BaseException:
            with self._lock:
                self._stale += stale
            raise
        self._owed = {}
        if self._grant is None:
            for each, more in granted.items():
                self._claimed[each] = self._claimed.get(each, 0) + more
        self._keep(month, {each: more - needed.get(each, 0) for each, more in granted.items()})
        self._dry |= {each for each, more in granted.items() if more < wanted[each]}

    def _keep(self, month: str, spare: Mapping[Unit, int]) -> None:
        with self._lock:
            if month != self._month:
                self._stale.append((month, dict(spare)))
                return
            for each, more in spare.items():
                self._rest[each] = self._rest.get(each, 0) + more
                if self._till is not None:
                    self._till.note(each, self._rest[each])

    def _open_till(self, tills: Path) -> None:
        """Give back what dead processes had left, and begin a file of our own."""
        name = self._database.transact(ledger.identity)
        if name is None:
            return
        folder = tills / name
        sweep(
            folder,
            lambda month, rest: self._database.transact(
                lambda connection: _subtract(connection, [(month, dict(rest))])
            ),
        )
        with self._lock:
            self._till = Till(folder)
            self._till.begin(self._month)
            for unit, rest in self._rest.items():
                self._till.note(unit, rest)

    def _write(
        self,
        connection: Connection,
        month: str,
        needed: Amounts,
        wanted: Amounts,
        stale: list[tuple[str, dict[Unit, int]]],
    ) -> Mapping[Unit, int]:
        _subtract(connection, stale)
        granted = wanted
        if self._grant is not None:
            granted = self._grant.draw(connection, needed, wanted)
        total = dict(granted)
        for each, amount in self._owed.items():
            total[each] = total.get(each, 0) + amount
        ledger.add(connection, month, total)
        return granted

    def _is_written(self) -> bool:
        if not self._has_ledger:
            with self._database.read() as connection:
                self._has_ledger = ledger.is_there(connection)
        return self._has_ledger


def _subtract(connection: Connection, rests: list[tuple[str, dict[Unit, int]]]) -> None:
    for month, rest in rests:
        ledger.add(connection, month, {unit: -amount for unit, amount in rest.items()})
