"""Pause, resume and abort, each with who and why in the audit log. How work heeds them is `watch`."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import MIGRATION
from photo_pipeline.core.catalog.tables import BatchState, Control, migration_table, utc_now
from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.migration.state import refresh_migration
from photo_pipeline.core.migration.watch import Wish, read_wish


def pause(database: Database, *, reason: str, run: str, by: str | None = None) -> Wish:
    """Let all work stop after the photo in hand, to go on after `resume`.

    Args:
        database: With the state tables.
        reason: Why, for whoever finds the migration paused; may be empty.
        run: The run that wrote it, for the audit log.
        by: Who wants it; None: the account that this process runs under.

    Raises:
        GuardRefusedError: the migration is aborted, which a pause would take back.
    """
    return _Act(Control.PAUSED, "pause", reason, run, by).carry_out(database)


def resume(database: Database, *, reason: str = "", run: str, by: str | None = None) -> Wish:
    """Let work go on (also after an abort); the next run of each batch continues where it stopped."""
    return _Act(Control.RUNNING, "resume", reason, run, by).carry_out(database)


def abort(database: Database, *, reason: str, run: str, by: str | None = None) -> Wish:
    """End the migration: work stops after the photo in hand, and none starts again before a `resume`.

    What is migrated stays so until it is rolled back; a rollback needs no resume.
    """
    return _Act(Control.ABORTED, "abort", reason, run, by).carry_out(database)


class _Act:
    def __init__(self, control: Control, action: str, reason: str, run: str, by: str | None) -> None:
        self._action = action
        self._run = run
        self._wish = Wish(control, reason.strip() or None, by or audit.account(), utc_now())

    def carry_out(self, database: Database) -> Wish:
        database.transact(self._write)
        return self._wish

    def _write(self, connection: Connection) -> None:
        before = read_wish(connection, lock=True)
        if before.control is Control.ABORTED and self._wish.control is Control.PAUSED:
            raise GuardRefusedError(
                "the migration",
                cause=f"it was {before.sentence}",
                fix="if it shall go on after all: photo-pipeline resume",
            )
        values: dict[str, Any] = {
            "control": self._wish.control,
            "control_reason": self._wish.reason,
            "control_by": self._wish.by,
            "control_at": self._wish.at,
            "updated_at": self._wish.at,
        }
        mine = migration_table.c.name == MIGRATION
        done = connection.execute(sa.update(migration_table).where(mine).values(**values))
        if done.rowcount == 0:
            values |= {"name": MIGRATION, "status": BatchState.PENDING}
            connection.execute(sa.insert(migration_table).values(**values))
        refresh_migration(connection)
        audit.record(
            connection,
            action=self._action,
            subject="the migration",
            details={"reason": self._wish.reason or "", "before": before.control},
            run=self._run,
            actor=self._wish.by,
        )
