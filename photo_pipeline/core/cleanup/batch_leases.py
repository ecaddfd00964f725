"""Leases on all the batches whose photos show a file: no run moves or rolls them back meanwhile."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.migration.lease import BatchLease

# Of the time of a chunk of files: a lease (120 s) is renewed before it is older than this.
_RENEW_AFTER_S = 30


class BusyError(Exception):
    """Another run has a batch."""


class BatchLeases:
    """Leases on several batches, held together."""

    def __init__(self, database: Database, leases: Sequence[BatchLease]) -> None:
        self._database = database
        self._leases = leases
        self._held_at = time.monotonic()

    def hold(self, connection: Connection) -> None:
        """Prove in the caller's transaction that all are still ours, and renew them.

        Raises:
            LeaseLostError: another run has taken a batch over.
        """
        for lease in self._leases:
            lease.hold(connection)
        self._held_at = time.monotonic()

    def renew(self) -> None:
        """Do so in a transaction of its own, if the last time is a while ago."""
        if time.monotonic() - self._held_at > _RENEW_AFTER_S:
            with self._database.write() as connection:
                self.hold(connection)


@contextmanager
def held(database: Database, batches: Sequence[str], *, run: str) -> Iterator[BatchLeases]:
    """Hold the leases on all of the batches, so that no run moves or rolls back their photos meanwhile.

    Raises:
        BusyError: a living run has one of them.
    """
    with ExitStack() as stack:
        leases = []
        for key in sorted(batches):
            try:
                leases.append(stack.enter_context(BatchLease(database, key, run=run)))
            except GuardRefusedError as error:
                raise BusyError(str(error)) from error
        yield BatchLeases(database, leases)
