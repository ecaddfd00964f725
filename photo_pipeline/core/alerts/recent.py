"""The last photos that were worked on: how many failed, why, and how long they took."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import BatchState, PhotoState, batch_table, photo_table, picture_table

ENOUGH: Final = 20
"""Of fewer photos a share or a percentile says nothing."""
RECENT: Final = timedelta(hours=24)
"""How far back the last photos may lie: an old migration's failures are no news."""
_FAILED = (PhotoState.QUARANTINED, PhotoState.CONFLICT)
_DONE = (PhotoState.PROCESSED, PhotoState.UPLOADED, PhotoState.MIGRATED, PhotoState.STORED)
_MOST_BATCHES = 200


@dataclass(frozen=True)
class RecentPhotos:
    """What became of them.

    Attributes:
        photos: How many they are, by reference.
        failed: How many of them are quarantined or in conflict.
        reasons: The error types of these.
        seconds: How long the making of each took, by content, the shortest first.
    """

    photos: int
    failed: int
    reasons: Counter[str]
    seconds: tuple[float, ...]

    @classmethod
    def read(cls, connection: Connection, last: int, now: datetime) -> "RecentPhotos":
        """Return the last so many of the day before `now`, by the batches that were worked on in it.

        Found by their batches, whose table is small: an index on the time of a million photos would be
        written with each photo that moves on.
        """
        since = now - RECENT
        batches = _batches(connection, last, since)
        if not batches:
            return cls(0, 0, Counter(), ())
        photo, picture = photo_table.c, picture_table.c
        outcomes = connection.execute(
            sa.select(photo.state, photo.error_type)
            .where(photo.batch.in_(batches), photo.state.in_([*_FAILED, *_DONE]), photo.updated_at >= since)
            .order_by(photo.updated_at.desc(), photo.id)
            .limit(last)
        ).all()
        times = connection.execute(
            sa.select(picture.seconds)
            .where(
                picture.sha256.in_(sa.select(photo.sha256).where(photo.batch.in_(batches))),
                picture.seconds.is_not(None),
                picture.updated_at >= since,
            )
            .order_by(picture.updated_at.desc())
            .limit(last)
        ).scalars()
        failed = [row for row in outcomes if row.state in _FAILED]
        reasons = Counter(str(row.error_type or row.state) for row in failed)
        return cls(len(outcomes), len(failed), reasons, tuple(sorted(times)))

    @property
    def failure_rate(self) -> float:
        """The share that failed; 0 of none."""
        return self.failed / self.photos if self.photos else 0.0

    @property
    def seconds_p95(self) -> float | None:
        """What 95 % of them stay below (nearest rank), or None of too few."""
        if len(self.seconds) < ENOUGH:
            return None
        return self.seconds[-(-len(self.seconds) * 95 // 100) - 1]


def _batches(connection: Connection, photos: int, since: datetime) -> list[str]:
    """Return the batches that were worked on last, as many as have so many photos."""
    batch = batch_table.c
    query = (
        sa.select(batch.key, batch.photos)
        .where(sa.or_(batch.updated_at >= since, batch.state == BatchState.RUNNING))
        .where(batch.state != BatchState.PENDING)
        .order_by(batch.updated_at.desc())
        .limit(_MOST_BATCHES)
    )
    chosen: list[str] = []
    total = 0
    row: Any
    for row in connection.execute(query):
        if total >= photos:
            break
        chosen.append(row.key)
        total += row.photos
    return chosen
