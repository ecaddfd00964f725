"""The proof of zero delta: the sources are read again until a whole pass finds nothing that is left to do.

A pass is inventory, checksums and batches. What was there when a pass began that found nothing is migrated,
or listed with the reason why not; what came later, the next pass finds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.inventory import Inventory, take_inventory
from photo_pipeline.core.catalog.photo_counts import PhotoCount, count_photos
from photo_pipeline.core.catalog.schema import schema_exists
from photo_pipeline.core.catalog.tables import PhotoClass, PhotoState, pass_table, photo_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.progress import Progress, no_progress

MAX_PASSES = 10
"""After so many the application is faster than we are; a person has to say when it rests."""

_OPEN = (PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED)
_KNOWN = (PhotoClass.MATCHED, PhotoClass.ALREADY_MIGRATED)
_SET_ASIDE = (PhotoState.QUARANTINED, PhotoState.CONFLICT, PhotoState.ROLLED_BACK)

_HOW_TO_PROVE = "One more that finds nothing new, changed, gone or open is the proof."


@dataclass(frozen=True)
class DeltaPass:
    """What one pass found; photos are counted by reference.

    Attributes:
        number: Of its row in `pp_pass`.
        started_at: What was there then is covered (UTC).
        finished_at: When its batches were made (UTC).
        rows: Rows that were read.
        references: References in them.
        new: References that no earlier pass had seen.
        changed: Known ones that are to be migrated again, since their row or file changed.
        gone: Known ones that no row has any more.
        open: Photos that could still be migrated.
        still: Whether there was none of the four.
    """

    number: int
    started_at: datetime
    finished_at: datetime
    rows: int
    references: int
    new: int
    changed: int
    gone: int
    open: int
    still: bool

    @property
    def sentence(self) -> str:
        """What it found, in words."""
        return f"{self.new:,} new, {self.changed:,} changed, {self.gone:,} gone, {self.open:,} open"

    def moved_on_from(self, previous: "DeltaPass | None") -> bool:
        """Whether another migration may achieve something that the one before this pass did not."""
        return previous is None or bool(self.new or self.changed or self.gone) or self.open != previous.open


@dataclass(frozen=True)
class ZeroDelta:
    """Whether nothing is left to migrate.

    Attributes:
        proven_at: The start of the last pass, if it found nothing and nothing is open now (UTC).
        set_aside: Photos that are not migrated for a reason that a person knows or should look at, by state.
        sentence: The same for people.
    """

    proven_at: datetime | None
    set_aside: dict[str, int]
    sentence: str


def take_pass(
    database: Database, config: PipelineConfig, *, run: str, progress: Progress = no_progress
) -> Inventory:
    """Begin a pass with its inventory; `finish_pass` belongs after checksums and batches.

    Args:
        database: The application's database.
        config: Sources and roots.
        run: The same for the passes of one loop.
        progress: As for the inventory.

    Raises:
        PhotoPipelineError: as `take_inventory` does; the pass is then not recorded.
    """
    before = _Before.of(database)
    inventory = take_inventory(database, config, progress=progress)
    photo = photo_table.c
    with database.write() as connection:
        known_open = _count(connection, *_is_open(), photo.id <= before.last_id)
        connection.execute(
            sa.insert(pass_table).values(
                run=run,
                scan=inventory.scan,
                started_at=before.at,
                rows=inventory.rows,
                references=inventory.references,
                new=_count(connection, photo.id > before.last_id, photo.source.is_not(None)),
                changed=max(0, known_open - before.reopening),
                gone=_count(connection, photo.state == PhotoState.SUPERSEDED, photo.updated_at >= before.at),
                open=known_open,
                still=False,
            )
        )
    return inventory


def finish_pass(database: Database) -> DeltaPass | None:
    """Record what the last pass left open, and return it; None if it is recorded already."""
    columns = pass_table.c
    with database.write() as connection:
        row = connection.execute(sa.select(pass_table).order_by(columns.id.desc()).limit(1)).one_or_none()
        if row is None or row.finished_at is not None:
            return None
        left = _count(connection, *_is_open())
        still = not (row.new or row.changed or row.gone or left)
        finish = {"open": left, "still": still, "finished_at": utc_now()}
        connection.execute(sa.update(pass_table).where(columns.id == row.id).values(**finish))
        return _last_pass(connection)


def zero_delta(database: Database) -> ZeroDelta:
    """Return whether nothing is left to migrate, by the last pass and by what is open now."""
    with database.read() as connection:
        return zero_delta_of(connection, count_photos(connection))


def zero_delta_of(connection: Connection, counts: Iterable[PhotoCount]) -> ZeroDelta:
    """Return the same for a caller that has counted the photos already."""
    last, left = _last_pass(connection), 0
    aside: dict[str, int] = {}
    for each in counts:
        if not each.is_referenced:
            continue
        if each.state in _OPEN and each.photo_class in _KNOWN:
            left += each.photos
        if each.state in _SET_ASIDE:
            aside[each.state] = aside.get(each.state, 0) + each.photos
    if last is None:
        return ZeroDelta(None, aside, "Zero delta is not proven: no inventory has been made yet.")
    if not last.still or left:
        found = f"the last inventory ({last.started_at:%Y-%m-%d %H:%M:%S} UTC) found {last.sentence}"
        now = f"; {left:,} are open now" if left != last.open else ""
        return ZeroDelta(None, aside, f"Zero delta is not proven: {found}{now}. {_HOW_TO_PROVE}")
    besides = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in sorted(aside.items()))
    return ZeroDelta(
        last.started_at,
        aside,
        f"Zero delta proven at {last.started_at:%Y-%m-%d %H:%M:%S} UTC: a whole inventory found nothing new, "
        "changed, gone or open" + (f" (set aside: {besides})." if besides else "."),
    )


@dataclass(frozen=True)
class _Before:
    """Where things stood before an inventory."""

    at: datetime
    last_id: int
    reopening: int

    @classmethod
    def of(cls, database: Database) -> "_Before":
        at, photo = utc_now(), photo_table.c
        if not schema_exists(database):
            return cls(at, 0, 0)  # the inventory makes it, after its checks
        with database.read() as connection:
            last = connection.execute(sa.select(sa.func.max(photo.id))).scalar()
            # An inventory lets photos that no batch can retry wait again; that is no change of theirs.
            waiting = _count(connection, *_is_open()) + _count(
                connection, photo.state == PhotoState.QUARANTINED, photo.batch.is_(None)
            )
        return cls(at, last or 0, waiting)


def _is_open() -> tuple[sa.ColumnElement[bool], ...]:
    photo = photo_table.c
    return (photo.state.in_(_OPEN), photo.source.is_not(None), photo["class"].in_(_KNOWN))


def _count(connection: Connection, *conditions: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(photo_table).where(*conditions)
    return int(connection.execute(query).scalar_one())


def _last_pass(connection: Connection) -> DeltaPass | None:
    columns = pass_table.c
    names = [name for name in DeltaPass.__dataclass_fields__ if name != "number"]
    query = (
        sa.select(columns.id, *(columns[name] for name in names))
        .where(columns.finished_at.is_not(None))
        .order_by(columns.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else DeltaPass(*row)
