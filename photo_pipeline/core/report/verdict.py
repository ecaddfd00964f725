"""The report in one sentence, and how a reader should feel about it. Pure; reads nothing."""

from dataclasses import dataclass
from typing import Literal

from photo_pipeline.core.catalog.inventory import Inventory
from photo_pipeline.core.catalog.tables import BatchState, PhotoState
from photo_pipeline.core.migration.state import BatchStatus
from photo_pipeline.core.report.findings import FindingGroup
from photo_pipeline.core.report.measures import Validation

Level = Literal["good", "attention", "bad", "neutral"]

WAITING = (PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED)
"""States of photos that are on their way or have not started."""


@dataclass(frozen=True)
class Verdict:
    """The report in one sentence; `level` says how a reader should feel about it."""

    level: Level
    sentence: str


NOT_STARTED = Verdict("neutral", "No inventory has been taken yet, so there is nothing to report.")


def judge(
    inventory: Inventory | None,
    photos: dict[str, int],
    batches: tuple[BatchStatus, ...],
    validation: Validation,
    findings: tuple[FindingGroup, ...],
) -> Verdict:
    """Return the report's verdict: the worst that is true decides its level."""
    if inventory is None:
        return NOT_STARTED
    if not inventory.adds_up:
        return Verdict("bad", "The inventory does not add up; run it again before anything else.")
    total, found = inventory.references, sum(group.count for group in findings)
    migrated = photos[PhotoState.MIGRATED] + photos[PhotoState.STORED]
    waiting = sum(photos[state] for state in WAITING)
    if not migrated:
        return _nothing_migrated(photos[PhotoState.ROLLED_BACK], waiting, total, found)
    failed = sum(batch.state == BatchState.FAILED for batch in batches)
    parts = [
        _share(migrated, total),
        _validated(validation, migrated),
        f"{_number(waiting, 'is', 'are')} still to do" if waiting else "",
        f"{_number(failed, 'batch', 'batches')} failed" if failed else "",
    ]
    sentence = f"{', '.join(part for part in parts if part)}; {_look(found) or 'nothing needs a look'}."
    open_ends = found or waiting or validation.unchecked
    level: Level = "bad" if validation.failed or failed else "attention" if open_ends else "good"
    return Verdict(level, sentence)


def _look(found: int) -> str:
    return f"{_number(found, 'finding needs', 'findings need')} a look" if found else ""


def _nothing_migrated(rolled_back: int, waiting: int, total: int, found: int) -> Verdict:
    look = f"; {_look(found)}" if found else ""
    if rolled_back:
        return Verdict(
            "neutral",
            f"Rolled back: {_number(rolled_back, 'photo has its', 'photos have their')} local value again "
            f"and no row shows the CDN{look}.",
        )
    return Verdict(
        "neutral",
        f"Nothing is migrated yet: {waiting:,} of {_number(total, 'photo', 'photos')} can be migrated{look}.",
    )


def _share(migrated: int, total: int) -> str:
    if migrated >= total:
        return f"All {_number(migrated, 'photo is', 'photos are')} migrated"
    return f"{migrated:,} of {_number(total, 'photo is', 'photos are')} migrated"


def _validated(validation: Validation, migrated: int) -> str:
    if validation.failed:
        return f"{validation.failed:,} of them failed validation"
    if validation.unchecked == migrated:
        return "not validated yet"
    if validation.unchecked:
        return f"{validation.passed:,} of them proven through the CDN"
    return "each of them proven through the CDN"


def _number(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
