"""The lease that lets one run at a time work on a batch (DESIGN rule 11).

Each acquisition raises the batch's fencing token; every write transaction of a batch first proves that
its token is still the current one, so a run that was taken over can no longer change anything.
"""

import os
import socket
from collections.abc import Sequence
from datetime import timedelta
from difflib import get_close_matches
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import ORPHAN_LEASE, batch_table, lease_table, utc_now
from photo_pipeline.core.errors import (
    ConfigurationError,
    DatabaseError,
    GuardRefusedError,
    LeaseLostError,
)

# Longer than the slowest single photo (30 s limit), so that a lease renewed per photo never runs out.
LEASE_TTL = timedelta(seconds=120)

# Owners of this process that ended while the database was away and could not give their lease back.
_ENDED: set[str] = set()


class BatchLease:
    """Holds the lease on one batch while used as a context manager."""

    def __init__(self, database: Database, batch: str, *, run: str) -> None:
        self._database = database
        self.batch = batch
        self.run = run
        self._token = 0
        self.previous_state = ""
        """The batch's state when the lease was taken."""

    def __enter__(self) -> Self:
        """Take the lease, from a dead or expired owner if need be.

        Raises:
            ConfigurationError: there is no such batch.
            GuardRefusedError: a living run holds it, or objects are being deleted from the bucket.
        """
        columns = batch_table.c
        with self._database.write() as connection:
            _refuse_during_clean_up(connection)
            row = connection.execute(
                sa.select(batch_table).where(columns.key == self.batch).with_for_update()
            ).one_or_none()
            if row is None:
                raise no_such_batch(self.batch)
            if row.lease_owner and row.lease_expires_at > utc_now() and not is_dead(row.lease_owner):
                raise GuardRefusedError(
                    self.batch,
                    cause=f"the run {row.lease_owner!r} is working on it",
                    fix=f"wait for it to end; its lease expires at {row.lease_expires_at:%H:%M:%S} UTC",
                )
            self._token = row.lease_token + 1
            self.previous_state = row.state
            connection.execute(
                sa.update(batch_table)
                .where(columns.key == self.batch)
                .values(
                    lease_owner=_owner(self.run),
                    lease_token=self._token,
                    lease_expires_at=utc_now() + LEASE_TTL,
                )
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lease back, unless another run has taken it over.

        Where the work has failed already, that error is the one to hear of, not that the database is away.
        """
        columns = batch_table.c
        try:
            with self._database.write() as connection:
                connection.execute(
                    sa.update(batch_table)
                    .where(columns.key == self.batch, columns.lease_token == self._token)
                    .values(lease_owner=None, lease_expires_at=None)
                )
        except DatabaseError:
            _ENDED.add(_owner(self.run))
            if error is None:
                raise

    def hold(self, connection: Connection) -> None:
        """Prove, inside the caller's write transaction, that the lease is still ours; also renews it.

        Raises:
            LeaseLostError: another run has taken the batch over; the caller's transaction must not commit.
        """
        columns = batch_table.c
        done = connection.execute(
            sa.update(batch_table)
            .where(columns.key == self.batch, columns.lease_token == self._token)
            .values(lease_expires_at=utc_now() + LEASE_TTL)
        )
        if done.rowcount != 1:
            raise LeaseLostError(
                self.batch, cause="another run has taken it over", fix="let that run finish; nothing was lost"
            )


def _refuse_during_clean_up(connection: Connection) -> None:
    """Refuse while orphans are being deleted: a batch might adopt an object that is about to go.

    Locks the clean-up's row, so that of two that begin at once one sees the other. A clean-up that was killed
    keeps others waiting until its lease runs out: its last request may still be on its way to the store.
    """
    columns = lease_table.c
    row = connection.execute(
        sa.select(columns.owner, columns.expires_at)
        .where(columns.name == ORPHAN_LEASE)
        .with_for_update(read=True)
    ).one_or_none()
    if row is not None and row.owner and row.expires_at > utc_now():
        raise GuardRefusedError(
            "the bucket",
            cause=f"the orphan clean-up {row.owner!r} is deleting objects from it",
            fix=f"wait for it to end; its lease expires at {row.expires_at:%H:%M:%S} UTC",
        )


def owner_name(run: str) -> str:
    """Return what a lease of this process calls its owner."""
    return _owner(run)


def _owner(run: str) -> str:
    return f"{socket.gethostname()}/{os.getpid()}/{run}"


def is_dead(owner: str) -> bool:
    """Return whether the owner has ended: a process of this machine that no longer exists, or our own work.

    Lets a run resume at once after kill -9, without waiting for the lease to expire. A process on
    another machine, or one whose id was reused, counts as alive: then only the expiry frees the batch.
    """
    if owner in _ENDED:
        return True
    host, _, rest = owner.partition("/")
    pid = rest.partition("/")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def no_such_batch(batch: str, known: Sequence[str] = ()) -> ConfigurationError:
    """Return the error for an unknown batch, with the nearest one or how they are named where known."""
    near = get_close_matches(batch, known, n=1)
    fix = "see `photo-pipeline status` for the batches"
    if near:
        fix = f"did you mean {near[0]!r}? All batches: `photo-pipeline status`"
    elif known:
        fix = f"there are {known[0]} to {known[-1]}; see `photo-pipeline status`"
        if len(known) == 1:
            fix = f"the only one is {known[0]}; see `photo-pipeline status`"
    return ConfigurationError(f"batch {batch!r}", cause="there is no such batch", fix=fix)
