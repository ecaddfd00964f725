"""What the driver launches next: a pure decision over what is known of the migration at one moment.

Who gathers that knowledge: `driver_facts` (the state tables) and the sensor `migration_driver` (runs).
Nothing here reads a database or a clock, so that every rule can be tried with any situation.

The order: rollbacks that were interrupted, then batches that were begun or never tried, by priority, then
failed ones, the least tried first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from photo_pipeline.core.catalog.tables import BatchState, Control
from photo_pipeline.core.errors import ErrorClass
from photo_pipeline.core.retry_rules import RULES

MAX_SILENT_ENDS: Final = 5
"""So many runs in a row may end without the batch (or inventory) saying why, such as by kill -9."""

_NAMED: Final = 5  # batches that a sentence lists


class Act(StrEnum):
    """What a run does; also the name of its job."""

    MIGRATE = "migrate"
    ROLLBACK = "rollback"
    INVENTORY = "inventory"


@dataclass(frozen=True)
class BatchFacts:
    """What is known of one batch.

    Attributes:
        key: Its key.
        priority: Smaller ones go first.
        state: Where it stands.
        failures: How often it failed since it last got through.
        error_class: For which class of reasons it failed last.
        failed_at: When (UTC).
        is_busy: A run or a command works on it, or is about to.
        is_migrated: Rows of it point to the CDN.
    """

    key: str
    priority: int
    state: BatchState
    failures: int = 0
    error_class: ErrorClass | None = None
    failed_at: datetime | None = None
    is_busy: bool = False
    is_migrated: bool = False


@dataclass(frozen=True)
class RunHistory:
    """What is known of the runs of one act on one batch, since somebody last paused or resumed.

    Attributes:
        last: The newest run's id; empty if there was none.
        silent_ends: How many of the newest ones ended badly, one after the other.
        was_cancelled: Whether a person cancelled the newest one.
    """

    last: str = ""
    silent_ends: int = 0
    was_cancelled: bool = False


@dataclass(frozen=True)
class Situation:
    """What is known of the migration at one moment.

    Attributes:
        now: The moment (UTC).
        at_once: How many batches may be worked on at once.
        control: What a person wants.
        stopped: Who paused or aborted it, when and why; empty while it may run.
        control_at: When a person last said so (UTC); what runs did before counts no more.
        suspended: Why the cost guard's breaker lets nothing be uploaded; empty while it does.
        is_overridden: Whether a person allowed to spend more.
        batches: All of them.
        last_success_at: When a batch last got through (UTC).
        rescan: Whether inventories are launched as well, until one finds nothing left.
        is_pass_due: Whether another inventory can find something.
        is_inventory_busy: Whether one is under way.
        delta: Whether zero delta is proven, in words.
    """

    now: datetime
    at_once: int
    control: Control = Control.RUNNING
    stopped: str = ""
    control_at: datetime | None = None
    suspended: str = ""
    is_overridden: bool = False
    batches: tuple[BatchFacts, ...] = ()
    last_success_at: datetime | None = None
    rescan: bool = False
    is_pass_due: bool = False
    is_inventory_busy: bool = False
    delta: str = ""


@dataclass(frozen=True)
class Launch:
    """One run to launch; `after` is the newest run before it, which makes it the only one to follow that."""

    act: Act
    batch: str | None
    after: str

    @property
    def key(self) -> str:
        """The run's key: a second launch of the same step is none."""
        return f"{self.act} {self.batch or ''} after {self.after or 'nothing'}"


@dataclass(frozen=True)
class Decision:
    """What to launch, and the situation in a few sentences for whoever looks at the driver."""

    launches: tuple[Launch, ...]
    said: str


History = Callable[[Act, str | None], RunHistory]


def decide(situation: Situation, history: History) -> Decision:
    """Return what to launch now.

    Args:
        situation: What is known.
        history: Tells of the runs of an act on a batch; asked only of batches whose turn it is.
    """
    return _Decider(situation, history).decide()


class _Decider:
    def __init__(self, situation: Situation, history: History) -> None:
        self._now = situation
        self._history = history
        self._launches: list[Launch] = []
        self._said: list[str] = []
        self._left: list[str] = []
        self._waiting = 0
        self._busy = sum(each.is_busy for each in situation.batches)
        self._free = max(0, situation.at_once - self._busy)

    def decide(self) -> Decision:
        if self._now.control is Control.PAUSED:
            return Decision((), f"Nothing is launched: the migration was {self._now.stopped}.")
        self._launch(Act.ROLLBACK, self._going_back())
        if self._now.control is Control.RUNNING:
            self._go_forward()
        else:
            self._said.append(f"The migration was {self._now.stopped}: what is migrated is rolled back.")
        return Decision(tuple(self._launches), self._sentence())

    def _going_back(self) -> Iterator[BatchFacts]:
        """Interrupted rollbacks; after an abort also everything that is migrated, the last one first."""
        aborted = self._now.control is Control.ABORTED
        wanted = [
            each
            for each in self._now.batches
            if each.state is BatchState.ROLLING_BACK or (aborted and each.is_migrated)
        ]
        yield from sorted(wanted, key=lambda each: (-each.priority, each.key))

    def _go_forward(self) -> None:
        if self._now.suspended:
            self._said.append(f"No batch is launched: {self._now.suspended}")
            return
        outage = _Outage.of(self._now)
        if outage is not None and self._now.now < outage.until:
            self._said.append(outage.sentence)
            return
        if outage is not None:
            # One, to see whether the outside is back.
            self._free = min(self._free, 1 - self._busy)
        self._launch(Act.MIGRATE, self._open())
        self._look_again()

    def _open(self) -> Iterator[BatchFacts]:
        """Batches that can go forward: begun or never tried, then failed ones."""
        fresh = (BatchState.RUNNING, BatchState.PENDING, BatchState.PAUSED)
        wanted = [each for each in self._now.batches if each.state in (*fresh, BatchState.FAILED)]
        yield from sorted(wanted, key=lambda each: (each.failures, each.priority, each.key))

    def _launch(self, act: Act, candidates: Iterator[BatchFacts]) -> None:
        """Launch as many of the candidates as may run at once, in their order."""
        for each in candidates:
            if each.is_busy:
                continue
            if left := self._reason_to_leave(act, each):
                self._left.append(f"{each.key} ({left})")
            elif self._free <= 0 or not self._is_due(each):
                self._waiting += 1
            elif left := _silence(past := self._history(act, each.key)):
                self._left.append(f"{each.key} ({left})")
            else:
                self._launches.append(Launch(act, each.key, past.last))
                self._free -= 1

    def _reason_to_leave(self, act: Act, batch: BatchFacts) -> str:
        """Return why the rule of its error grants the batch no further try, or an empty text."""
        if act is Act.ROLLBACK and batch.state not in (BatchState.ROLLING_BACK, BatchState.COMPLETED):
            return ""  # it failed on the way forward
        if batch.error_class is None or batch.failures == 0 or batch.error_class is ErrorClass.QUOTA:
            return ""
        rule = RULES[batch.error_class]
        if batch.failures <= rule.retries or (rule.is_outside and self._got_through_since(batch)):
            return ""
        tried = "once" if batch.failures == 1 else f"{batch.failures} times"
        return f"failed {tried}, {batch.error_class} error"

    def _got_through_since(self, batch: BatchFacts) -> bool:
        """Return whether another batch got through since, so that what stood in the way is over."""
        last = self._now.last_success_at
        return last is not None and batch.failed_at is not None and last > batch.failed_at

    def _is_due(self, batch: BatchFacts) -> bool:
        if batch.error_class is None or batch.failed_at is None or batch.failures == 0:
            return True
        if batch.error_class is ErrorClass.QUOTA:
            return True  # `_Outage` says when.
        wait_s = RULES[batch.error_class].wait_s(batch.failures)
        return self._now.now >= batch.failed_at + timedelta(seconds=wait_s)

    def _look_again(self) -> None:
        """Launch an inventory once nothing else is to be done, until one finds nothing left."""
        at_work = self._busy or self._launches or self._waiting
        if at_work or not self._now.rescan or not self._now.is_pass_due:
            return
        if self._now.is_inventory_busy:
            self._said.append("An inventory is under way.")
            return
        past = self._history(Act.INVENTORY, None)
        if left := _silence(past):
            self._said.append(f"No inventory is launched: {left}.")
            return
        self._launches.append(Launch(Act.INVENTORY, None, past.last))

    def _sentence(self) -> str:
        said = list(self._said)
        if self._launches:
            each = (f"{each.act} {each.batch}" if each.batch else str(each.act) for each in self._launches)
            said.append(f"Launched: {', '.join(each)}.")
        if self._busy or self._waiting:
            said.append(f"{self._busy} at work, {self._waiting} waiting.")
        if self._left:
            more = len(self._left) - _NAMED
            others = f" and {more} more" if more > 0 else ""
            said.append(
                f"Left for a person: {', '.join(self._left[:_NAMED])}{others}. "
                "Mend the reason, then launch them by hand."
            )
        if not said:
            said.append("Nothing is left to launch.")
        if self._now.delta and not (self._launches or self._busy or self._waiting):
            said.append(self._now.delta)
        return " ".join(said)


@dataclass(frozen=True)
class _Outage:
    """Something outside fails whatever is launched: the next try waits, and is one batch only."""

    until: datetime
    sentence: str

    @classmethod
    def of(cls, now: Situation) -> "_Outage | None":
        """Return the outage, if batches failed for an outside reason since one last got through."""
        since = [each for each in now.batches if _failed_outside(each, now)]
        if not since:
            return None
        newest = max(since, key=lambda each: each.failed_at or now.now)
        kind, at = newest.error_class, newest.failed_at
        assert kind is not None, newest
        assert at is not None, newest
        failures = sum(each.failures for each in since)
        until = at + timedelta(seconds=RULES[kind].wait_s(failures))
        sentence = (
            f"No batch is launched before {until:%H:%M:%S} UTC: {failures} tries failed since the last "
            f"success, {newest.key} at {at:%H:%M:%S} UTC ({kind} error)."
        )
        return cls(until, sentence)


def _failed_outside(batch: BatchFacts, now: Situation) -> bool:
    if batch.error_class is None or batch.failed_at is None or batch.failures == 0:
        return False
    if batch.error_class is ErrorClass.QUOTA and now.is_overridden:
        return False
    over = now.last_success_at is not None and now.last_success_at > batch.failed_at
    return RULES[batch.error_class].is_outside and not over


def _silence(past: RunHistory) -> str:
    """Return why a person has to look at the runs themselves, or an empty text."""
    if past.was_cancelled:
        return f"its run {past.last} was cancelled"
    if past.silent_ends >= MAX_SILENT_ENDS:
        return f"{past.silent_ends} runs in a row failed, the last one is {past.last}"
    return ""
