"""Marks: what was seen to be an orphan, since when, and exactly which object it was.

A mark is the only way to a delete. It is taken back as soon as something refers to the object again, and
starts anew when another object is under the key.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.catalog.database import Database, insert_or_update
from photo_pipeline.core.catalog.tables import object_table, orphan_table
from photo_pipeline.core.cleanup.listing import Listing
from photo_pipeline.core.cleanup.orphans_bucket import Bucket
from photo_pipeline.core.cleanup.orphans_compare import FOREIGN, Orphan, every_orphan, is_referenced
from photo_pipeline.core.cleanup.orphans_guards import require_share
from photo_pipeline.core.cleanup.orphans_lease import OrphanLease, refuse_beside_a_run
from photo_pipeline.core.cleanup.orphans_scan import Scan, scan
from photo_pipeline.core.cleanup.orphans_workspace import Workspace
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.objects import StoredObject

_PAGE = 500


class OrphanState(StrEnum):
    """Where a row of `pp_orphan` stands."""

    MARKED = "marked"
    DELETING = "deleting"  # a delete was decided on; whether it was done is not written down yet
    DELETED = "deleted"
    RESTORED = "restored"


@dataclass
class Marked:
    """What one marking did, or would do; counts objects.

    Attributes:
        applied: Whether it was written.
        new: Marked now.
        kept: Marked already, and still orphans.
        taken_back: No orphans any more: something refers to them, they are gone or were replaced.
        vanished: Gone from the bucket since the listing.
    """

    applied: bool
    new: int = 0
    kept: int = 0
    taken_back: int = 0
    vanished: int = 0


def orphan_id(bucket: str, key: str) -> str:
    """Return the digest under which `pp_orphan` has the object."""
    return hashlib.sha256(f"{bucket}\0{key}".encode()).hexdigest()


def mark(
    workspace: Workspace,
    database: Database,
    config: PipelineConfig,
    bucket: Bucket,
    listing: Listing,
    *,
    run: str,
    apply: bool = False,
    with_foreign: bool = False,
    max_share: float | None = None,
    progress: Progress = no_progress,
) -> tuple[Scan, Marked]:
    """Look for orphans and mark them; take marks back that are none any more.

    Args:
        workspace: A new one.
        database: The application's database.
        config: The configuration.
        bucket: The bucket.
        listing: What is in it.
        run: The id under which it is recorded.
        apply: Write; without it, only say what would be.
        with_foreign: Also mark objects whose keys are not of our spelling.
        max_share: Instead of `orphans.max_share`.
        progress: Told how far it is.

    Raises:
        GuardRefusedError: see `scan`; or there are too many orphans, or a run is under way.
        StoreError: the store failed or refused a request.
        DatabaseError: the database went away; marks are only ever written whole pages at a time.
    """
    found = scan(workspace, database, config, bucket, listing, progress=progress)
    with database.read() as connection:
        refuse_beside_a_run(connection)
    limit = config.orphans.max_share if max_share is None else max_share
    require_share(found.census, limit=limit, with_foreign=with_foreign)
    if not apply:
        return found, _write_marks(workspace, database, bucket, None, with_foreign=with_foreign)
    with OrphanLease(database, run=run) as lease:
        return found, _write_marks(workspace, database, bucket, lease, with_foreign=with_foreign)


def _write_marks(
    workspace: Workspace,
    database: Database,
    bucket: Bucket,
    lease: OrphanLease | None,
    *,
    with_foreign: bool,
) -> Marked:
    outcome = Marked(applied=lease is not None)
    _take_back(workspace, database, bucket, lease, outcome)
    for page in every_orphan(workspace, page=_PAGE):
        wanted = [each for each in page if with_foreign or each.reason != FOREIGN]
        with database.read() as connection:
            known = rows_of(connection, bucket.name, [each.key for each in wanted])
        new = [each for each in wanted if not _is_marked(known.get(each.key), each)]
        outcome.kept += len(wanted) - len(new)
        if lease is None:
            outcome.new += len(new)
            continue
        same = []
        for each in new:
            # Before each request: a page of them may take longer than the lease lasts.
            lease.tick()
            stored = bucket.look(each.key)
            if stored is not None and stored.etag == each.etag:
                same.append((each, stored))
        outcome.vanished += len(new) - len(same)
        outcome.new += len(same)
        _insert(database, bucket, lease, same)
    return outcome


def _is_marked(row: Any | None, orphan: Orphan) -> bool:
    return row is not None and row.state == OrphanState.MARKED and row.etag == orphan.etag


def _insert(
    database: Database,
    bucket: Bucket,
    lease: OrphanLease,
    objects: Sequence[tuple[Orphan, StoredObject]],
) -> None:
    if not objects:
        return
    now, keys = bucket.now(), [orphan.key for orphan, _ in objects]
    rows = [
        {
            "id": orphan_id(bucket.name, orphan.key),
            "bucket": bucket.name,
            "key": orphan.key,
            "reason": orphan.reason,
            "state": OrphanState.MARKED,
            "bytes": stored.size,
            "etag": stored.etag,
            "version_id": stored.version_id,
            "stored_at": stored.last_modified or orphan.stored_at,
            "marked_at": now,
            "deleted_at": None,
            "marker_id": None,
            "restored_at": None,
            "run": lease.run,
        }
        for orphan, stored in objects
    ]

    def write(connection: Connection) -> None:
        lease.hold(connection)
        insert_or_update(connection, orphan_table, rows)
        set_object_marks(connection, bucket.name, keys, now)
        record(connection, "orphan_mark", keys, run=lease.run)

    database.transact(write)


def _take_back(
    workspace: Workspace,
    database: Database,
    bucket: Bucket,
    lease: OrphanLease | None,
    outcome: Marked,
) -> None:
    """Remove the marks of objects that are no orphans any more."""
    for page in pages_under(database, bucket, OrphanState.MARKED):
        gone = [row.key for row in page if is_referenced(workspace, row.key)]
        outcome.taken_back += len(gone)
        if lease is not None and gone:
            remove_marks(database, bucket.name, lease, gone)


def remove_marks(database: Database, bucket: str, lease: OrphanLease, keys: Sequence[str]) -> None:
    """Forget that these objects were marked."""

    def write(connection: Connection) -> None:
        lease.hold(connection)
        columns = orphan_table.c
        connection.execute(
            sa.delete(orphan_table).where(
                columns.id.in_([orphan_id(bucket, key) for key in keys]), columns.state == OrphanState.MARKED
            )
        )
        set_object_marks(connection, bucket, keys, None)
        record(connection, "orphan_unmark", keys, run=lease.run)

    database.transact(write)


def pages_of(database: Database, bucket: str, state: OrphanState) -> Iterable[list[Any]]:
    """Yield the rows in that state, in lists; rows may leave the state between two lists."""
    columns, after = orphan_table.c, ""
    while True:
        query = (
            sa.select(orphan_table)
            .where(columns.bucket == bucket, columns.state == state, columns.id > after)
            .order_by(columns.id)
            .limit(_PAGE)
        )
        with database.read() as connection:
            page = list(connection.execute(query))
        if not page:
            return
        yield page
        after = page[-1].id


def pages_under(database: Database, bucket: Bucket, state: OrphanState) -> Iterable[list[Any]]:
    """Yield the rows in that state that a listing can tell of: under the prefixes that are configured now."""
    for page in pages_of(database, bucket.name, state):
        yield [row for row in page if bucket.prefixes.cover(row.key)]


def rows_of(connection: Connection, bucket: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return the `pp_orphan` rows of at most some hundred keys, by key."""
    ids = [orphan_id(bucket, key) for key in keys]
    query = sa.select(orphan_table).where(orphan_table.c.id.in_(ids))
    return {row.key: row for row in connection.execute(query)}


def set_object_marks(
    connection: Connection, bucket: str, keys: Sequence[str], marked_at: datetime | None
) -> None:
    """Set `pp_object.marked_at` of those objects that the catalog knows."""
    columns = object_table.c
    connection.execute(
        sa.update(object_table)
        .where(columns.bucket == bucket, columns.key.in_(keys))
        .values(marked_at=marked_at)
    )


def record(connection: Connection, action: str, keys: Sequence[str], *, run: str, **details: Any) -> None:
    """Write into the audit log what is done to these objects."""
    subject = keys[0] if len(keys) == 1 else f"{len(keys)} objects"
    audit.record(connection, action=action, subject=subject, details={"keys": list(keys)} | details, run=run)
