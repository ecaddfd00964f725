"""The cron schedule in the configuration."""

from datetime import UTC, datetime, timedelta

import pytest

from photo_pipeline.core.cron import CronTimes
from photo_pipeline.core.errors import ConfigurationError

NOON = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)  # a Sunday


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("0 3 * * *", datetime(2026, 3, 15, 3, 0, tzinfo=UTC)),
        ("*/10 * * * *", NOON),
        ("5-59/20 11 * * *", datetime(2026, 3, 15, 11, 45, tzinfo=UTC)),
        ("30 6 * * 1-5", datetime(2026, 3, 13, 6, 30, tzinfo=UTC)),
        ("0 0 * * 7", datetime(2026, 3, 15, 0, 0, tzinfo=UTC)),
        ("0 0 1,14 * *", datetime(2026, 3, 14, 0, 0, tzinfo=UTC)),
        ("0 0 10 * 4", datetime(2026, 3, 12, 0, 0, tzinfo=UTC)),  # either day
        ("0 0 1 2 *", None),
    ],
)
def test_the_last_time_within_a_week_is_found(text: str, last: datetime | None) -> None:
    assert CronTimes.parse(text).last_in(NOON - timedelta(days=7), NOON) == last


def test_each_time_is_in_exactly_one_of_the_windows_that_follow_each_other() -> None:
    times, step = CronTimes.parse("7,15,30 * * * *"), timedelta(minutes=15)
    found = [times.last_in(NOON + i * step, NOON + (i + 1) * step) for i in range(4)]
    assert [each and each.minute for each in found] == [15, 30, None, None]


@pytest.mark.parametrize(
    "text", ["a * * * *", "60 * * * *", "* * 0 * *", "*/0 * * * *", "* * * *", "5-1 * * * *"]
)
def test_what_is_no_schedule_is_refused_with_advice(text: str) -> None:
    with pytest.raises(ConfigurationError, match="Write five fields"):
        CronTimes.parse(text)
