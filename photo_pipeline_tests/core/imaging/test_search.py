from collections.abc import Callable
from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from photo_pipeline.core.imaging.search import GOOD_FILL, MAX_ENCODES, SearchResult, search_quality

LOW, HIGH = 20, 85

growing = st.lists(st.integers(0, 20_000), min_size=HIGH - LOW + 1, max_size=HIGH - LOW + 1).map(
    lambda steps: [1 + size for size in accumulate(steps)]
)
jumping = st.lists(st.integers(1, 200_000), min_size=HIGH - LOW + 1, max_size=HIGH - LOW + 1)
budgets = st.integers(1, 1_000_000)
guesses = st.integers(LOW, HIGH)


def searched(
    sizes: list[int], budget: int | None, guess: int, low: int = LOW
) -> tuple[SearchResult, list[int]]:
    tried: list[int] = []

    def encode(quality: int) -> bytes:
        tried.append(quality)
        return bytes(sizes[quality - low])

    result = search_quality(encode, max_bytes=budget, low=low, high=low + len(sizes) - 1, guess=guess)
    return result, tried


@given(sizes=growing, budget=budgets, guess=guesses)
@example(sizes=[100] * 66, budget=100, guess=20)
@example(sizes=[100] * 66, budget=99, guess=85)
def test_the_result_is_the_highest_quality_that_fits_or_fills_the_budget(
    sizes: list[int], budget: int, guess: int
) -> None:
    result, tried = searched(sizes, budget, guess)
    fitting = [quality for quality in range(LOW, HIGH + 1) if sizes[quality - LOW] <= budget]
    assert result.met == bool(fitting)
    assert result.encodes == len(tried) <= MAX_ENCODES
    if not fitting:
        assert result.quality == LOW
    else:
        assert len(result.data) <= budget
        assert result.quality == max(fitting) or len(result.data) >= GOOD_FILL * budget


@given(sizes=jumping, budget=budgets, guess=guesses)
def test_sizes_that_jump_about_never_break_the_budget_or_waste_a_try_that_fits(
    sizes: list[int], budget: int, guess: int
) -> None:
    result, tried = searched(sizes, budget, guess)
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
    guess = data.draw(st.integers(1, count))
    result, tried = searched(sizes, answer * 1_000, guess, low=1)
    assert len(tried) <= MAX_ENCODES
    assert len(result.data) >= GOOD_FILL * answer * 1_000


def test_a_good_guess_that_fits_at_the_top_costs_one_encode() -> None:
    result, tried = searched([1_000 + q for q in range(66)], 50_000, HIGH)
    assert (result.quality, tried, result.met) == (HIGH, [HIGH], True)


def test_a_photograph_like_curve_is_settled_in_three_encodes() -> None:
    sizes = [round(20_000 * 1.03**step) for step in range(66)]
    _, tried = searched(sizes, 60_000, HIGH)
    assert len(tried) <= 3


def test_without_a_budget_the_top_quality_is_taken_at_once() -> None:
    result, tried = searched([5] * 66, None, 30)
    assert (result.quality, tried) == (HIGH, [HIGH])


@pytest.mark.parametrize(("low", "high"), [(50, 49), (0, 200)])
def test_a_range_that_cannot_be_searched_is_refused(low: int, high: int) -> None:
    encode: Callable[[int], bytes] = bytes
    with pytest.raises(ValueError, match="no search"):
        search_quality(encode, max_bytes=10, low=low, high=high, guess=low)
