"""Puts a batch's objects into the store and proves each of them there, by checksum and by identity.

Nothing counts as uploaded because a request succeeded; when an object counts is `core.migration.proof`.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database, insert_or_update
from photo_pipeline.core.catalog.tables import PhotoState, object_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost.guard import CostGuard, Spending
from photo_pipeline.core.delivery.caching import CACHE_CONTROL, NOT_SERVED
from photo_pipeline.core.errors import (
    BudgetError,
    NotStoredError,
    PausedError,
    PhotoChangedError,
    PhotoError,
    StorageConflictError,
    StoreError,
    StoreRefusedError,
)
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.photos import (
    ORIGINAL_TYPES,
    ObjectNaming,
    Photo,
    WantedObject,
    batch_photos,
    object_rows,
    quarantine,
    row_primaries,
    set_state,
    staged_path,
)
from photo_pipeline.core.migration.process import (
    Workers,
    is_at_hand,
    primary_unavailable,
    process_batch,
)
from photo_pipeline.core.migration.proof import is_proven, is_proven_row, ready_photos
from photo_pipeline.core.migration.spending import needed_for
from photo_pipeline.core.migration.watch import ControlWatch
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.probe import StoreProbe, probe_store
from photo_pipeline.core.storage.store import PhotoStore

# Proven objects are recorded this many at a time; what a crash loses of it is adopted on the next run.
_RECORD_EVERY = 50
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
    requests: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, kind: str) -> None:
        """Count one request to the store; called from the upload threads."""
        with self._lock:
            self.requests[kind] = self.requests.get(kind, 0) + 1


@dataclass(frozen=True)
class _Job:
    """One object to bring into the store."""

    wanted: WantedObject
    photo: Photo
    checksum: str
    mime: str
    row: Any | None  # its pp_object row, if it has one


@dataclass(frozen=True)
class _Proven:
    job: _Job
    created: bool
    size: int


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
    if _staging_has_gaps(database, config, lease.batch):
        process_batch(database, config, lease, workers)
    return _BatchUploader(database, config, lease, store).run(progress)


def _staging_has_gaps(database: Database, config: PipelineConfig, batch: str) -> bool:
    naming = ObjectNaming(config, database)
    photos = batch_photos(database, batch, (PhotoState.PROCESSED, PhotoState.UPLOADED))
    keys = [each.key for photo in photos if not photo.is_copy for each in naming.variants(photo)]
    with database.read() as connection:
        rows = object_rows(connection, config.store.bucket, keys)
    return any(not is_at_hand(config, rows.get(key)) for key in keys)


class _BatchUploader:
    def __init__(
        self, database: Database, config: PipelineConfig, lease: BatchLease, store: PhotoStore
    ) -> None:
        self._database = database
        self._config = config
        self._lease = lease
        self._store = store
        self._naming = ObjectNaming(config, database)
        self._outcome = Uploaded()
        self._by_content: dict[str, list[Photo]] = defaultdict(list)
        self._watch = ControlWatch(database)
        self._spending = Spending()
        self._failure: StoreError | PausedError | None = None
        # By content: the first store failure of one of its objects.
        self._failed: dict[str, StoreError] = {}
        self._in_a_row: set[str] = set()
        self._any_proven = False

    def run(self, progress: Progress) -> Uploaded:
        photos = batch_photos(self._database, self._lease.batch, (PhotoState.PROCESSED, PhotoState.UPLOADED))
        jobs = self._jobs(photos)
        self._outcome.photos = len(photos)
        for photo in photos:
            self._by_content[photo.sha256].append(photo)
        if jobs:
            guard = CostGuard.of(self._database, self._config)
            sizes = [self._size(job) for job in jobs]
            with guard.spending(self._store.meter, needed_for(sizes), batch=self._lease.batch) as spending:
                self._spending = spending
                probe = probe_store(self._database, self._store)
                self._outcome.verification = probe.verification
                self._transfer(jobs, probe, progress)
        self._advance(photos)
        return self._outcome

    def _jobs(self, photos: list[Photo]) -> list[_Job]:
        """Return the objects that are not proven yet, each once."""
        wanted: dict[str, tuple[WantedObject, Photo]] = {}
        for photo in photos:
            own = [] if photo.is_copy else self._naming.variants(photo)
            for each in (*own, *self._naming.untouched(photo)):
                wanted.setdefault(each.key, (each, photo))
        with self._database.read() as connection:
            rows = object_rows(connection, self._store.bucket, wanted)
        jobs = []
        for key, (each, photo) in wanted.items():
            if is_proven_row(rows.get(key)):
                self._outcome.reused += 1
            else:
                jobs.append(_job(each, photo, rows.get(key)))
        self._outcome.objects = len(wanted)
        return jobs

    def _transfer(self, jobs: list[_Job], probe: StoreProbe, progress: Progress) -> None:
        """Run the jobs in threads, a bounded number in flight; record what is proven as it comes."""
        proven: list[_Proven] = []
        done = 0
        queue = iter(jobs)
        with ThreadPoolExecutor(self._config.upload.concurrency, thread_name_prefix="upload") as pool:
            running = {pool.submit(self._try, job, probe): job for job in self._next(queue)}
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    self._collect(future, running.pop(future), proven)
                    done += 1
                    progress("objects", done, len(jobs))
                if len(proven) >= _RECORD_EVERY:
                    self._record(proven)
                self._failure = self._failure or self._watch.stopped() or self._spending.stopped()
                if self._failure is None:
                    for job in islice(self._worthwhile(queue), len(finished)):
                        running[pool.submit(self._try, job, probe)] = job
        self._record(proven)
        if self._failure is None and self._failed and not self._any_proven:
            self._failure = next(iter(self._failed.values()))
        if self._failure is not None:
            raise self._failure
        self._give_up_failed()

    def _next(self, queue: Iterable[_Job]) -> Iterable[_Job]:
        return islice(queue, self._config.upload.concurrency * 2)

    def _worthwhile(self, queue: Iterable[_Job]) -> Iterable[_Job]:
        """Leave out the objects of photos that cannot be completed any more."""
        return (
            job
            for job in queue
            if job.photo.sha256 not in self._failed and job.photo.sha256 in self._by_content
        )

    def _collect(self, future: "Future[_Proven]", job: _Job, proven: list[_Proven]) -> None:
        try:
            proven.append(future.result())
            self._any_proven = True
            self._in_a_row.clear()
        except BudgetError as error:
            self._failure = self._failure or error
        except PausedError:
            pass  # `_try` was told to start nothing more; `_transfer` raises it when everything has ended.
        except StoreError as error:
            try:
                self._note_failure(job, error)
            except BudgetError as stopped:  # it may not even ask whether the store answers
                self._failure = stopped
        except PhotoError as error:
            self._quarantine(job.photo.sha256, error)

    def _note_failure(self, job: _Job, error: StoreError) -> None:
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
        sharing = self._by_content.pop(content, [])
        with self._database.write() as connection:
            self._lease.hold(connection)
            quarantine(connection, sharing, error)
        self._outcome.quarantined += len(sharing)

    def _try(self, job: _Job, probe: StoreProbe) -> _Proven:
        """Bring one object, unless a store failure or a person stopped the rest: that is then not started."""
        if self._failure is not None:
            raise self._failure
        return self._bring(job, probe)

    def _bring(self, job: _Job, probe: StoreProbe) -> _Proven:
        """Put one object and prove it; runs in a thread."""
        key = job.wanted.key
        if not probe.honours_if_none_match and self._is_proven(job, probe):
            return _Proven(job, created=False, size=self._size(job))
        if self._was_proven_meanwhile(job):
            return _Proven(job, created=False, size=self._size(job))
        data = self._data(job)
        self._outcome.count("PUT")
        created = self._store.put_new(
            key,
            data,
            content_type=job.mime,
            cache_control=CACHE_CONTROL[job.wanted.format] if job.wanted.recipe else NOT_SERVED,
            metadata=object_metadata(
                job.wanted, job.photo, job.checksum, job.row._mapping if job.row is not None else None
            ),
        )
        if self._is_proven(job, probe):
            return _Proven(job, created=created, size=len(data))
        thing = f"s3://{self._store.bucket}/{key}"
        if created:
            cause = "the store does not give back what it was given"
            raise StoreRefusedError(
                thing, cause=cause, fix="do not trust this store before that is explained"
            )
        cause = "the store holds other bytes under this content-addressed key"
        fix = "find out who else writes into this bucket; delete the foreign object, then retry"
        raise StorageConflictError(thing, cause=cause, fix=fix)

    def _was_proven_meanwhile(self, job: _Job) -> bool:
        """Return whether another batch with an equal photo has proven the object, and cleared staging."""
        if not job.wanted.recipe or staged_path(self._config, job.wanted.key).is_file():
            return False
        with self._database.read() as connection:
            rows = object_rows(connection, self._store.bucket, [job.wanted.key])
        return is_proven_row(rows.get(job.wanted.key))

    def _data(self, job: _Job) -> bytes:
        """Return the bytes to upload.

        Raises:
            PhotoChangedError: the file is gone or is no longer what was catalogued.
        """
        is_original = not job.wanted.recipe
        path = job.photo.location(self._config) if is_original else staged_path(self._config, job.wanted.key)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise PhotoChangedError(str(path), cause=f"it cannot be read ({error.strerror})") from error
        if sha256_hex(data) == job.checksum:
            return data
        if not is_original:
            path.unlink(missing_ok=True)  # Our own file, damaged; the next try makes it anew.
        raise PhotoChangedError(
            str(path),
            cause="its content is not the one that was catalogued",
            fix="run the inventory again" if is_original else "run `photo-pipeline migrate --retry-failed`",
        )

    def _is_proven(self, job: _Job, probe: StoreProbe) -> bool:
        return is_proven(
            self._store,
            probe,
            job.wanted.key,
            job.checksum,
            size=self._size(job),
            count=self._outcome.count,
        )

    def _size(self, job: _Job) -> int:
        return int(job.row.bytes) if job.row is not None else job.photo.size

    def _record(self, proven: list[_Proven]) -> None:
        """Write down what is proven, and forget it from the list."""
        if not proven:
            return
        now, how = utc_now(), self._outcome.verification
        known = [each for each in proven if each.job.row is not None]
        new = [_original_row(self._store.bucket, each, how) for each in proven if each.job.row is None]
        columns = object_table.c
        with self._database.write() as connection:
            self._lease.hold(connection)
            if known:
                connection.execute(
                    sa.update(object_table)
                    .where(columns.bucket == self._store.bucket, columns.key == sa.bindparam("k"))
                    .values(
                        uploaded_at=now, verified_at=now, verified_by=how, deleted_at=None, marked_at=None
                    ),
                    [{"k": each.job.wanted.key} for each in known],
                )
            # Another batch with an equal photo may have been first.
            insert_or_update(connection, object_table, new)
        self._outcome.uploaded += sum(each.created for each in proven)
        self._outcome.adopted += sum(not each.created for each in proven)
        self._outcome.bytes += sum(each.size for each in proven if each.created)
        proven.clear()

    def _advance(self, photos: list[Photo]) -> None:
        """Move on the photos whose every object is proven."""
        current = batch_photos(self._database, self._lease.batch, (PhotoState.PROCESSED, PhotoState.UPLOADED))
        ready = ready_photos(self._database, self._config, current)
        leading = row_primaries(self._database, self._config, [p for p in current if p.is_copy])
        stranded = [p for p in current if p.is_copy and p.row_id not in leading]
        with self._database.write() as connection:
            self._lease.hold(connection)
            set_state(connection, [p for p in ready if p.state != PhotoState.UPLOADED], PhotoState.UPLOADED)
            for copy in stranded:
                quarantine(connection, [copy], primary_unavailable(copy))
        self._outcome.quarantined += len(stranded)


def _job(wanted: WantedObject, photo: Photo, row: Any | None) -> _Job:
    if wanted.recipe and row is not None:
        return _Job(wanted, photo, checksum=row.checksum, mime=row.mime, row=row)
    return _Job(wanted, photo, checksum=photo.sha256, mime=ORIGINAL_TYPES[photo.format][1], row=row)


def object_metadata(
    wanted: WantedObject, photo: Photo, checksum: str, made: Mapping[str, Any] | None
) -> dict[str, str]:
    """Return the object's user metadata, enough to know the object again from the bucket alone (F5).

    Percent-encoded, since HTTP headers are ASCII without control characters, and short, since S3 takes
    2 KB of metadata in all: a longer path is cut here, and whole in the batch's copy of the catalog
    (`backup.back_up_ledger`), which `rebuild` reads.

    Args:
        wanted: The object.
        photo: Whose it is.
        checksum: The SHA-256 of its bytes, hex.
        made: The `pp_object` row of a variant, for its size in pixels and its quality.
    """
    size = made or {"width": photo.width, "height": photo.height}
    facts = {
        "source-sha256": photo.sha256,
        "sha256": checksum,
        "recipe": wanted.recipe,
        "variant": wanted.variant,
        "photo-id": str(photo.id),
        **{name: str(size[name]) for name in ("width", "height", "quality") if size.get(name) is not None},
        "entity": quote(f"{photo.entity_type or ''}/{photo.entity_id or ''}")[:200],
        "path": quote(f"{photo.root}/{photo.path}")[:1000],
    }
    return {name: value for name, value in facts.items() if value}


def _original_row(bucket: str, proven: _Proven, how: str) -> dict[str, Any]:
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
        "made_at": now,
        "uploaded_at": now,
        "verified_at": now,
        "verified_by": how,
    }
