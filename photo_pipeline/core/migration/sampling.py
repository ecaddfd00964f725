"""Totals foretold from a stratified random sample, with the error that sampling makes.

Pure statistics (Cochran, Sampling Techniques, chapter 5): strata are drawn from without replacement, and
the share of a stratum that was looked at is not uncertain.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance
from typing import TypeVar

T = TypeVar("T")

_LEAST_PER_STRATUM = 2
# Student's t, 97.5 %, for 1, 2, 3, ... degrees of freedom; above 30 the normal's 1.96 is 4 % off at most.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_NORMAL = 1.96


@dataclass(frozen=True)
class Estimate:
    """A total, its standard error, and the 95 % interval of it; all in the unit of the total."""

    value: float
    standard_error: float
    low: float
    high: float

    def plus(self, known: float) -> "Estimate":
        """Return the estimate with an amount added that is known exactly."""
        return Estimate(self.value + known, self.standard_error, self.low + known, self.high + known)

    def times(self, factor: float) -> "Estimate":
        """Return the estimate in another unit, or what is to be taken away (a negative factor)."""
        low, high = sorted((self.low * factor, self.high * factor))
        return Estimate(self.value * factor, self.standard_error * abs(factor), low, high)


@dataclass(frozen=True)
class Stratum:
    """One part of the population: how many it has, and what was measured on those drawn from it."""

    size: int
    measured: tuple[float, ...]


def draw(population: Sequence[T], *, stratum: Callable[[T], str], size: int, seed: int) -> dict[str, list[T]]:
    """Return a random sample by stratum: at least two of each, else in proportion to its size.

    Args:
        population: Everything, in an order that does not change from call to call.
        stratum: The stratum that a member belongs to.
        size: How many to draw; somewhat more where there are many small strata.
        seed: The same seed draws the same sample.
    """
    strata: dict[str, list[T]] = defaultdict(list)
    for member in population:
        strata[stratum(member)].append(member)
    chance = random.Random(seed)  # drawn to be repeatable, not to be unguessable
    drawn = {}
    for name, members in sorted(strata.items()):
        share = round(size * len(members) / len(population))
        drawn[name] = chance.sample(members, min(len(members), max(_LEAST_PER_STRATUM, share)))
    return drawn


def total(strata: Mapping[str, Stratum]) -> Estimate:
    """Return the population's total of what was measured, with its 95 % interval.

    A stratum that was measured whole adds no error. One of several of which only one was measured cannot
    tell its spread; `draw` never leaves that.
    """
    value, squared_error, freedom = 0.0, 0.0, 0
    for each in strata.values():
        n = len(each.measured)
        if n == 0:
            continue
        value += each.size * fmean(each.measured)
        if 1 < n < each.size:
            squared_error += each.size**2 * (1 - n / each.size) * variance(each.measured) / n
            freedom += n - 1
    error = sqrt(squared_error)
    reach = error * (_T[freedom - 1] if 1 <= freedom <= len(_T) else _NORMAL)
    return Estimate(value, error, value - reach, value + reach)


def share_at_most(hits: int, drawn: int, population: int) -> float:
    """Return the upper end of the 95 % interval (Wilson) of the share of hits in a population.

    Args:
        hits: How many of those drawn are hits.
        drawn: How many were drawn at random.
        population: How many there are; if all were drawn, the share is known.
    """
    if drawn == 0:
        return 1.0 if population else 0.0
    p, z2 = hits / drawn, _NORMAL**2
    if drawn >= population:
        return p
    middle = p + z2 / (2 * drawn)
    spread = _NORMAL * sqrt(p * (1 - p) / drawn + z2 / (4 * drawn**2))
    return min(1.0, (middle + spread) / (1 + z2 / drawn))
