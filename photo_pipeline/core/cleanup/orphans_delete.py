"""Deletes what was marked long enough ago and is an orphan still, so that it can be undone (DESIGN rule 7).

Under the lease: list and compare anew, decide and write it down (`deleting`), delete each object if
it is the one that was marked, write down what became of it, look at the references once more: what the
application has begun to show in these seconds is brought back at once.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cleanup.listing import Listing
from photo_pipeline.core.cleanup.orphans_bucket import Bucket
from photo_pipeline.core.cleanup.orphans_compare import FOREIGN, compare_more, is_referenced
from photo_pipeline.core.cleanup.orphans_guards import (
    require_prefixes,
    require_share,
    require_state,
    require_versions,
)
from photo_pipeline.core.cleanup.orphans_lease import OrphanLease, refuse_beside_a_run
from photo_pipeline.core.cleanup.orphans_marks import (
    OrphanState,
    pages_under,
    record,
    remove_marks,
    rows_of,
)
from photo_pipeline.core.cleanup.orphans_records import as_marked, claim, note_deleted, note_kept
from photo_pipeline.core.cleanup.orphans_scan import (
    SHOWN,
    Scan,
    fresh_since,
    look_at_references,
    scan,
)
from photo_pipeline.core.cleanup.orphans_undo import bring_back, settle
from photo_pipeline.core.cleanup.orphans_workspace import Workspace
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import LeaseLostError, StoreError
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.objects import Deleted

_AT_ONCE = 100


@dataclass
class DeletedOrphans:
    """What one run deleted, or would delete; counts objects.

    Attributes:
        applied: Whether anything was done.
        settled: Left over from a run that died, and finished now.
        waiting: Marked too short a time ago.
        taken_back: Marked, and no orphans any more.
        deleted: Gone (or, if not applied, those that would go).
        bytes: Their size.
        changed: Another object was there, or none; left alone.
        brought_back: Deleted, and shown by the application at that very moment: there again.
        lost: Likewise, and they cannot be brought back (a bucket without versions); names.
        keys: The first that were deleted.
    """

    applied: bool
    settled: int = 0
    waiting: int = 0
    taken_back: int = 0
    deleted: int = 0
    bytes: int = 0
    changed: int = 0
    brought_back: int = 0
    lost: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def delete_orphans(
    workspace: Workspace,
    database: Database,
    config: PipelineConfig,
    bucket: Bucket,
    listing: Listing,
    *,
    run: str,
    apply: bool = False,
    unversioned: bool = False,
    with_foreign: bool = False,
    max_share: float | None = None,
    progress: Progress = no_progress,
) -> tuple[Scan, DeletedOrphans]:
    """Delete every object whose mark is older than the grace period, and that is an orphan in a new look.

    Args:
        workspace: A new one.
        database: The application's database.
        config: The configuration.
        bucket: The bucket.
        listing: What is in it, made just now (an inventory may be older than the marks: then they wait).
        run: The id under which it is recorded.
        apply: Do it; without it, only say what would be.
        unversioned: Also in a bucket that keeps no versions, where it cannot be undone.
        with_foreign: Also those whose keys are not of our spelling.
        max_share: Instead of `orphans.max_share`.
        progress: Told how far it is.

    Raises:
        GuardRefusedError: see `scan`; or too many orphans, no versions, or a run is under way.
        StoreError: the store failed or refused a request; what was done until then is recorded.
        DatabaseError: the database went away; the next run finds out what had been done.
        LeaseLostError: this process was held up for too long; what it deleted last was brought back.
    """
    require_prefixes(bucket.prefixes)
    require_state(database)
    require_versions(kept=bucket.keeps_versions(), allowed=unversioned)
    limit = config.orphans.max_share if max_share is None else max_share
    worker = _Deletion(workspace, database, config, bucket, listing, with_foreign=with_foreign)
    if not apply:
        with database.read() as connection:
            refuse_beside_a_run(connection)
        found = scan(workspace, database, config, bucket, listing, progress=progress)
        require_share(found.census, limit=limit, with_foreign=with_foreign)
        worker.foretell()
        return found, worker.outcome
    with OrphanLease(database, run=run) as lease:
        worker.outcome.applied = True
        worker.outcome.settled = settle(database, bucket, lease)
        found = scan(workspace, database, config, bucket, listing, tick=lease.tick, progress=progress)
        require_share(found.census, limit=limit, with_foreign=with_foreign)
        worker.work(lease)
    return found, worker.outcome


class _Deletion:
    def __init__(
        self,
        workspace: Workspace,
        database: Database,
        config: PipelineConfig,
        bucket: Bucket,
        listing: Listing,
        *,
        with_foreign: bool,
    ) -> None:
        self._workspace = workspace
        self._database = database
        self._config = config
        self._bucket = bucket
        self._listing = listing
        self._with_foreign = with_foreign
        self._ripe_before = fresh_since(bucket, config, listing)
        self.outcome = DeletedOrphans(applied=False)

    def foretell(self) -> None:
        """Count what `work` would do."""
        for page in pages_under(self._database, self._bucket, OrphanState.MARKED):
            for row in self._ripe(page):
                self._count_deleted(row)

    def work(self, lease: OrphanLease) -> None:
        """Bring back what should not be gone, delete, and look again."""
        self.heal(lease, with_foreign=False)
        for page in pages_under(self._database, self._bucket, OrphanState.MARKED):
            ripe = self._ripe(page)
            gone = [row.key for row in page if is_referenced(self._workspace, row.key)]
            if gone:
                remove_marks(self._database, self._bucket.name, lease, gone)
            for start in range(0, len(ripe), _AT_ONCE):
                self._delete(lease, ripe[start : start + _AT_ONCE])
        if self.outcome.deleted or self.outcome.settled:
            self._look_once_more(lease)

    def _ripe(self, page: Sequence[Any]) -> list[Any]:
        """Return the rows that may go, and count the others."""
        ripe = []
        for row in page:
            if is_referenced(self._workspace, row.key):
                self.outcome.taken_back += 1
            elif row.marked_at > self._ripe_before or (row.reason == FOREIGN and not self._with_foreign):
                self.outcome.waiting += 1
            else:
                ripe.append(row)
        return ripe

    def _count_deleted(self, row: Any) -> None:
        self.outcome.deleted += 1
        self.outcome.bytes += row.bytes
        if len(self.outcome.keys) < SHOWN:
            self.outcome.keys.append(row.key)

    def _delete(self, lease: OrphanLease, rows: Sequence[Any]) -> None:
        keys = [row.key for row in rows]

        def decide(connection: Connection) -> list[Any]:
            lease.hold(connection)
            current = rows_of(connection, self._bucket.name, keys)
            same = [row for row in rows if _is_unchanged(row, current.get(row.key))]
            if not same:
                return []
            claim(connection, self._bucket.name, [row.key for row in same], run=lease.run)
            record(connection, "orphan_delete", [row.key for row in same], run=lease.run)
            return same

        claimed = self._database.transact(decide)
        done, failure = self._send(lease, claimed)
        now = self._bucket.now()
        try:
            self._database.transact(lambda connection: self._note(connection, lease, done, now))
        except LeaseLostError:
            # Others may have begun to rely on these objects while we were held up.
            for each in done:
                if each.can_be_undone:
                    self._bucket.undelete(each)
            raise
        gone = {each.key for each in done if each.outcome == "deleted"}
        for row in claimed:
            if row.key in gone:
                self._count_deleted(row)
        self.outcome.changed += len(done) - len(gone)
        if failure is not None:
            raise failure

    def _send(self, lease: OrphanLease, rows: Sequence[Any]) -> tuple[list[Deleted], Exception | None]:
        """Send the deletes; return what became of each, and the first failure, after which none is begun."""
        failures: list[Exception] = []

        def send(row: Any) -> Deleted | None:
            if failures:
                return None
            try:
                lease.require_time()
                return self._bucket.delete(as_marked(row))
            except (StoreError, LeaseLostError) as error:
                failures.append(error)
                return None

        with ThreadPoolExecutor(self._config.upload.concurrency, thread_name_prefix="delete") as pool:
            answers = list(pool.map(send, rows))
        return [each for each in answers if each is not None], failures[0] if failures else None

    def _note(
        self, connection: Connection, lease: OrphanLease, done: Sequence[Deleted], now: datetime
    ) -> None:
        lease.hold(connection)
        if not done:
            return
        for each in done:
            if each.outcome == "deleted":
                note_deleted(connection, self._bucket.name, each, at=now, run=lease.run)
            else:
                note_kept(connection, self._bucket.name, each.key, proof=None)
        record(
            connection,
            "orphan_deleted",
            [each.key for each in done],
            run=lease.run,
            outcomes=[each.outcome for each in done],
            markers=[each.marker_id for each in done],
        )

    def heal(self, lease: OrphanLease, *, with_foreign: bool) -> None:
        """Bring back what was deleted, by whichever run, and is referred to by now.

        `with_foreign`: also strange keys; only where they were in the listing before the texts were searched.
        """
        for page in pages_under(self._database, self._bucket, OrphanState.DELETED):
            rows = [row for row in page if with_foreign or row.reason != FOREIGN]
            compare_more(self._workspace, self._bucket.prefixes, rows)
            for row in rows:
                if is_referenced(self._workspace, row.key):
                    reason = bring_back(self._database, self._bucket, lease, row)
                    if reason is None:
                        self.outcome.brought_back += 1
                    else:
                        self.outcome.lost.append(f"{row.key}: {reason}")

    def _look_once_more(self, lease: OrphanLease) -> None:
        for page in pages_under(self._database, self._bucket, OrphanState.DELETED):
            compare_more(self._workspace, self._bucket.prefixes, page)
        before = fresh_since(self._bucket, self._config, self._listing)
        look_at_references(
            self._workspace, self._database, self._config, stored_before=before, tick=lease.tick
        )
        self.outcome.lost.clear()
        self.heal(lease, with_foreign=True)


def _is_unchanged(row: Any, current: Any | None) -> bool:
    return current is not None and current.state == OrphanState.MARKED and current.etag == row.etag
