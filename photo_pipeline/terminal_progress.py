"""How far long work is: bars with rates and time left in a terminal, a line every few seconds elsewhere.

Rates of a step count from its beginning. How long the whole migration takes is said as the dashboard says it:
as a range, and not before it is known (core/live/pace.py).
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from photo_pipeline.core.progress import BYTES_SENT, Progress

PLAIN_EVERY_S: Final = 5.0
"""Between two lines, where nothing can be drawn."""

# Below, a bar would leave no room for the numbers.
_WIDTH_FOR_BARS: Final = 60
# A rate of the first moments would jump.
_LEAST_S: Final = 0.5
_VARIANTS: Final = "variants"
_UNITS: Final[Mapping[str, str]] = {
    _VARIANTS: "photos",
    "quality": "photos",
    "sample": "photos",
    "checksums": "files",
    "urls": "URLs",
}

Clock = Callable[[], float]


@dataclass
class Stage:
    """One step of the work and its pace; `done` and `total` count what the step counts."""

    name: str
    started: float
    first: int
    done: int = 0
    total: int | None = None
    sent: int = 0

    def note(self, now: float) -> str:
        """Return rate and time left, as far as they are known: `3.2 photos/s, 1.4 MB/s, 25 s left`."""
        seconds = now - self.started
        if seconds < _LEAST_S:
            return ""
        rate = (self.done - self.first) / seconds
        unit = _UNITS.get(self.name, self.name.split()[0])
        parts = [f"{rate:,.1f} {unit}/s"] if rate else []
        parts += [f"{human_bytes(self.sent / seconds)}/s"] if self.sent else []
        if rate and self.total and self.total > self.done:
            parts.append(f"{human_seconds((self.total - self.done) / rate)} left")
        return ", ".join(parts)


@dataclass
class Journey:
    """All batches that a command is about to migrate, and how long they take.

    Attributes:
        photos: Photos to do, by batch.
        clock: In seconds, from any start.
    """

    photos: Mapping[str, int]
    clock: Clock = time.monotonic
    _done: dict[str, int] = field(default_factory=dict)
    _made: deque[tuple[datetime, int]] = field(default_factory=deque)

    @property
    def total(self) -> int:
        """Photos to do in all batches."""
        return sum(self.photos.values())

    @property
    def done(self) -> int:
        """Of these, the ones whose variants are made (a batch that has ended counts as a whole)."""
        return sum(self._done.values())

    def told(self, batch: str, stage: str, done: int, total: int | None) -> None:
        """Note what a step of a batch reports."""
        if stage != _VARIANTS or not total or batch not in self.photos:
            return
        known = batch in self._done
        share = self.photos[batch] * done // total
        # What an earlier run had made says nothing about the pace.
        if known and share > self._done[batch]:
            self._made.append((self._now(), share - self._done[batch]))
        self._done[batch] = share

    def ended(self, batch: str) -> None:
        """Note that the batch is done."""
        if batch in self.photos:
            self._done[batch] = self.photos[batch]

    def note(self) -> str:
        """Return pace and time left of the whole: `3.2 photos/s, between 4 and 6 minutes left`."""
        # Only `migrate` needs it; the module is small, but its package reads databases.
        from photo_pipeline.core.live.pace import WINDOW, measure, time_left

        now = self._now()
        while self._made and now - self._made[0][0] > WINDOW:
            self._made.popleft()
        pace = measure(self._made, now=now)
        left = time_left(self.total - self.done, pace)
        parts = [f"{pace.per_second:,.1f} photos/s"] if pace.per_second else []
        return ", ".join([*parts, *([f"{left.sentence} left"] if left else [])])

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)


@contextmanager
def bars(title: str, console: Console, journey: Journey | None, clock: Clock) -> Iterator[Progress]:
    """Draw one bar per step while the body runs, and one for the whole journey; nothing is left behind."""
    room = console.width >= _WIDTH_FOR_BARS
    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False)]
    columns += [BarColumn(bar_width=20)] if room else []
    columns += [MofNCompleteColumn(), TextColumn("{task.fields[note]}", markup=False)]
    with Bars(*columns, console=console, transient=True) as drawn:
        tasks: dict[str, TaskID] = {}
        stages: dict[str, Stage] = {}
        whole = drawn.add_task("all batches", total=journey.total, note="") if journey else None

        def report(stage: str, done: int, total: int | None) -> None:
            known = _follow(stages, stage, done, total, clock())
            if known is None:
                return
            if stage not in tasks:
                tasks[stage] = drawn.add_task(f"{title}: {stage}", total=total, note="")
            drawn.update(tasks[stage], completed=done, total=total, note=known.note(clock()))
            if journey is not None and whole is not None:
                journey.told(title, stage, done, total)
                drawn.update(whole, completed=journey.done, note=journey.note())

        yield report


@contextmanager
def plain_lines(
    title: str, say: Callable[[str], None], journey: Journey | None, clock: Clock
) -> Iterator[Progress]:
    """Say a line at most every `PLAIN_EVERY_S` seconds while the body runs."""
    stages: dict[str, Stage] = {}
    last = clock()

    def report(stage: str, done: int, total: int | None) -> None:
        nonlocal last
        now = clock()
        known = _follow(stages, stage, done, total, now)
        if journey is not None:
            journey.told(title, stage, done, total)
        if known is None or now - last < PLAIN_EVERY_S:
            return
        last = now
        counted = f"{done:,} of {total:,}" if total else f"{done:,}"
        line = ", ".join(filter(None, (f"{title}: {stage} {counted}", known.note(now))))
        if journey is not None:
            whole = f"all batches {journey.done:,} of {journey.total:,}"
            line += "; " + ", ".join(filter(None, (whole, journey.note())))
        say(line)

    yield report


def _follow(stages: dict[str, Stage], name: str, done: int, total: int | None, now: float) -> Stage | None:
    """Keep the step's figures and return it; None where the report only tells bytes of the present step."""
    if name == BYTES_SENT:
        if stages:
            next(reversed(stages.values())).sent = done
        return None
    stage = stages.setdefault(name, Stage(name, started=now, first=done))
    stage.done, stage.total = done, total
    return stage


def human_seconds(seconds: float) -> str:
    """Return a time as people read it, rounded: `25 s`, `4 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def human_bytes(size: float) -> str:
    """Return a size as people read it, in binary multiples (1 KB = 1,024 bytes)."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if abs(size) < 1024 or unit == "GB":
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    raise AssertionError("the last unit takes everything")  # pragma: no cover
