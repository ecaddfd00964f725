"""How the migration stands, in one sentence. Pure; reads nothing.

It names shares and ranges rather than counts that change with each photo: screen readers speak it whenever it
changes. The numbers stand beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from photo_pipeline.core.catalog.tables import BatchState, Control
from photo_pipeline.core.live.batches import LiveBatch
from photo_pipeline.core.live.pace import TimeLeft
from photo_pipeline.core.live.workers import Worker
from photo_pipeline.core.migration.watch import Wish

Level = Literal["good", "attention", "bad", "neutral"]

_GO_ON = "Go on with: photo-pipeline migrate"


@dataclass(frozen=True)
class PhotoCounts:
    """Photos that are in a batch, counted by reference.

    Attributes:
        total: All that a row still shows.
        done: Migrated, or stored where no row is to be written.
        to_do: Pending, or on their way.
        set_aside: Quarantined or in conflict.
        rolled_back: With their local value again.
    """

    total: int = 0
    done: int = 0
    to_do: int = 0
    set_aside: int = 0
    rolled_back: int = 0

    @property
    def share(self) -> float:
        """The share that is done."""
        return self.done / self.total if self.total else 0.0


@dataclass(frozen=True)
class Standing:
    """The sentence; `kind` is what it is about in a word, and `level` how a reader should feel about it."""

    kind: str
    level: Level
    sentence: str


NOT_STARTED = Standing(
    "not_started",
    "neutral",
    "Nothing has been inventoried yet. Begin with: photo-pipeline plan, then photo-pipeline migrate.",
)


@dataclass(frozen=True)
class Facts:
    """What the sentence is made from.

    `suspended` says why the cost guard stops uploads, or is empty. `between_steps`: nobody holds a batch at
    this moment, but the run has only just ended a step and is about to begin the next.
    """

    wish: Wish
    photos: PhotoCounts
    batches: Sequence[LiveBatch]
    workers: Sequence[Worker]
    time_left: TimeLeft | None
    suspended: str
    findings: int
    zero_delta_proven: bool
    between_steps: bool = False


def stand(facts: Facts) -> Standing:
    """Return how it stands: what people decided first, then what happens, then what is left."""
    for rule in (_stopped, _suspended, _going_back, _running, _cut_off, _failed, _waiting, _rolled_back):
        found = rule(facts)
        if found is not None:
            return found
    return _finished(facts)


def _stopped(facts: Facts) -> Standing | None:
    if facts.wish.control is Control.RUNNING:
        return None
    verb = "Aborted" if facts.wish.control is Control.ABORTED else "Paused"
    wish = facts.wish
    when = f", {wish.at:%-d %b %H:%M} UTC" if wish.at else ""
    why = f" ({wish.reason.rstrip('.')})" if wish.reason else ""
    who = f" by {wish.by or 'somebody'}{when}{why}"
    if _alive(facts):
        return Standing("stopping", "attention", f"{verb}{who}: work stops after the photo in hand.")
    onwards = (
        "Take it back with: photo-pipeline rollback --all"
        if facts.wish.control is Control.ABORTED
        else "Nothing runs before a resume"
    )
    return Standing(str(facts.wish.control), "attention", f"{verb}{who}. {_share(facts.photos)}. {onwards}.")


def _suspended(facts: Facts) -> Standing | None:
    if not facts.suspended or not facts.photos.to_do:
        return None
    return Standing("suspended", "attention", f"{facts.suspended} {_share(facts.photos)}.")


def _going_back(facts: Facts) -> Standing | None:
    back = [each.key for each in facts.batches if each.state == BatchState.ROLLING_BACK]
    if not back or not _alive(facts):
        return None
    return Standing("rolling_back", "attention", f"Rolling back {_names(back)}: rows get their local value.")


def _running(facts: Facts) -> Standing | None:
    if not _alive(facts) and not facts.between_steps:
        return None
    left = facts.time_left
    when = f"{left.sentence} to go" if left else "too early to say how long the rest takes"
    if not facts.photos.to_do:
        when = "the last steps are under way"
    failed = [each.key for each in facts.batches if each.state == BatchState.FAILED]
    besides = f" {_names(failed).capitalize()} failed." if failed else ""
    level: Level = "attention" if failed else "good"
    return Standing("running", level, f"Running. {_share(facts.photos)}; {when}.{besides}")


def _cut_off(facts: Facts) -> Standing | None:
    begun = [each.key for each in facts.batches if each.is_busy]
    if not begun:
        return None
    onwards = f"{_GO_ON} (or with its next step in Dagster)"
    back = [each.key for each in facts.batches if each.state == BatchState.ROLLING_BACK]
    if back:
        onwards = f"Finish its rollback first: photo-pipeline rollback --batch {back[0]}"
    verb = "is" if len(begun) == 1 else "are"
    sentence = f"Nobody is working, and {_names(begun)} {verb} begun and not ended. {onwards}."
    return Standing("cut_off", "attention", sentence)


def _failed(facts: Facts) -> Standing | None:
    failed = [each.key for each in facts.batches if each.state == BatchState.FAILED]
    if not failed:
        return None
    sentence = (
        f"Stopped: {_names(failed)} failed. {_share(facts.photos)}. Read the reason below, then go on with: "
        "photo-pipeline migrate."
    )
    return Standing("failed", "bad", sentence)


def _waiting(facts: Facts) -> Standing | None:
    if not facts.photos.to_do:
        return None
    return Standing("waiting", "neutral", f"Nobody is working. {_share(facts.photos)}. {_GO_ON}.")


def _rolled_back(facts: Facts) -> Standing | None:
    if not facts.photos.rolled_back or facts.photos.done:
        return None
    sentence = "Rolled back: every row has its local value again, and the objects in S3 stay."
    return Standing("rolled_back", "neutral", sentence)


def _finished(facts: Facts) -> Standing:
    if not facts.photos.total:
        return Standing("empty", "neutral", f"No photo can be migrated{_look(facts.findings)}.")
    proof = "; zero delta is proven" if facts.zero_delta_proven else ""
    level: Level = "attention" if facts.findings else "good"
    sentence = f"Done. {_share(facts.photos)}{proof}{_look(facts.findings)}."
    return Standing("done", level, sentence)


def _alive(facts: Facts) -> bool:
    batches = {each.key for each in facts.batches}
    return any(each.health != "gone" for each in facts.workers if each.work in batches)


def _share(photos: PhotoCounts) -> str:
    if not photos.total:
        return "There is no photo to migrate"
    if photos.done == photos.total:
        return f"All {photos.total:,} photos are migrated" if photos.total > 1 else "The photo is migrated"
    # Rounded down: 100 % is said of all only.
    return f"{int(photos.share * 100)} % of {photos.total:,} photos are migrated"


def _look(findings: int) -> str:
    if not findings:
        return ""
    return f"; {findings:,} {'finding needs' if findings == 1 else 'findings need'} a look"


def _names(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{len(keys):,} batches"
