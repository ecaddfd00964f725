"""The highest quality whose file fits a byte budget, in few encodes.

Knows nothing of images: an encoder is any function from a quality to bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import floor, log

# Every quality of 1..100 is decided within 7 halvings; one more allows a first try anywhere.
MAX_ENCODES = 8

# A file that fills this much of its budget is good enough: the last 5 % are worth 1-2 steps of quality.
GOOD_FILL = 0.95

# Where the interpolation aims: inside of the window that ends the search.
_AIM_FILL = 0.975

# Growth of ln(bytes) per step of quality, for want of better (between JPEG's and AVIF's mean).
TYPICAL_SLOPE = 0.028


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
    low: int,
    high: int,
    guess: int,
    slope: float = TYPICAL_SLOPE,
) -> SearchResult:
    """Finds the highest quality whose file has at most `max_bytes` bytes.

    Args:
        encode: Makes the file at a quality; sizes should grow with it, but need not strictly.
        max_bytes: The budget; None for no limit, which takes `high`.
        low: The lowest quality that may be chosen.
        high: The highest quality.
        guess: The first quality to try; `high` when nothing is known.
        slope: Expected growth of ln(bytes) per step of quality, used until two sizes are known.

    Returns:
        The file of the highest quality tried that fits. If sizes grow with quality, it is the highest that
        fits at all, or one that fills at least GOOD_FILL of the budget. When not even `low` fits, the file
        of `low` with `met` False. Never more than MAX_ENCODES encodes.

    Raises:
        ValueError: The range is empty or has more than 100 qualities.
    """
    if not 0 <= high - low < 100:
        raise ValueError(f"no search in {low}..{high}")
    if max_bytes is None:
        return SearchResult(quality=high, data=encode(high), encodes=1, met=True)
    bracket = _Bracket(max_bytes=max_bytes, low=low, high=high, slope=slope)
    while not bracket.decided:
        quality = bracket.next_quality(guess)
        bracket.learn(quality, encode(quality))
    return bracket.result()


class _Bracket:
    """What is known so far: `below` fits (or is low - 1), `above` does not (or is high + 1)."""

    def __init__(self, *, max_bytes: int, low: int, high: int, slope: float) -> None:
        self.max_bytes = max_bytes
        self.slope = slope
        self.below = low - 1
        self.above = high + 1
        self.tried: dict[int, int] = {}
        self.fitting = b""
        self.smallest = b""

    @property
    def decided(self) -> bool:
        return self.below + 1 >= self.above or len(self.fitting) >= GOOD_FILL * self.max_bytes

    def learn(self, quality: int, data: bytes) -> None:
        self.tried[quality] = len(data)
        if len(data) <= self.max_bytes:
            self.below, self.fitting = quality, data
        else:
            self.above, self.smallest = quality, data

    def next_quality(self, guess: int) -> int:
        """The interpolated quality, moved so that the tries left can always settle what remains."""
        target = guess if not self.tried else self._interpolated()
        reach = 2 ** (MAX_ENCODES - len(self.tried) - 1) - 1
        floor_ = max(self.below + 1, self.above - 1 - reach)
        ceiling = min(self.above - 1, self.below + 1 + reach)
        return int(max(floor_, min(ceiling, target)))

    def _interpolated(self) -> int:
        """Where the line through the two sizes nearest to the budget reaches the aim."""
        aim = log(max(1.0, self.max_bytes * _AIM_FILL))
        sizes = {quality: log(max(1, size)) for quality, size in self.tried.items()}
        nearest, *others = sorted(sizes, key=lambda quality: abs(sizes[quality] - aim))
        slope = self.slope
        # Encoders have plateaus (AVIF has 64 steps for 100 qualities): a flat or falling line says nothing.
        if others and (rise := (sizes[nearest] - sizes[others[0]]) / (nearest - others[0])) > 0:
            slope = max(rise, self.slope / 10)
        return floor(nearest + (aim - sizes[nearest]) / slope)

    def result(self) -> SearchResult:
        met = self.below in self.tried
        quality = self.below if met else self.above
        data = self.fitting if met else self.smallest
        return SearchResult(quality=quality, data=data, encodes=len(self.tried), met=met)
