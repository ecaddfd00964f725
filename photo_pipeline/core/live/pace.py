"""How fast photos are finished, and how long the rest will take, with what is not known about it. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import stdev
from typing import Final

WINDOW: Final = timedelta(minutes=10)
"""How far back the pace looks."""
SLOT: Final = timedelta(seconds=30)
"""The width of one bar of its picture."""

# Below, a rate says more about chance than about the machine.
_SHORTEST_S: Final = 20.0
_FEWEST_CHUNKS: Final = 3
_SLICES: Final = 5
# Student's t for 95 % and five slices.
_T: Final = 2.776
# The photos to come are others than those of the last minutes: never claim to know better than this.
_LEAST_ERROR: Final = 0.10
# Beyond, an upper end would be an invention.
_MOST_ERROR: Final = 0.75


@dataclass(frozen=True)
class Pace:
    """How many photos were finished per second (their row shows the CDN, or they are stored).

    Attributes:
        per_second: On average over `measured_s`; None while too little is known.
        error: The half width of its 95 % interval as a share of it; 1 or more: hardly known.
        measured_s: Over how many seconds it was measured.
        by_slot: Photos finished in each half minute of the window, the oldest first.
    """

    per_second: float | None
    error: float
    measured_s: float
    by_slot: tuple[int, ...]


@dataclass(frozen=True)
class TimeLeft:
    """Between how many seconds the rest takes, at the present pace; `high_s` is None where none is known."""

    low_s: float
    high_s: float | None
    sentence: str


def measure(
    finished: Sequence[tuple[datetime, int]], *, now: datetime, not_before: datetime | None = None
) -> Pace:
    """Return the pace.

    Args:
        finished: When how many photos were finished, as committed together; the earliest first.
        now: In UTC.
        not_before: When the work could begin (after a resume, say); earlier time does not count.
    """
    slots = _by_slot(finished, now)
    begun = [each for each in finished if not_before is None or each[0] >= not_before]
    if len(begun) < _FEWEST_CHUNKS:
        return Pace(None, 1.0, 0.0, slots)
    # From the first chunk on, and without it: nobody knows when its work began.
    start, later = begun[0][0], begun[1:]
    measured = (now - start).total_seconds()
    if measured < _SHORTEST_S:
        return Pace(None, 1.0, measured, slots)
    rate = sum(count for _, count in later) / measured
    return Pace(rate, _error(later, start, measured, rate), measured, slots)


def time_left(photos: int, pace: Pace) -> TimeLeft | None:
    """Return how long so many photos take at that pace, or None where nothing can be said."""
    if not photos or not pace.per_second:
        return None
    likely = photos / pace.per_second
    low = likely / (1 + pace.error)
    high = likely / (1 - pace.error) if pace.error <= _MOST_ERROR else None
    if high is None and low < 60:
        return None
    return TimeLeft(low, high, _sentence(low, high))


def _error(later: Sequence[tuple[datetime, int]], start: datetime, measured: float, rate: float) -> float:
    width = measured / _SLICES
    slices = [0] * _SLICES
    for at, count in later:
        slices[min(_SLICES - 1, int((at - start).total_seconds() / width))] += count
    spread = stdev([count / width for count in slices])
    return max(_LEAST_ERROR, _T * spread / math.sqrt(_SLICES) / rate)


def _by_slot(finished: Sequence[tuple[datetime, int]], now: datetime) -> tuple[int, ...]:
    slots = [0] * (WINDOW // SLOT)
    for at, count in finished:
        age = (now - at) // SLOT
        if 0 <= age < len(slots):
            slots[-1 - age] += count
    return tuple(slots)


def _sentence(low_s: float, high_s: float | None) -> str:
    if high_s is not None and high_s < 120:
        return "less than 2 minutes"
    unit_s, unit = next((s, name) for s, name in _UNITS if (high_s or low_s) >= 2 * s or s == 60)
    low = math.floor(low_s / unit_s)
    if high_s is None:
        return f"at least {_amount(low, unit)}"
    high = math.ceil(high_s / unit_s)
    return f"between {low:,} and {_amount(high, unit)}" if low else f"less than {_amount(high, unit)}"


_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def _amount(count: int, unit: str) -> str:
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"
