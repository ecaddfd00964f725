from collections.abc import Callable
from itertools import accumulate
from math import log

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy import typing as npt

from photo_pipeline.core.imaging.search import MAX_ENCODES, SearchResult, search_quality

LOW, HIGH = 20, 85
GOOD_FILL = 0.95


class Constant:
    """A forecast that says the same whatever happens: the worst that a search can be told."""

    def __init__(self, log_bytes: list[float]) -> None:
        self.sizes = np.array(log_bytes)

    def log_bytes(self, *, sigmas: float) -> npt.NDArray[np.float64]:
        return self.sizes

    def learn(self, quality: int, size: int) -> None:
        """Learns nothing."""


growing = st.lists(st.integers(0, 20_000), min_size=HIGH - LOW + 1, max_size=HIGH - LOW + 1).map(
    lambda steps: [1 + size for size in accumulate(steps)]
)
jumping = st.lists(st.integers(1, 200_000), min_size=HIGH - LOW + 1, max_size=HIGH - LOW + 1)
budgets = st.integers(1, 1_000_000)
forecasts = st.lists(st.floats(-5, 25), min_size=HIGH - LOW + 1, max_size=HIGH - LOW + 1)
OPTIMIST, PESSIMIST = [0.0] * 66, [99.0] * 66


def searched(
    sizes: list[int], budget: int | None, forecast: list[float], low: int = LOW
) -> tuple[SearchResult, list[int]]:
    tried: list[int] = []

    def encode(quality: int) -> bytes:
        tried.append(quality)
        return bytes(sizes[quality - low])

    result = search_quality(
        encode,
        max_bytes=budget,
        qualities=range(low, low + len(sizes)),
        forecast=lambda _: Constant(forecast),
        good_fill=GOOD_FILL,
    )
    return result, tried


@given(sizes=growing, budget=budgets, forecast=forecasts)
@example(sizes=[100] * 66, budget=100, forecast=PESSIMIST)
@example(sizes=[100] * 66, budget=99, forecast=OPTIMIST)
def test_the_result_is_the_highest_quality_that_fits_or_fills_the_budget(
    sizes: list[int], budget: int, forecast: list[float]
) -> None:
    result, tried = searched(sizes, budget, forecast)
    fitting = [quality for quality in range(LOW, HIGH + 1) if sizes[quality - LOW] <= budget]
    assert result.met == bool(fitting)
    assert result.encodes == len(tried) <= MAX_ENCODES
    if not fitting:
        assert result.quality == LOW
    else:
        assert len(result.data) <= budget
        assert result.quality == max(fitting) or len(result.data) >= GOOD_FILL * budget


@given(sizes=jumping, budget=budgets, forecast=forecasts)
def test_sizes_that_jump_about_never_break_the_budget_or_waste_a_try_that_fits(
    sizes: list[int], budget: int, forecast: list[float]
) -> None:
    result, tried = searched(sizes, budget, forecast)
    fitting = [quality for quality in tried if sizes[quality - LOW] <= budget]
    assert len(tried) == len(set(tried)) <= MAX_ENCODES
    assert result.met == bool(fitting)
    assert len(result.data) == sizes[result.quality - LOW]
    if fitting:
        assert result.quality == max(fitting)


@given(data=st.data(), count=st.integers(1, 100))
def test_any_range_of_up_to_a_hundred_qualities_is_settled(data: st.DataObject, count: int) -> None:
    sizes = list(range(1_000, 1_000 + count * 1_000, 1_000))
    answer = data.draw(st.integers(1, count))
    forecast = data.draw(st.lists(st.floats(0, 15), min_size=count, max_size=count))
    result, tried = searched(sizes, answer * 1_000, forecast, low=1)
    assert len(tried) <= MAX_ENCODES
    assert len(result.data) >= GOOD_FILL * answer * 1_000


def test_a_right_forecast_that_the_top_fits_costs_one_encode() -> None:
    result, tried = searched([1_000 + q for q in range(66)], 50_000, OPTIMIST)
    assert (result.quality, tried, result.met) == (HIGH, [HIGH], True)


def test_a_right_forecast_costs_one_encode_and_a_wrong_one_a_bisection() -> None:
    sizes = [round(20_000 * 1.03**step) for step in range(66)]
    right = [log(size) for size in sizes]
    result, tried = searched(sizes, 60_000, right)
    assert len(tried) == 1
    assert 0.97 * 60_000 <= len(result.data) <= 60_000
    wrong = [log(size) - 0.7 for size in sizes]
    assert len(searched(sizes, 60_000, wrong)[1]) > 1


def test_without_a_budget_the_top_quality_is_taken_at_once() -> None:
    result, tried = searched([5] * 66, None, PESSIMIST)
    assert (result.quality, tried) == (HIGH, [HIGH])


@pytest.mark.parametrize(("low", "high"), [(50, 49), (0, 200)])
def test_a_range_that_cannot_be_searched_is_refused(low: int, high: int) -> None:
    encode: Callable[[int], bytes] = bytes
    with pytest.raises(ValueError, match="no search"):
        search_quality(encode, max_bytes=10, qualities=range(low, high + 1), forecast=lambda _: Constant([]))
