"""Files to and from the store, each proven by SHA-256: the storage library's upload and download.

For the migration itself, whose objects have rows and batches, see `core.migration.upload`.
"""

import hashlib
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import obstore
from obstore.store import S3Store

from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.durable import sync_folder
from photo_pipeline.core.errors import (
    GuardRefusedError,
    InfrastructureError,
    StorageConflictError,
    StoreRefusedError,
)
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.checksum import md5_hex
from photo_pipeline.core.storage.faults import MissingObjectError, store_errors
from photo_pipeline.core.storage.keys import checked_key
from photo_pipeline.core.storage.multipart import PART_BYTES, put_parts
from photo_pipeline.core.storage.objects import StoredObject
from photo_pipeline.core.storage.probe import StoreProbe
from photo_pipeline.core.storage.proof import proven_by
from photo_pipeline.core.storage.store import PhotoStore

# Read from the network, and written, this many bytes at a time.
_CHUNK_BYTES = 1024**2
_DOWNLOADS = 3


@dataclass(frozen=True)
class UploadedFile:
    """A file that is in the store; `created` is False where it was there already, with the same bytes."""

    key: str
    size: int
    sha256: str
    created: bool
    proven_by: str


@dataclass(frozen=True)
class DownloadedFile:
    """A file that is on the disk, whole and with the SHA-256 (hex) that the object has."""

    path: Path
    size: int
    sha256: str


def upload_file(
    store: PhotoStore,
    path: Path,
    key: str,
    *,
    probe: StoreProbe,
    content_type: str = "application/octet-stream",
    cache_control: str | None = None,
    metadata: Mapping[str, str] | None = None,
    multipart_above: int = 2 * PART_BYTES,
    progress: Progress = no_progress,
) -> UploadedFile:
    """Store the file under the key and prove it there. Nothing is overwritten where the server allows that.

    Its SHA-256 is kept in the metadata, too, so that a later download can be checked on any server.

    Args:
        store: The bucket.
        path: The file; it must not change meanwhile.
        key: The object's key.
        probe: What is known of the server (`probe.probe_store`).
        content_type: As it will be delivered.
        cache_control: Likewise.
        metadata: More user metadata.
        multipart_above: Larger files (bytes) go in parts of 16 MiB.
        progress: Called with the stage `upload` and bytes.

    Raises:
        StorageConflictError: other bytes are under the key; they are left.
        PhotoChangedError: the file changed while it was read.
        InfrastructureError: the file cannot be read, or the store failed (StoreError).
        ObjectKeyError: the key cannot mean the same object to every request.
    """
    checked_key(key)
    try:
        with path.open("rb") as file:
            size, sha256 = os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            sending = _Sending(store, probe, file, key, size, sha256, progress)
            attributes = {"content_type": content_type, "cache_control": cache_control}
            facts = {**(metadata or {}), "sha256": sha256}
            return sending.run(in_parts=size > multipart_above, attributes=attributes, metadata=facts)
    except OSError as error:
        raise _disk_error(path, error) from error


@dataclass(frozen=True)
class _Sent:
    created: bool
    md5: str | None = None
    parts_sha256: str | None = None


@dataclass(frozen=True)
class _Sending:
    store: PhotoStore
    probe: StoreProbe
    file: BinaryIO
    key: str
    size: int
    sha256: str
    progress: Progress

    def run(
        self, *, in_parts: bool, attributes: Mapping[str, str | None], metadata: Mapping[str, str]
    ) -> UploadedFile:
        lax = not self.probe.honours_if_none_match
        if lax and (there := self.store.look(self.key)) is not None:
            return self._adopted(there.size)
        send = self._send_parts if in_parts else self._send
        sent = send(attributes, metadata)
        if not sent.created:
            return self._adopted(self.size)
        how = self._proven(sent)
        if not how:
            cause = "the store does not give back what it was given"
            raise StoreRefusedError(
                self._thing, cause=cause, fix="do not trust this store before that is explained"
            )
        return UploadedFile(self.key, self.size, self.sha256, created=True, proven_by=how)

    @property
    def _thing(self) -> str:
        return f"s3://{self.store.bucket}/{self.key}"

    def _adopted(self, size: int) -> UploadedFile:
        how = self._proven(_Sent(created=False)) if size == self.size else ""
        if not how:
            raise StorageConflictError(
                self._thing, cause="other bytes are stored under this key", fix="use another key"
            )
        return UploadedFile(self.key, self.size, self.sha256, created=False, proven_by=how)

    def _proven(self, sent: "_Sent") -> str:
        return proven_by(
            self.store,
            self.probe,
            self.key,
            self.sha256,
            size=self.size,
            md5=sent.md5,
            parts_sha256=sent.parts_sha256,
        )

    def _send(self, attributes: Mapping[str, str | None], metadata: Mapping[str, str]) -> "_Sent":
        data = self.file.read()
        created = self.store.put_new(
            self.key,
            data,
            content_type=str(attributes["content_type"]),
            cache_control=attributes["cache_control"],
            metadata=metadata,
        )
        self.progress("upload", self.size, self.size)
        return _Sent(created, md5=md5_hex(data))

    def _send_parts(self, attributes: Mapping[str, str | None], metadata: Mapping[str, str]) -> "_Sent":
        done = 0

        def sent(size: int) -> None:
            nonlocal done
            done += size
            self.progress("upload", done, self.size)

        result = put_parts(
            self.store,
            self.key,
            self.file,
            sha256=self.sha256,
            content_type=str(attributes["content_type"]),
            cache_control=attributes["cache_control"],
            metadata=metadata,
            sent=sent,
        )
        return _Sent(result.created, parts_sha256=result.parts_sha256)


def download_file(
    store: PhotoStore,
    key: str,
    path: Path,
    *,
    sha256: str | None = None,
    replace: bool = False,
    progress: Progress = no_progress,
) -> DownloadedFile:
    """Bring an object to the disk, streamed, checked by SHA-256, and in place only when it is whole.

    Args:
        store: The bucket.
        key: The object's key.
        path: Where; its folder must exist. Until all is checked the bytes are in a hidden file beside it.
        sha256: Hex, what it must have; None: what the store reports, or the upload noted in the metadata.
        replace: Whether a file that is there may be replaced.
        progress: Called with the stage `download` and bytes.

    Raises:
        GuardRefusedError: nothing vouches for the object's content, or there is a file already.
        StorageConflictError: there is no such object, or it has another SHA-256, three times in a row.
        InfrastructureError: the disk refuses it, or the store failed (StoreError).
        ObjectKeyError: the key cannot mean the same object to every request.
    """
    thing = f"s3://{store.bucket}/{key}"
    if path.exists() and not replace:
        raise _is_there(path)
    stored = store.head(key)
    if stored is None:
        raise _absent(thing)
    wanted = sha256 or _vouched_for(stored)
    if wanted is None:
        raise GuardRefusedError(
            thing, cause="the store keeps no SHA-256 of it", fix="say which one it must have (sha256=)"
        )
    partial = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex[:8]}.partial")
    try:
        for _ in range(_DOWNLOADS):
            found = _fetch(store, stored, partial, progress)
            if found == wanted:
                _put_in_place(partial, path, replace=replace)
                return DownloadedFile(path, stored.size, wanted)
    except MissingObjectError:
        raise _absent(thing) from None
    except OSError as error:
        raise _disk_error(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    raise StorageConflictError(
        thing, cause=f"its SHA-256 is {found}, not {wanted}", fix="find out who changed it; nothing was kept"
    )


def _absent(thing: str) -> StorageConflictError:
    return StorageConflictError(thing, cause="there is no such object", fix="check the key")


def _vouched_for(stored: StoredObject) -> str | None:
    noted = stored.metadata.get("sha256", "")
    return stored.sha256 or (noted if len(noted) == 64 else None)


def _fetch(store: PhotoStore, stored: StoredObject, partial: Path, progress: Progress) -> str:
    """Write the object's bytes to the file, from its beginning at each try; return their SHA-256."""

    def get(client: S3Store) -> str:
        digest, done = hashlib.sha256(), 0
        try:
            found = obstore.get(client, stored.key)
        except FileNotFoundError:
            # Not the disk's: obstore says so of an object that was deleted since the look.
            raise MissingObjectError(stored.key) from None
        with partial.open("wb") as file:
            for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
                data = bytes(chunk)
                digest.update(data)
                file.write(data)
                done += len(data)
                progress("download", done, stored.size)
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()

    with store_errors(f"s3://{store.bucket}/{stored.key}"):
        return store.transfer(get, stored.size, unit=Unit.GETS)


def _put_in_place(partial: Path, path: Path, *, replace: bool) -> None:
    if replace:
        partial.replace(path)
    else:
        # Unlike a rename, a link fails if somebody has made the file meanwhile.
        try:
            path.hardlink_to(partial)
        except FileExistsError:
            raise _is_there(path) from None
    sync_folder(path.parent)


def _is_there(path: Path) -> GuardRefusedError:
    return GuardRefusedError(str(path), cause="there is a file already", fix="say that it may be replaced")


def _disk_error(path: Path, error: OSError) -> InfrastructureError:
    return InfrastructureError(
        str(path), cause=f"the disk refuses it ({error.strerror})", fix="check path, rights and free space"
    )
