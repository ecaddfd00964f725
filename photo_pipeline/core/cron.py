"""The five fields of a cron schedule: minute, hour, day of the month, month, day of the week; in UTC.

Numbers, `*`, lists (1,15), ranges (1-5) and steps (*/10); Sunday is 0 or 7. As in cron, a day fits if
either day field does, when both are restricted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from photo_pipeline.core.errors import ConfigurationError

_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


@dataclass(frozen=True)
class CronTimes:
    """The moments that a cron schedule names, to the minute."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the times that the five fields mean.

        Raises:
            ConfigurationError: a field cannot be read.
        """
        fields = text.split()
        try:
            values = [_values(part, *bounds) for part, bounds in zip(fields, _BOUNDS, strict=True)]
        except ValueError as error:
            raise ConfigurationError(
                f"schedule {text!r}",
                cause=f"it is no cron schedule ({error})",
                fix="write five fields of numbers, as in 0 3 * * *",
            ) from error
        either = not fields[2].startswith("*") and not fields[4].startswith("*")
        minutes, hours, days, months, weekdays = values
        return cls(minutes, hours, days, months, frozenset(day % 7 for day in weekdays), either)

    def last_in(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last of the moments that is later than `after` and not later than `until`."""
        moment = until.replace(second=0, microsecond=0)
        while moment > after:
            if self._has(moment):
                return moment
            moment -= timedelta(minutes=1)
        return None

    def _has(self, moment: datetime) -> bool:
        in_month, in_week = moment.day in self.days, moment.isoweekday() % 7 in self.weekdays
        day = in_month or in_week if self.either_day else in_month and in_week
        time = moment.minute in self.minutes and moment.hour in self.hours
        return time and day and moment.month in self.months


def _values(text: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = (str(low), "-", str(high)) if span == "*" else span.partition("-")
        start = int(first)
        # 5/10 means from 5 on, as in most crons.
        end = int(last) if dash else (high if slash else start)
        every = int(step) if slash else 1
        if not low <= start <= end <= high or every < 1:
            raise ValueError(f"{part!r} is not between {low} and {high}")
        found.update(range(start, end + 1, every))
    return frozenset(found)
