"""How far the rewrites of one cell can be undone by one batch, when several batches have rewritten it.

Judged entry by entry: after a repoint, the entries of two batches lie between each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.tables import RewriteOutcome
from photo_pipeline.core.migration import ledger


@dataclass(frozen=True)
class CellSteps:
    """What becomes of a batch's entries of one cell.

    Attributes:
        target: What the cell is to hold when all that can be undone is.
        undone: The batch's entries that are undone by that.
        deferred: Entries whose own batches were rolled back before, and that are undone with them.
        below: The others that another batch's entry stands on, by id, with that entry.
        reachable: Ids of those of them that can be undone as soon as the entries on them are.
    """

    target: RawValue
    undone: list[Any]
    deferred: list[Any]
    below: dict[int, Any]
    reachable: set[int]


def steps_back(value: RawValue, chain: Sequence[Any], standing: Sequence[Any]) -> CellSteps:
    """Return how far a batch's entries can be undone.

    Args:
        value: What the cell holds.
        chain: The batch's applied entries that are to be undone, the newest first.
        standing: All of the cell's entries that are applied or deferred, the newest first.
    """
    own = {entry.id for entry in chain}
    target, walked = _walked(value, standing, own)
    undone = [entry for entry in walked if entry.id in own]
    below: dict[int, Any] = {}
    reachable: set[int] = set()
    for place, newer in enumerate(standing):
        if not _is_of_another(newer, own):
            continue
        _, reached = _walked(ledger.before_of(newer), standing[place + 1 :], own)
        reachable |= {entry.id for entry in reached if entry.id in own}
        below |= {entry.id: newer for entry in standing[place + 1 :] if entry.id in own}
    return CellSteps(
        target=target if undone else value,
        undone=undone,
        deferred=[entry for entry in walked if entry.id not in own] if undone else [],
        below={each: newer for each, newer in below.items() if each not in {done.id for done in undone}},
        reachable=reachable,
    )


def deferred_back(value: RawValue, standing: Sequence[Any]) -> CellSteps:
    """Return how far the entries can be undone whose own batches were rolled back before.

    Args:
        value: What the cell holds.
        standing: As above.
    """
    target, walked = _walked(value, standing, set())
    return CellSteps(target=target, undone=[], deferred=walked, below={}, reachable=set())


def _walked(value: RawValue, entries: Sequence[Any], own: set[int]) -> tuple[RawValue, list[Any]]:
    """Undo from the newest down, to the first entry that does not follow or is another batch's."""
    ended = next((n for n, entry in enumerate(entries) if _is_of_another(entry, own)), len(entries))
    return ledger.walk_back(value, entries[:ended])


def _is_of_another(entry: Any, own: set[int]) -> bool:
    return entry.id not in own and entry.outcome == RewriteOutcome.APPLIED
