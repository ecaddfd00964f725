"""Brings one object into the store and proves it there. Which objects, how many at once: `upload`."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.caching import NOT_SERVED, cache_control
from photo_pipeline.core.errors import (
    PhotoChangedError,
    StorageConflictError,
    StoreError,
    StoreRefusedError,
)
from photo_pipeline.core.migration.naming import ORIGINAL_TYPES, WantedObject
from photo_pipeline.core.migration.photos import Photo, object_rows
from photo_pipeline.core.migration.proof import is_of_content, is_proven_row
from photo_pipeline.core.storage.checksum import md5_hex, sha256_hex
from photo_pipeline.core.storage.many import WORTH_LISTING, find_all, find_some
from photo_pipeline.core.storage.multipart import put_parts
from photo_pipeline.core.storage.objects import ListedObject
from photo_pipeline.core.storage.probe import StoreProbe
from photo_pipeline.core.storage.proof import proven_by
from photo_pipeline.core.storage.store import PhotoStore


@dataclass(frozen=True)
class Job:
    """One object to bring into the store; `row` is its `pp_object` row, if it has one."""

    wanted: WantedObject
    photo: Photo
    checksum: str
    mime: str
    row: Any | None

    @classmethod
    def of(cls, wanted: WantedObject, photo: Photo, row: Any | None) -> "Job":
        """Return the job for an object that a photo needs; a row about other bytes says nothing of it."""
        if row is not None and not is_of_content(wanted, row):
            row = None
        if wanted.recipe and row is not None:
            return cls(wanted, photo, checksum=row.checksum, mime=row.mime, row=row)
        return cls(wanted, photo, checksum=photo.sha256, mime=ORIGINAL_TYPES[photo.format][1], row=row)

    @property
    def size(self) -> int:
        """Bytes, by the catalog."""
        return int(self.row.bytes) if self.row is not None else self.photo.size

    @property
    def md5(self) -> str | None:
        """Of the bytes that `checksum` is of, if the catalog has it; hex."""
        return None if self.row is None else self.row.md5


@dataclass(frozen=True)
class Brought:
    """An object that is in the store: whether this run sent it, its bytes, and how it was proven.

    One that waits to be proven together with others has an empty `proven_by`, and its bytes' MD5.
    """

    job: Job
    created: bool
    size: int
    proven_by: str
    md5: str | None = None


Proofs = tuple[list[Brought], list[Brought]]
"""What is proven of what was sent together, and what has to be proven singly."""


class Bringer:
    """Thread-safe; one for a batch.

    Args:
        database: Asked whether another batch was faster.
        config: Where the bytes are, and from which size on they go in parts.
        store: The bucket.
        probe: What is known of the server.
        count: Called with the kind of each request.
    """

    def __init__(
        self,
        database: Database,
        config: PipelineConfig,
        store: PhotoStore,
        probe: StoreProbe,
        count: Callable[[str], None],
    ) -> None:
        self._database = database
        self._config = config
        self._store = store
        self._probe = probe
        self._count = count
        # What was there of the batch's keys, if a listing told; None: each one is looked for.
        self._found: dict[str, ListedObject] | None = None

    def look_ahead(self, jobs: Sequence[Job]) -> None:
        """Find out by a listing what is there of many objects, where that spares a look before or after each.

        On servers that would overwrite, a key that it does not show is sent without a look of its own. What
        comes there between the listing and the PUT is replaced, by the same bytes wherever the key tells the
        content; between a look and its PUT that would happen, too.

        Raises:
            BudgetError: the cost guard does not allow it.
        """
        probe = self._probe
        helps = probe.verification == "etag" or not probe.honours_if_none_match
        if helps and len(jobs) >= WORTH_LISTING:
            # Whoever may not list, or gets no answer, looks for each object: that tells what the trouble is.
            with suppress(StoreError):
                self._found = find_all(self._store, [job.wanted.key for job in jobs], count=self._count)

    @property
    def proves_together(self) -> bool:
        """Whether what is sent comes back unproven, for `prove_together`: the server lists MD5s, cheaply."""
        return self._found is not None and self._probe.verification == "etag"

    def bring(self, job: Job) -> Brought:
        """Put one object, unless it is there, and prove it, or leave that to `prove_together`.

        Raises:
            StoreError: the store failed or refused a request after retries.
            PhotoChangedError: the file is gone or is no longer what was catalogued.
            StorageConflictError: the store holds something else under the key.
        """
        if not self._probe.honours_if_none_match and (how := self._how_it_is_there(job)) is not None:
            if how:
                return Brought(job, created=False, size=job.size, proven_by=how)
            if not job.wanted.tells_content:
                raise self._conflict(job, created=False)  # the PUT would replace it
        try:
            return self._send(job)
        except PhotoChangedError:
            # Asked only now: a look at each file before it is read takes as long as reading it.
            if how := self._how_it_was_proven_meanwhile(job):
                return Brought(job, created=False, size=job.size, proven_by=how)
            raise

    def _send(self, job: Job) -> Brought:
        in_parts = job.size > self._config.upload.multipart_above
        if in_parts:
            created, how = self._put_parts(job, self._path(job))
            return self._believed(Brought(job, created=created, size=job.size, proven_by=how))
        sent = self._put(job)
        return sent if sent.created and self.proves_together else self.prove(sent)

    def prove(self, sent: Brought) -> Brought:
        """Prove one object that was sent; as `bring`."""
        return self._believed(replace(sent, proven_by=self._proven_by(sent.job, md5=sent.md5)))

    def prove_together(self, sent: Sequence[Brought]) -> Proofs:
        """Return which of them a listing shows with the right size and MD5, and which must be proven singly.

        Raises:
            BudgetError: the cost guard does not allow it.
        """
        seen: dict[str, ListedObject] = {}
        with suppress(StoreError):
            seen = find_some(self._store, [each.job.wanted.key for each in sent], count=self._count)
        proven, doubtful = [], []
        for each in sent:
            entry = seen.get(each.job.wanted.key)
            if entry is not None and (entry.size, entry.etag) == (each.size, each.md5):
                proven.append(replace(each, proven_by="etag"))
            else:
                doubtful.append(each)
        return proven, doubtful

    def _believed(self, brought: Brought) -> Brought:
        if not brought.proven_by:
            raise self._conflict(brought.job, brought.created)
        return brought

    def _how_it_is_there(self, job: Job) -> str | None:
        """Look before sending, where the server would overwrite.

        Returns:
            How it is proven; empty if other bytes are there, and None if nothing is.
        """
        if self._found is not None:
            there = self._found.get(job.wanted.key)
        else:
            self._count("HEAD")
            there = self._store.look(job.wanted.key)
        if there is None:
            return None
        if self._probe.verification == "etag" and (there.size, there.etag) == (job.size, job.md5):
            return "etag"
        return self._proven_by(job)

    def _how_it_was_proven_meanwhile(self, job: Job) -> str:
        """Return how another batch with an equal photo has proven the object, and cleared staging."""
        if not job.wanted.recipe or self._path(job).is_file():
            return ""
        with self._database.read() as connection:
            row = object_rows(connection, self._store.bucket, [job.wanted.key]).get(job.wanted.key)
        return str(row.verified_by or "earlier run") if row is not None and is_proven_row(row) else ""

    def _put(self, job: Job) -> Brought:
        data = self._data(job)
        self._count("PUT")
        created = self._store.put_new(job.wanted.key, data, **self._attributes(job))
        md5 = None
        if self._probe.verification == "etag":
            # The bytes were compared with the catalog, which has the MD5 of the same ones.
            md5 = job.md5 or md5_hex(data)
        return Brought(job, created=created, size=job.size, proven_by="", md5=md5)

    def _put_parts(self, job: Job, path: Path) -> tuple[bool, str]:
        """Send a large file part by part; what the store says of its parts proves it, or its bytes do."""
        try:
            with path.open("rb") as file:
                sent = put_parts(
                    self._store,
                    job.wanted.key,
                    file,
                    sha256=job.checksum,
                    count=self._count,
                    **self._attributes(job),
                )
        except OSError as error:
            raise _unreadable(path, error) from error
        except PhotoChangedError as error:
            raise _changed(job, path) from error
        parts_sha256 = sent.parts_sha256 if sent.created else None
        return sent.created, self._proven_by(job, parts_sha256=parts_sha256)

    def _attributes(self, job: Job) -> dict[str, Any]:
        made = job.row._mapping if job.row is not None else None
        served = cache_control(self._config.cdn, job.wanted.format) if job.wanted.recipe else NOT_SERVED
        return {
            "content_type": job.mime,
            "cache_control": served,
            "metadata": object_metadata(job.wanted, job.photo, job.checksum, made),
        }

    def _path(self, job: Job) -> Path:
        return Path(self._where(job))

    def _where(self, job: Job) -> str:
        """Return the path of the file, as text: pathlib takes as long to join it as the system to open it."""
        if job.wanted.recipe:
            return f"{self._config.state.staging_dir}/{job.wanted.key}"
        return f"{self._config.root(job.photo.root).dir}/{job.photo.path}"

    def _data(self, job: Job) -> bytes:
        """Return the bytes to upload.

        Raises:
            PhotoChangedError: the file is gone or is no longer what was catalogued.
        """
        try:
            data = _whole_file(self._where(job), job.size)
        except OSError as error:
            raise _unreadable(self._path(job), error) from error
        if sha256_hex(data) != job.checksum:
            raise _changed(job, self._path(job))
        return data

    def _proven_by(self, job: Job, *, md5: str | None = None, parts_sha256: str | None = None) -> str:
        return proven_by(
            self._store,
            self._probe,
            job.wanted.key,
            job.checksum,
            size=job.size,
            md5=md5,
            parts_sha256=parts_sha256,
            count=self._count,
        )

    def _conflict(self, job: Job, created: bool) -> StoreRefusedError | StorageConflictError:
        thing = f"s3://{self._store.bucket}/{job.wanted.key}"
        if created:
            cause = "the store does not give back what it was given"
            return StoreRefusedError(
                thing, cause=cause, fix="do not trust this store before that is explained"
            )
        cause = "the store holds other bytes under this key"
        fix = "find out who else writes into this bucket; delete the foreign object, then retry"
        return StorageConflictError(thing, cause=cause, fix=fix)


def _whole_file(path: str, size: int) -> bytes:
    """Return the file's bytes; of a size that is known it takes half as many system calls as `read_bytes`.

    Each of them gives way to another thread, which costs more than the call.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(file, size + 1)
        while len(data) != size and (more := os.read(file, size + 1)):
            data += more
        return data
    finally:
        os.close(file)


def _unreadable(path: Path, error: OSError) -> PhotoChangedError:
    return PhotoChangedError(str(path), cause=f"it cannot be read ({error.strerror})")


def _changed(job: Job, path: Path) -> PhotoChangedError:
    is_original = not job.wanted.recipe
    if not is_original:
        path.unlink(missing_ok=True)  # Our own file, damaged; the next try makes it anew.
    return PhotoChangedError(
        str(path),
        cause="its content is not the one that was catalogued",
        fix="run the inventory again" if is_original else "run `photo-pipeline migrate --retry-failed`",
    )


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
        "entity": _quoted(f"{photo.entity_type or ''}/{photo.entity_id or ''}")[:200],
        "path": _quoted(f"{photo.root}/{photo.path}")[:1000],
    }
    return {name: value for name, value in facts.items() if value}


# A photo's objects say the same of it, one after the other.
_quoted = lru_cache(maxsize=256)(quote)
