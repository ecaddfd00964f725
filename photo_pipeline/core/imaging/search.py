"""The highest quality whose file fits a byte budget, in few encodes.

Knows nothing of images: an encoder is any function from a quality to bytes, and a curve any forecast of
their sizes (`size_model.py` has the real one). The forecast only decides which quality is tried next; what
is taken is decided by the files themselves, so a wrong forecast costs encodes, never the budget.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import Protocol

import numpy as np
import numpy.typing as npt

# Every quality of 1..100 is decided within 7 halvings; one more allows a first try anywhere.
MAX_ENCODES = 8


class Forecast(Protocol):
    """What sizes to expect, corrected by each encode."""

    def log_bytes(self, *, sigmas: float) -> npt.NDArray[np.float64]:
        """Returns ln(bytes) for each of the search's qualities, `sigmas` above the expected one."""

    def learn(self, quality: int, size: int) -> None:
        """Takes note of a file's size in bytes."""


@dataclass(frozen=True)
class SearchResult:
    """The chosen file.

    Attributes:
        quality: The quality that it was encoded with.
        data: The file.
        encodes: How many files were made to find it.
        met: Whether it fits the budget.
    """

    quality: int
    data: bytes
    encodes: int
    met: bool


def search_quality(
    encode: Callable[[int], bytes],
    *,
    max_bytes: int | None,
    qualities: Sequence[int],
    forecast: Callable[[int], Forecast],
    good_fill: float = 0.95,
    caution: float = 0.5,
) -> SearchResult:
    """Finds the highest quality whose file has at most `max_bytes` bytes.

    Args:
        encode: Makes the file at a quality; sizes should grow with it, but need not strictly.
        max_bytes: The budget; None for no limit, which takes the highest quality.
        qualities: Those that may be chosen, ascending.
        forecast: From the budget to what sizes to expect; asked only where there is a budget.
        good_fill: The share of the budget with which a file is good enough.
        caution: How far above the forecast a size may turn out, in standard deviations, at what is tried.

    Returns:
        The file of the highest quality tried that fits. If sizes grow with quality, it is the highest that
        fits at all, or one that fills at least `good_fill` of the budget. When not even the lowest fits, the
        file of the lowest with `met` False. Never more than MAX_ENCODES encodes.

    Raises:
        ValueError: There are no qualities, or more than 100.
    """
    if not 0 < len(qualities) <= 100:
        raise ValueError(f"no search among {len(qualities)} qualities")
    if max_bytes is None:
        best = qualities[-1]
        return SearchResult(quality=best, data=encode(best), encodes=1, met=True)
    bracket = _Bracket(max_bytes=max_bytes, count=len(qualities), good_fill=good_fill)
    expected = forecast(max_bytes)
    while not bracket.decided:
        at = bracket.next_place(expected.log_bytes(sigmas=caution))
        data = encode(qualities[at])
        bracket.learn(at, data)
        expected.learn(qualities[at], len(data))
    return bracket.result(qualities)


def highest_fitting(log_sizes: npt.NDArray[np.float64], max_bytes: int) -> int:
    """Returns the index of the last size, in ln(bytes), within the budget; 0 where none is."""
    fitting = np.flatnonzero(log_sizes <= log(max(1, max_bytes)))
    return int(fitting[-1]) if fitting.size else 0


class _Bracket:
    """What is known so far of the qualities by their place: `below` fits (or is -1), `above` does not."""

    def __init__(self, *, max_bytes: int, count: int, good_fill: float) -> None:
        self.max_bytes = max_bytes
        self.good_fill = good_fill
        self.below = -1
        self.above = count
        self.encodes = 0
        self.fitting = b""
        self.smallest = b""

    @property
    def decided(self) -> bool:
        return self.below + 1 >= self.above or len(self.fitting) >= self.good_fill * self.max_bytes

    def learn(self, at: int, data: bytes) -> None:
        self.encodes += 1
        if len(data) <= self.max_bytes:
            self.below, self.fitting = at, data
        else:
            self.above, self.smallest = at, data

    def next_place(self, log_sizes: npt.NDArray[np.float64]) -> int:
        """The forecast's place, moved so that the tries left can always settle what remains."""
        reach = (1 << (MAX_ENCODES - self.encodes - 1)) - 1
        floor = max(self.below + 1, self.above - 1 - reach)
        ceiling = min(self.above - 1, self.below + 1 + reach)
        return max(floor, min(ceiling, highest_fitting(log_sizes[: self.above], self.max_bytes)))

    def result(self, qualities: Sequence[int]) -> SearchResult:
        met = self.below >= 0
        quality = qualities[self.below if met else self.above]
        data = self.fitting if met else self.smallest
        return SearchResult(quality=quality, data=data, encodes=self.encodes, met=met)
