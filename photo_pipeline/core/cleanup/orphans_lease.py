"""The lease that keeps everybody else from working with the bucket's objects while some are deleted.

While it is held no batch begins (`migration.lease` looks at it), and it is not given while one is worked on.
So nobody can adopt an object between the look at what refers to it and its delete. Its token fences, as a
batch's does.
"""

import time
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import ORPHAN_LEASE, batch_table, lease_table, utc_now
from photo_pipeline.core.errors import DatabaseError, GuardRefusedError, LeaseLostError
from photo_pipeline.core.migration.lease import LEASE_TTL, is_dead, owner_name

# Renewed well before it runs out. No delete is begun in its last third: a request may take as long (retries).
_RENEW_EVERY_S = LEASE_TTL.total_seconds() / 6
_TOO_LATE_S = LEASE_TTL.total_seconds() * 2 / 3


class OrphanLease:
    """Holds the lease while used as a context manager."""

    def __init__(self, database: Database, *, run: str) -> None:
        self._database = database
        self.run = run
        self._token = 0
        self._renewed_s = 0.0

    def __enter__(self) -> Self:
        """Take the lease, from a dead or expired owner if need be.

        Raises:
            GuardRefusedError: a living run works on a batch, or another clean-up is under way.
        """
        columns = lease_table.c
        with self._database.write() as connection:
            row = connection.execute(
                sa.select(lease_table).where(columns.name == ORPHAN_LEASE).with_for_update()
            ).one_or_none()
            if row is None:
                raise DatabaseError(
                    "pp_lease",
                    cause="its row for the orphan clean-up is gone",
                    fix="restore the state tables",
                )
            # A dead clean-up's work is what this one begins with.
            if row.owner and row.expires_at > utc_now() and not is_dead(row.owner):
                raise GuardRefusedError(
                    "the bucket",
                    cause=f"another orphan clean-up ({row.owner!r}) is under way",
                    fix=f"wait for it to end; its lease expires at {row.expires_at:%H:%M:%S} UTC",
                )
            refuse_beside_a_run(connection)
            self._token = row.token + 1
            self._set(connection, owner=owner_name(self.run), token=self._token)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lease back, unless another clean-up has taken it over."""
        columns = lease_table.c
        try:
            with self._database.write() as connection:
                connection.execute(
                    sa.update(lease_table)
                    .where(columns.name == ORPHAN_LEASE, columns.token == self._token)
                    .values(owner=None, expires_at=None)
                )
        except DatabaseError:
            if error is None:
                raise

    def hold(self, connection: Connection) -> None:
        """Prove, inside the caller's write transaction, that the lease is still ours; also renews it.

        One that ran out is lost even if nobody has it now: a batch may have begun, and ended, meanwhile.

        Raises:
            LeaseLostError: it is lost; the caller's transaction must not commit.
        """
        columns = lease_table.c
        if self._set(connection, columns.token == self._token, columns.expires_at > utc_now()) != 1:
            raise _lost()

    def tick(self) -> None:
        """Renew the lease, when it is time to; called all the while.

        Raises:
            LeaseLostError: another clean-up has taken it over.
        """
        if time.monotonic() - self._renewed_s > _RENEW_EVERY_S:
            with self._database.write() as connection:
                self.hold(connection)

    def require_time(self) -> None:
        """Check that a delete which is begun now ends while the lease is ours.

        Raises:
            LeaseLostError: this process was held up for too long; nothing more may be deleted.
        """
        if time.monotonic() - self._renewed_s > _TOO_LATE_S:
            raise _lost()

    def _set(self, connection: Connection, *conditions: sa.ColumnElement[bool], **values: object) -> int:
        """Extend the lease; return whether a row met the conditions (1 or 0)."""
        before_s = time.monotonic()
        done = connection.execute(
            sa.update(lease_table)
            .where(lease_table.c.name == ORPHAN_LEASE, *conditions)
            .values(expires_at=utc_now() + LEASE_TTL, **values)
        )
        self._renewed_s = before_s
        return done.rowcount


def refuse_beside_a_run(connection: Connection) -> None:
    """Refuse while a living run (migration, rollback, repoint) works on a batch.

    Raises:
        GuardRefusedError: one does.
    """
    columns = batch_table.c
    query = sa.select(columns.key, columns.lease_owner).where(
        columns.lease_owner.is_not(None), columns.lease_expires_at > utc_now()
    )
    for key, owner in connection.execute(query.order_by(columns.key)):
        if not is_dead(owner):
            raise GuardRefusedError(
                key,
                cause=f"the run {owner!r} is working on it, and what it needs is not in its rows yet",
                fix="wait for it to end, then run again",
            )


def _lost() -> LeaseLostError:
    return LeaseLostError(
        "the orphan clean-up",
        cause="it was held up for so long that others may work on the bucket again",
        fix="run it again; what it had begun is finished or taken back first",
    )
