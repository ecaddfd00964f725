"""The batches and their photos by state, read often: what cannot have changed is not counted again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import GONE, BatchState, PhotoState, batch_table, photo_table

MAX_CELLS: Final = 500
"""More batches than these share cells of the map."""

_BUSY: Final = (BatchState.RUNNING, BatchState.ROLLING_BACK)
# Counting 100,000 photos takes 0.1 s; of some batches, by the index on their key, a few milliseconds.
_MOST_COUNTED: Final = 200
# Inventories and deletions change photos without touching their batch.
_COUNT_ALL_EVERY: Final = timedelta(seconds=60)
_PRESSING: Final = (
    BatchState.FAILED,
    BatchState.ROLLING_BACK,
    BatchState.RUNNING,
    BatchState.PAUSED,
    BatchState.PENDING,
    BatchState.ROLLED_BACK,
    BatchState.COMPLETED,
)
DONE: Final = (PhotoState.MIGRATED, PhotoState.STORED)
TO_DO: Final = (PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED)
ON_THE_WAY: Final = (PhotoState.PROCESSED, PhotoState.UPLOADED)
_STEPS: Final[Mapping[str, int]] = {
    **dict.fromkeys((*DONE, PhotoState.QUARANTINED, PhotoState.CONFLICT), 3),
    PhotoState.UPLOADED: 2,
    PhotoState.PROCESSED: 1,
}
SET_ASIDE: Final = (PhotoState.QUARANTINED, PhotoState.CONFLICT)


@dataclass(frozen=True)
class LiveBatch:
    """One batch at this moment; `photos` counts references by state.

    Attributes:
        key: Also its Dagster partition.
        state: A BatchState.
        error: Why it failed or stopped.
        owner: Who holds its lease.
        expires_at: Until when, unless renewed.
        changed_at: When its state was last set.
        photos: References by state.
    """

    key: str
    state: str
    error: str | None
    owner: str | None
    expires_at: datetime | None
    changed_at: datetime
    photos: dict[str, int]

    @property
    def is_busy(self) -> bool:
        """Whether it is being migrated or rolled back, or was when its run was cut off."""
        return self.state in _BUSY


@dataclass(frozen=True)
class Cell:
    """One place of the map: a batch, or as many as are needed to stay below `MAX_CELLS`.

    Attributes:
        title: Which batches, and how far they are, for people.
        state: The state of theirs that is most worth a look.
        batches: How many there are.
        photos: Their photos that a row shows.
        done: Those of them that are migrated (or stored).
        progress: The share of the work that is done: a photo's variants are a third, its upload another.
    """

    title: str
    state: str
    batches: int
    photos: int
    done: int
    progress: float


class BatchBoard:
    """Keeps the counts of batches that nobody works on. Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, dict[str, int]]] = {}
        self._counted_all_at: datetime | None = None

    def read(self, connection: Connection, now: datetime) -> list[LiveBatch]:
        """Return every batch in running order, by two statements."""
        batch = batch_table.c
        rows = connection.execute(sa.select(batch_table).order_by(batch.priority, batch.key)).all()
        stale = [row.key for row in rows if self._is_stale(row)]
        last = self._counted_all_at
        if last is None or now - last >= _COUNT_ALL_EVERY or len(stale) > _MOST_COUNTED:
            counts, self._counted_all_at = _counts(connection, None), now
            self._known = {row.key: (_version(row), counts.get(row.key, {})) for row in rows}
        elif stale:
            counts = _counts(connection, stale)
            wanted = set(stale)
            self._known |= {
                row.key: (_version(row), counts.get(row.key, {})) for row in rows if row.key in wanted
            }
        return [_live(row, self._known[row.key][1]) for row in rows]

    def _is_stale(self, row: Any) -> bool:
        if row.state in _BUSY or row.lease_owner:
            return True
        known = self._known.get(row.key)
        return known is None or known[0] != _version(row)


def _version(row: Any) -> Any:
    return (row.state, row.updated_at, row.lease_token, row.lease_owner)


def _counts(connection: Connection, keys: Sequence[str] | None) -> dict[str, dict[str, int]]:
    photo = photo_table.c
    chosen = photo.batch.is_not(None) if keys is None else photo.batch.in_(keys)
    grouped = (
        sa.select(photo.batch, photo.state, sa.func.count()).where(chosen).group_by(photo.batch, photo.state)
    )
    counts: dict[str, dict[str, int]] = {}
    for key, state, count in connection.execute(grouped):
        counts.setdefault(key, {})[state] = count
    return counts


def _live(row: Any, photos: dict[str, int]) -> LiveBatch:
    return LiveBatch(
        key=row.key,
        state=row.state,
        error=row.error,
        owner=row.lease_owner,
        expires_at=row.lease_expires_at,
        changed_at=row.updated_at,
        photos=photos,
    )


def cells(batches: Sequence[LiveBatch], *, at_most: int = MAX_CELLS) -> tuple[Cell, ...]:
    """Return the map: neighbours in running order share a cell where there are too many of them."""
    together = max(1, -(-len(batches) // at_most))
    return tuple(_cell(batches[start : start + together]) for start in range(0, len(batches), together))


def by_state(batches: Iterable[LiveBatch]) -> dict[str, int]:
    """Return how many batches are in each state, the most pressing first."""
    states = [batch.state for batch in batches]
    return {str(state): states.count(state) for state in _PRESSING if state in states}


def _cell(batches: Sequence[LiveBatch]) -> Cell:
    states = by_state(batches)
    done = shown = steps = 0
    for batch in batches:
        for state, count in batch.photos.items():
            done += count if state in DONE else 0
            shown += count if state not in GONE else 0
            steps += count * _STEPS.get(state, 0)
    progress = steps / shown / 3 if shown else 0.0
    how_far = f"{done:,} of {shown:,} photos migrated"
    if len(batches) == 1:
        title = f"{batches[0].key}: {_words(batches[0].state)}, {how_far}"
        return Cell(title, batches[0].state, 1, shown, done, progress)
    told = ", ".join(f"{count} {_words(state)}" for state, count in states.items())
    title = f"{batches[0].key} to {batches[-1].key}: {told}; {how_far}"
    return Cell(title, next(iter(states)), len(batches), shown, done, progress)


def _words(state: str) -> str:
    return state.replace("_", " ")
