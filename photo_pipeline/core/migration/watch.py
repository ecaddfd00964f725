"""How work under way heeds a pause or an abort: it looks between two photos, and stops there.

The wish is one row, so that it reaches every run on every machine that shares the database. Who writes it is
`control`.
"""

import time
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import MIGRATION
from photo_pipeline.core.catalog.tables import Control, migration_table
from photo_pipeline.core.errors import PausedError
from photo_pipeline.core.progress import Progress

# A look costs 0.1 to 0.5 ms; a photo takes longer than this, and some hundred rows about as long.
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class Wish:
    """What is wanted of the migration, and why, by whom and since when (UTC); None if nobody ever said."""

    control: Control
    reason: str | None = None
    by: str | None = None
    at: datetime | None = None

    @property
    def sentence(self) -> str:
        """Who stopped the migration, when and why; empty while it may run."""
        if self.control is Control.RUNNING:
            return ""
        when = f" at {self.at:%Y-%m-%d %H:%M:%S} UTC" if self.at else ""
        why = f" ({self.reason.rstrip('.')})" if self.reason else ""
        return f"{self.control} by {self.by or 'somebody'}{when}{why}"


def wish(database: Database) -> Wish:
    """Return what is wanted at this moment."""
    with database.read() as connection:
        return read_wish(connection)


def read_wish(connection: Connection, *, lock: bool = False) -> Wish:
    """Return what is wanted at this moment, with its row locked for a change if `lock`."""
    columns = migration_table.c
    names = (columns.control, columns.control_reason, columns.control_by, columns.control_at)
    query = sa.select(*names).where(columns.name == MIGRATION)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        return Wish(Control.RUNNING)
    return Wish(Control(row.control), row.control_reason, row.control_by, row.control_at)


def require_running(database: Database) -> None:
    """Check that nobody has paused or aborted the migration.

    Raises:
        PausedError: somebody has; it says who, when and why.
    """
    present = wish(database)
    if present.control is not Control.RUNNING:
        raise _stopped(present)


class ControlWatch:
    """Looks between two photos whether the work is still wanted; cheap enough to ask for each of them."""

    def __init__(self, database: Database, *, backwards: bool = False, before: Wish | None = None) -> None:
        """Begin to watch.

        Args:
            database: With the state tables.
            backwards: For a rollback: only a pause that comes while it runs stops it. One that was there
                before was about the way forward, and an abort is what a rollback follows.
            before: What was wanted when the rollback began, if that was before this batch of it.
        """
        self._database = database
        self._backwards = backwards
        self._at_first = (before or wish(database)) if backwards else None
        self._next_look = 0.0

    def check(self) -> None:
        """Return if the work is still wanted. Call it only where nothing is half done.

        Raises:
            PausedError: it is not.
        """
        error = self.stopped()
        if error is not None:
            raise error

    def stopped(self) -> PausedError | None:
        """Return who stopped the work, or None if it was wanted at the last look, at most 0.2 s ago."""
        if time.monotonic() < self._next_look:
            return None
        present = wish(self._database)
        if self._may_run(present):
            self._next_look = time.monotonic() + _LOOK_EVERY_S
            return None
        return _stopped(present)

    def _may_run(self, present: Wish) -> bool:
        if self._backwards and (present == self._at_first or present.control is Control.ABORTED):
            return True
        return present.control is Control.RUNNING


def heeding(progress: Progress, database: Database) -> Progress:
    """Return a progress that also raises PausedError, for steps that can be left after any item."""
    watch = ControlWatch(database)

    def report(stage: str, done: int, total: int | None) -> None:
        progress(stage, done, total)
        watch.check()

    return report


def _stopped(present: Wish) -> PausedError:
    onwards = "go on with: photo-pipeline resume"
    if present.control is Control.ABORTED:
        onwards = f"take back what is migrated with: photo-pipeline rollback --all; or {onwards}"
    return PausedError("the migration", cause=f"it was {present.sentence}", fix=onwards)
