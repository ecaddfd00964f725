"""Puts a batch's objects into the store and proves each of them there, by checksum and by identity.

Nothing counts as uploaded because a request succeeded; how one object is brought and proven is `one_object`.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from photo_pipeline.core.catalog.database import Database, insert_or_update
from photo_pipeline.core.catalog.tables import PhotoState, object_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost.guard import CostGuard, Spending
from photo_pipeline.core.errors import (
    BudgetError,
    NotStoredError,
    PausedError,
    PhotoError,
    StorageConflictError,
    StoreError,
    StoreRefusedError,
)
from photo_pipeline.core.garbage import keep_what_is_loaded
from photo_pipeline.core.migration.flight import Flight
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.needs import TO_UPLOAD, Needs
from photo_pipeline.core.migration.one_object import Bringer, Brought, Job, Proofs
from photo_pipeline.core.migration.photos import (
    Photo,
    batch_photos,
    quarantine,
    row_primaries,
    set_state,
)
from photo_pipeline.core.migration.process import (
    Workers,
    primary_unavailable,
    process_batch,
)
from photo_pipeline.core.migration.proof import (
    is_proven_object,
    mark_proven,
    ready_photos,
)
from photo_pipeline.core.migration.spending import needed_for
from photo_pipeline.core.migration.watch import ControlWatch
from photo_pipeline.core.progress import BYTES_SENT, Progress, no_progress
from photo_pipeline.core.storage.many import PROVEN_AT_ONCE
from photo_pipeline.core.storage.probe import probe_store
from photo_pipeline.core.storage.store import PhotoStore

# Proven objects are recorded this many at a time; what a crash loses of it is adopted on the next run.
_RECORD_EVERY = 50
# So many sent objects may wait for the proof of others before they are proven themselves; then sending waits.
_MOST_WAITING = PROVEN_AT_ONCE
# Photos in a row, without one success between, that make it the store's fault although it still answers.
_PHOTOS_IN_A_ROW = 3


@dataclass
class Uploaded:
    """What one pass over a batch did; objects are counted by key, `bytes` are those that were sent."""

    photos: int = 0
    objects: int = 0
    uploaded: int = 0
    adopted: int = 0
    reused: int = 0
    quarantined: int = 0
    bytes: int = 0
    verification: str = ""
    store: str = ""  # what the probe says of the server, in a sentence
    requests: dict[str, int] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)  # quarantined photos by class of their error
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, kind: str) -> None:
        """Count one request to the store; called from the upload threads."""
        with self._lock:
            self.requests[kind] = self.requests.get(kind, 0) + 1


def upload_batch(
    database: Database,
    config: PipelineConfig,
    lease: BatchLease,
    store: PhotoStore,
    workers: Workers,
    *,
    progress: Progress = no_progress,
) -> Uploaded:
    """Upload and prove every object that the batch's processed photos need.

    What an earlier run proved is not asked for again; what it uploaded without recording it is adopted
    after its checksum was compared. A variant that is missing from staging (another machine made it) is
    made again first.

    Raises:
        StoreError: the store is down, refuses us or fails photo after photo; what was proven until then is
            recorded. An object that fails while others pass costs its photo only.
        PausedError: a person stopped the migration; what was proven until then is recorded, too.
        BudgetError: the cost guard did; the same.
        LeaseLostError: another run has taken the batch over.
    """
    needs = Needs.of(database, config, lease.batch)
    if needs.has_gaps(config):
        process_batch(database, config, lease, workers)
        needs = Needs.of(database, config, lease.batch)
    keep_what_is_loaded()
    return _BatchUploader(database, config, lease, store).run(needs, progress)


class _BatchUploader:
    def __init__(
        self, database: Database, config: PipelineConfig, lease: BatchLease, store: PhotoStore
    ) -> None:
        self._database = database
        self._config = config
        self._lease = lease
        self._store = store
        self._outcome = Uploaded()
        self._by_content: dict[str, list[Photo]] = defaultdict(list)
        self._watch = ControlWatch(database)
        self._spending = Spending()
        self._failure: StoreError | PausedError | None = None
        # By content: the first store failure of one of its objects.
        self._failed: dict[str, StoreError] = {}
        self._in_a_row: set[str] = set()
        self._any_proven = False
        # Objects that are not worth sending any more.
        self._left_out = 0

    def run(self, needs: Needs, progress: Progress) -> Uploaded:
        photos, jobs = needs.photos, self._jobs(needs)
        self._outcome.photos = len(photos) + len(needs.clashing)
        self._quarantine_clashing(needs)
        for photo in photos:
            self._by_content[photo.sha256].append(photo)
        if jobs:
            guard = CostGuard.of(self._database, self._config)
            needed = needed_for(
                [job.size for job in jobs], multipart_above=self._config.upload.multipart_above
            )
            with guard.spending(self._store.meter, needed, batch=self._lease.batch) as spending:
                self._spending = spending
                probe = probe_store(self._database, self._store)
                self._outcome.verification = probe.verification
                self._outcome.store = probe.sentence
                bringer = Bringer(self._database, self._config, self._store, probe, self._outcome.count)
                bringer.look_ahead(jobs)
                self._transfer(jobs, bringer, progress)
        self._advance(photos)
        return self._outcome

    def _jobs(self, needs: Needs) -> list[Job]:
        """Return the objects that are not proven yet, each once."""
        jobs = []
        for key, (each, photo) in needs.wanted.items():
            if is_proven_object(each, needs.rows.get(key)):
                self._outcome.reused += 1
            else:
                jobs.append(Job.of(each, photo, needs.rows.get(key)))
        self._outcome.objects = len(needs.wanted)
        return jobs

    def _transfer(self, jobs: list[Job], bringer: Bringer, progress: Progress) -> None:
        """Run the jobs in threads, a bounded number in flight; prove and record what comes of it."""
        proven: list[Brought] = []
        waiting: list[Brought] = []
        # Side by side in the store, where they are proven by listings.
        queue = iter(sorted(jobs, key=lambda job: job.wanted.key) if bringer.proves_together else jobs)
        with Flight(self._config.upload.concurrency, lambda: self._failure) as flight:

            def bring(some: Iterable[Job]) -> None:
                for job in some:
                    flight.start(job, partial(bringer.bring, job))

            bring(self._next(queue, flight))
            while not flight.is_over:
                ended = flight.wait()
                if isinstance(ended, Future):
                    self._take_proofs(ended, proven, bringer, flight)
                elif (brought := self._collect(*ended)) is not None:
                    (proven if brought.proven_by else waiting).append(brought)
                soon_over = flight.ended + flight.sending + self._left_out >= len(jobs)
                waiting = flight.prove(waiting, bringer.prove_together, soon_over=soon_over)
                progress("objects", flight.ended, len(jobs))
                progress(BYTES_SENT, self._outcome.bytes, None)
                if len(proven) >= _RECORD_EVERY:
                    self._record(proven)
                self._failure = self._failure or self._watch.stopped() or self._spending.stopped()
                if self._failure is None and len(waiting) < _MOST_WAITING:
                    bring(self._next(self._worthwhile(queue), flight))
        self._record(proven)
        if self._failure is None and self._failed and not self._any_proven:
            self._failure = next(iter(self._failed.values()))
        if self._failure is not None:
            raise self._failure
        self._give_up_failed()

    def _take_proofs(
        self, ended: "Future[Proofs]", proven: list[Brought], bringer: Bringer, flight: Flight
    ) -> None:
        """Take what a listing has proven; what it does not show is asked for singly.

        After a failure only the listing counts: what is left is adopted by the next run.
        """
        try:
            shown, doubtful = ended.result()
        except BudgetError as error:
            self._failure = self._failure or error
            return
        proven += shown
        if self._failure is None:
            for each in doubtful:
                flight.start(each.job, partial(bringer.prove, each), again=True)

    def _next(self, queue: Iterable[Job], flight: Flight) -> Iterable[Job]:
        """Return so many jobs that each thread has one in hand and another one waiting."""
        return islice(queue, max(self._config.upload.concurrency * 2 - flight.sending, 0))

    def _worthwhile(self, queue: Iterable[Job]) -> Iterable[Job]:
        """Leave out the objects of photos that cannot be completed any more."""
        for job in queue:
            if job.photo.sha256 not in self._failed and job.photo.sha256 in self._by_content:
                yield job
            else:
                self._left_out += 1

    def _collect(self, job: Job, future: "Future[Brought]") -> Brought | None:
        """Return what came of a job; note its failure, if it failed."""
        try:
            brought = future.result()
            self._any_proven = True
            self._in_a_row.clear()
            return brought
        except BudgetError as error:
            self._failure = self._failure or error
        except PausedError:
            pass  # `Flight` was told to start nothing more; `_transfer` raises it when everything has ended.
        except StoreError as error:
            try:
                self._note_failure(job, error)
            except BudgetError as stopped:  # it may not even ask whether the store answers
                self._failure = stopped
        except PhotoError as error:
            self._quarantine(job.photo.sha256, error)
        return None

    def _note_failure(self, job: Job, error: StoreError) -> None:
        """Hold a failed object against its photo, unless the store itself fails: then nothing more starts.

        The store fails if it refuses us, no longer answers, or fails photo after photo.
        """
        if self._failure is not None:
            return
        self._failed.setdefault(job.photo.sha256, error)
        self._in_a_row.add(job.photo.sha256)
        if (
            isinstance(error, StoreRefusedError)
            or len(self._in_a_row) >= _PHOTOS_IN_A_ROW
            or not self._store.is_answering()
        ):
            self._failure = error

    def _give_up_failed(self) -> None:
        for content, error in self._failed.items():
            cause = f"the store took other objects, but each try for this one failed ({error.cause})"
            self._quarantine(
                content, NotStoredError(error.thing, cause=cause, fix="migrate with --retry-failed")
            )

    def _quarantine(self, content: str, error: PhotoError) -> None:
        """Take out everyone who needs the object: they share its fate."""
        self._take_out(self._by_content.pop(content, []), error)

    def _take_out(self, photos: list[Photo], error: PhotoError) -> None:
        with self._database.write() as connection:
            self._lease.hold(connection)
            quarantine(connection, photos, error)
        self._outcome.quarantined += len(photos)
        self._outcome.failures[error.error_class] += len(photos)

    def _quarantine_clashing(self, needs: Needs) -> None:
        for photo, key in needs.clashing:
            first = needs.wanted[key][1]
            error = StorageConflictError(
                photo.path,
                cause=f"another file, {first.path}, needs the same key {key}",
                fix="let `key_template` name the `{path}` or `{sha256}`, then migrate with --retry-failed",
            )
            self._take_out([photo], error)

    def _record(self, proven: list[Brought]) -> None:
        """Write down what is proven, and forget it from the list."""
        if not proven:
            return
        known = [each for each in proven if each.job.row is not None]
        new = [_original_row(self._store.bucket, each) for each in proven if each.job.row is None]
        with self._database.write() as connection:
            self._lease.hold(connection)
            for how in {each.proven_by for each in known}:
                these = {e.job.wanted.key: e.job.checksum for e in known if e.proven_by == how}
                mark_proven(connection, self._store.bucket, these, how)
            # Another batch with an equal photo may have been first.
            insert_or_update(connection, object_table, new)
        self._outcome.uploaded += sum(each.created for each in proven)
        self._outcome.adopted += sum(not each.created for each in proven)
        self._outcome.bytes += sum(each.size for each in proven if each.created)
        proven.clear()

    def _advance(self, photos: list[Photo]) -> None:
        """Move on the photos whose every object is proven."""
        current = batch_photos(self._database, self._lease.batch, TO_UPLOAD)
        ready = ready_photos(self._database, self._config, current)
        leading = row_primaries(self._database, self._config, [p for p in current if p.is_copy])
        stranded = [p for p in current if p.is_copy and p.row_id not in leading]
        with self._database.write() as connection:
            self._lease.hold(connection)
            set_state(connection, [p for p in ready if p.state != PhotoState.UPLOADED], PhotoState.UPLOADED)
            for copy in stranded:
                quarantine(connection, [copy], primary_unavailable(copy))
        self._outcome.quarantined += len(stranded)


def _original_row(bucket: str, proven: Brought) -> dict[str, Any]:
    job, now = proven.job, utc_now()
    return {
        "bucket": bucket,
        "key": job.wanted.key,
        "source_sha256": job.photo.sha256,
        "recipe": "",
        "variant": job.wanted.variant,
        "format": job.wanted.format,
        "mime": job.mime,
        "bytes": proven.size,
        "width": job.photo.width,
        "height": job.photo.height,
        "checksum": job.checksum,
        "md5": proven.md5,
        "made_at": now,
        "uploaded_at": now,
        "verified_at": now,
        "verified_by": proven.proven_by,
        # Of what this key held before, if a row says so.
        "deleted_at": None,
        "marked_at": None,
        "etag": None,
    }
