"""Pace and time left: an error that is honest about bursts, pauses and a beginning."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from photo_pipeline.core.live.pace import Pace, measure, time_left

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
Chunks = list[tuple[datetime, int]]


def chunks(*, every_s: float, photos: int, for_s: float, before_s: float = 0.0) -> Chunks:
    """As many photos every so often, the last `before_s` before now."""
    count = int(for_s / every_s)
    return [(NOW - timedelta(seconds=before_s + (count - n) * every_s), photos) for n in range(1, count + 1)]


def test_a_steady_pace_is_known_well() -> None:
    pace = measure(chunks(every_s=10, photos=50, for_s=600), now=NOW)
    assert pace.per_second == pytest.approx(5.0, rel=0.02)
    assert pace.error == pytest.approx(0.10, abs=0.02)
    assert sum(pace.by_slot) == 3_000
    assert len(pace.by_slot) == 20


def test_a_pace_that_varies_has_a_larger_error() -> None:
    steady = measure(chunks(every_s=60, photos=100, for_s=600), now=NOW)
    halves = chunks(every_s=60, photos=180, for_s=300, before_s=300) + chunks(
        every_s=60, photos=20, for_s=300
    )
    assert measure(halves, now=NOW).error > 2 * steady.error


@pytest.mark.parametrize(
    "finished",
    [
        [],
        chunks(every_s=60, photos=100, for_s=120),  # two chunks
        chunks(every_s=1, photos=1, for_s=15),  # too short
    ],
)
def test_too_little_gives_no_pace_and_no_time(finished: Chunks) -> None:
    pace = measure(finished, now=NOW)
    assert pace.per_second is None
    assert time_left(1_000, pace) is None


def test_the_time_before_a_resume_does_not_count() -> None:
    before = chunks(every_s=10, photos=100, for_s=100, before_s=300)
    after = chunks(every_s=10, photos=10, for_s=100)
    resumed = NOW - timedelta(seconds=120)
    assert measure(before + after, now=NOW).per_second != pytest.approx(1.0, rel=0.2)
    assert measure(before + after, now=NOW, not_before=resumed).per_second == pytest.approx(1.0, rel=0.05)


def test_a_silence_slows_the_pace_and_widens_the_error() -> None:
    at_once = measure(chunks(every_s=10, photos=50, for_s=300), now=NOW)
    silent = measure(chunks(every_s=10, photos=50, for_s=300, before_s=240), now=NOW)
    assert silent.per_second is not None
    assert at_once.per_second is not None
    assert silent.per_second < at_once.per_second
    assert silent.error > at_once.error


def test_the_true_time_lies_between_the_two_as_often_as_is_claimed() -> None:
    """Batches of random size and duration: 95 % is claimed, and a pace from ten minutes cannot be perfect."""
    random_numbers, inside = random.Random(7), 0
    for _ in range(200):
        at, finished = NOW - timedelta(seconds=600), []
        while at < NOW:
            finished.append((at, random_numbers.randint(20, 180)))
            at += timedelta(seconds=random_numbers.expovariate(1 / 15))
        left = time_left(10_000, measure(finished, now=NOW))
        truth = 10_000 / (100 / 15)
        inside += left is not None and left.low_s <= truth <= (left.high_s or float("inf"))
    assert inside >= 0.88 * 200


@pytest.mark.parametrize(
    ("photos", "error", "sentence"),
    [
        (6_000, 0.25, "between 16 and 27 minutes"),
        (300, 0.1, "less than 2 minutes"),
        (900, 0.5, "between 2 and 6 minutes"),
        (60_000, 0.1, "between 3 and 4 hours"),
        (2_000_000, 0.1, "between 4 and 6 days"),
        (6_000, 0.9, "at least 10 minutes"),
    ],
)
def test_the_time_left_is_said_as_people_do(photos: int, error: float, sentence: str) -> None:
    left = time_left(photos, Pace(5.0, error, 600, ()))
    assert left is not None
    assert left.sentence == sentence


def test_no_photos_take_no_time() -> None:
    assert time_left(0, Pace(5.0, 0.1, 600, ())) is None
    assert time_left(100, Pace(5.0, 2.0, 600, ())) is None  # "at least 7 seconds" says nothing
