"""Lets one inventory at a time write: a newer one fences off an older one that is still running.

Two overlapping inventories would each take what the other has just seen for gone.
"""

import uuid
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import migration_table, utc_now
from photo_pipeline.core.errors import GuardRefusedError

MIGRATION = "default"
"""The name of the one migration that an installation has."""


@dataclass(frozen=True)
class ScanFence:
    """The right of one inventory to write, until a newer inventory takes it."""

    scan: str

    @classmethod
    def begin(cls, database: Database) -> "ScanFence":
        """Start a new inventory; any older one can write no more."""
        fence = cls(uuid.uuid4().hex)
        values = {"current_scan": fence.scan, "updated_at": utc_now()}
        mine = migration_table.c.name == MIGRATION
        with database.write() as connection:
            done = connection.execute(sa.update(migration_table).where(mine).values(**values))
            if done.rowcount == 0:
                connection.execute(
                    sa.insert(migration_table).values(name=MIGRATION, status="pending", **values)
                )
        return fence

    def hold(self, connection: Connection) -> None:
        """Prove, inside the caller's write transaction, that no newer inventory has begun.

        Raises:
            GuardRefusedError: one has; the caller's transaction must not commit.
        """
        columns = migration_table.c
        done = connection.execute(
            sa.update(migration_table)
            .where(columns.name == MIGRATION, columns.current_scan == self.scan)
            .values(updated_at=utc_now())
        )
        if done.rowcount != 1:
            raise GuardRefusedError(
                "the inventory",
                cause="a newer inventory has begun meanwhile",
                fix="let that one finish; it sees everything that this one would have seen",
            )
