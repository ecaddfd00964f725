"""Deleted orphans brought back: by removing the delete marker, which shows the hidden version again."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database, rows_by_key
from photo_pipeline.core.catalog.tables import object_table, utc_now
from photo_pipeline.core.cleanup.orphans_bucket import Bucket
from photo_pipeline.core.cleanup.orphans_guards import require_state
from photo_pipeline.core.cleanup.orphans_lease import OrphanLease
from photo_pipeline.core.cleanup.orphans_marks import OrphanState, pages_of, record
from photo_pipeline.core.cleanup.orphans_records import (
    as_deleted,
    note_deleted,
    note_kept,
    note_restored,
)
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.storage.objects import Deleted


@dataclass
class Undone:
    """What one undo did, or would do; counts objects. `lost` names what cannot be brought back, and why."""

    applied: bool
    found: int = 0
    restored: int = 0
    lost: list[str] = field(default_factory=list)


def undo(
    database: Database,
    bucket: Bucket,
    *,
    run: str,
    apply: bool = False,
    keys: Sequence[str] = (),
    of_run: str | None = None,
) -> Undone:
    """Bring deleted orphans back: all, or those keys, or what one run deleted.

    Args:
        database: The application's database.
        bucket: The bucket.
        run: The id under which it is recorded.
        apply: Do it; without it, only say what would be.
        keys: Only these.
        of_run: Only what that run deleted.

    Raises:
        ConfigurationError: one of the keys was not deleted by a clean-up.
        GuardRefusedError: a run works on a batch, or another clean-up is under way.
        StoreError: the store failed or refused a request; what was brought back until then is recorded.
        DatabaseError: the database went away.
    """

    def chosen(row: Any) -> bool:
        return (not keys or row.key in keys) and (of_run is None or row.run == of_run)

    require_state(database)
    outcome = Undone(applied=apply)
    if not apply:
        outcome.found = sum(map(chosen, _deleted(database, bucket)))
        _require_found(outcome, keys)
        return outcome
    with OrphanLease(database, run=run) as lease:
        settle(database, bucket, lease)
        for row in list(filter(chosen, _deleted(database, bucket))):
            outcome.found += 1
            lease.tick()
            reason = bring_back(database, bucket, lease, row)
            if reason is None:
                outcome.restored += 1
            else:
                outcome.lost.append(f"{row.key}: {reason}")
    _require_found(outcome, keys)
    return outcome


def bring_back(database: Database, bucket: Bucket, lease: OrphanLease, row: Any) -> str | None:
    """Bring one deleted object back, and record it; return why that cannot be, or None.

    Raises:
        StoreError: the store failed or refused a request.
        LeaseLostError: another clean-up goes on.
    """
    deleted = as_deleted(row)
    if not bucket.undelete(deleted):
        there = bucket.look(row.key)
        if there is None:
            return (
                "its version has been destroyed since"
                if deleted.can_be_undone
                else "it was deleted in a bucket that kept no versions"
            )
        if there.etag != row.etag:
            return "another object is there by now; it is left alone"
    proof, now = proof_of(database, bucket, row.key), bucket.now()

    def write(connection: Connection) -> None:
        lease.hold(connection)
        note_restored(connection, bucket.name, row.key, at=now, proof=proof, run=lease.run)
        record(connection, "orphan_undo", [row.key], run=lease.run)

    database.transact(write)
    return None


def settle(database: Database, bucket: Bucket, lease: OrphanLease) -> int:
    """Finish what a clean-up that died has begun: find out, and write down, which objects it deleted.

    Returns how many there were. What is still there is not deleted now: its mark is forgotten.

    Raises:
        StoreError: the store failed or refused a request.
        LeaseLostError: another clean-up goes on.
    """
    count = 0
    for page in pages_of(database, bucket.name, OrphanState.DELETING):
        for row in page:
            lease.tick()
            count += 1
            there = bucket.look(row.key)
            marker = None
            if there is None and row.version_id is not None:
                marker = bucket.marker_over(row.key, row.version_id)
            proof = proof_of(database, bucket, row.key) if there is not None else None
            is_there = there is not None
            database.transact(_settled(bucket, lease, row, is_there=is_there, marker=marker, proof=proof))
    return count


def _settled(
    bucket: Bucket, lease: OrphanLease, row: Any, *, is_there: bool, marker: str | None, proof: Any
) -> Callable[[Connection], None]:
    now = bucket.now()

    def write(connection: Connection) -> None:
        lease.hold(connection)
        if is_there:
            note_kept(connection, bucket.name, row.key, proof=proof)
        else:
            deleted = Deleted(row.key, "deleted", row.version_id, marker)
            note_deleted(connection, bucket.name, deleted, at=now, run=lease.run)
        what = "still there" if is_there else "deleted"
        record(connection, "orphan_settle", [row.key], run=lease.run, found=what, begun_by=row.run)

    return write


def proof_of(database: Database, bucket: Bucket, key: str) -> dict[str, Any] | None:
    """Return the columns of `pp_object` that say that the object is proven, if it is known and is."""
    with database.read() as connection:
        row = rows_by_key(connection, object_table, bucket.name, [key]).get(key)
    if row is None or not bucket.holds(key, row.checksum, row.bytes):
        return None
    now = utc_now()
    return {"uploaded_at": now, "verified_at": now}


def _deleted(database: Database, bucket: Bucket) -> Iterable[Any]:
    for page in pages_of(database, bucket.name, OrphanState.DELETED):
        yield from page


def _require_found(outcome: Undone, keys: Sequence[str]) -> None:
    if len(keys) > outcome.found:
        raise ConfigurationError(
            keys[0] if len(keys) == 1 else f"{len(keys)} keys",
            cause=f"{outcome.found} of them were deleted by the orphan clean-up (and not brought back since)",
            fix="see `photo-pipeline audit show` for what was deleted",
        )
