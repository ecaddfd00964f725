"""Copying and moving within the store: the server copies, the copy is proven, only then the source goes."""

from dataclasses import dataclass

from photo_pipeline.core.errors import PhotoChangedError, StorageConflictError, StoreRefusedError
from photo_pipeline.core.storage.checksum import md5_hex, sha256_hex
from photo_pipeline.core.storage.deletion import delete_object
from photo_pipeline.core.storage.faults import (
    MissingObjectError,
    RefusedConditionError,
    is_worth_a_retry,
    store_errors,
    timed_out,
)
from photo_pipeline.core.storage.keys import checked_key
from photo_pipeline.core.storage.objects import Deleted, StoredObject
from photo_pipeline.core.storage.probe import StoreProbe
from photo_pipeline.core.storage.proof import proven_by
from photo_pipeline.core.storage.retries import Patience, data_timeouts_s
from photo_pipeline.core.storage.store import PhotoStore


@dataclass(frozen=True)
class Copied:
    """A proven copy: the source as it was seen, and whether this call made it (or it was there)."""

    source: StoredObject
    key: str
    sha256: str
    created: bool
    proven_by: str


@dataclass(frozen=True)
class Moved:
    """A proven copy, and what became of its source; `deleted` undoes it (`deletion.undelete`)."""

    copied: Copied
    deleted: Deleted


def copy_object(store: PhotoStore, source: str, target: str, *, probe: StoreProbe) -> Copied:
    """Copy an object of up to 5 GB to another key, with all its facts, and prove the copy by SHA-256.

    What is under the target key is never replaced by other bytes: the same bytes count as the copy. Servers
    that ignore `If-None-Match` on copies (most) leave a window of one request for somebody else's write; the
    proof notices it.

    Raises:
        StorageConflictError: there is no source, or other bytes are under the target key.
        PhotoChangedError: the source was replaced meanwhile; nothing was copied.
        StoreError: the store failed or refused a request after retries.
        ObjectKeyError: a key cannot mean the same object to every request.
    """
    checked_key(target)
    thing = f"s3://{store.bucket}/{target}"
    seen = store.head(source)
    if seen is None:
        raise StorageConflictError(
            f"s3://{store.bucket}/{source}", cause="there is no such object", fix="check the key"
        )
    # Lax servers report whatever the uploader claimed.
    trusted = seen.sha256 is not None and probe.verification == "checksum"
    data = None if trusted else _read(store, seen)
    sha256, md5 = (seen.sha256, None) if data is None else (sha256_hex(data), md5_hex(data))
    there = store.look(target)
    if there is None:
        _copy(store, seen, target)
    how = proven_by(store, probe, target, str(sha256), size=seen.size, md5=md5)
    if how:
        return Copied(seen, target, str(sha256), created=there is None, proven_by=how)
    if there is None:
        raise StoreRefusedError(
            thing,
            cause="the copy is not what was copied",
            fix="do not trust this store before that is explained",
        )
    raise StorageConflictError(thing, cause="other bytes are stored under this key", fix="use another key")


def move_object(store: PhotoStore, source: str, target: str, *, probe: StoreProbe) -> Moved:
    """Copy an object, prove the copy, then delete the source, if it is still the one that was copied.

    Interrupted in between, both are there; the same call again finishes it.

    Raises:
        StorageConflictError, PhotoChangedError, StoreError, ObjectKeyError: as for `copy_object`;
            PhotoChangedError also if the source was replaced after it was copied: then both are kept.
    """
    if source == target:
        raise StorageConflictError(
            f"s3://{store.bucket}/{source}", cause="source and target are one key", fix="use another key"
        )
    copied = copy_object(store, source, target, probe=probe)
    deleted = delete_object(store, copied.source)
    if deleted.outcome == "changed":
        raise _replaced(store, source)
    return Moved(copied, deleted)


def _read(store: PhotoStore, seen: StoredObject) -> bytes:
    data = store.read(seen.key, size=seen.size)
    if data is None:
        raise _replaced(store, seen.key)
    return data


def _copy(store: PhotoStore, seen: StoredObject, target: str) -> None:
    encryption = {"ServerSideEncryption": store.settings.encryption} if store.settings.encryption else {}
    # Some servers answer only when all is copied.
    timeouts_s = data_timeouts_s(seen.size)

    def copy() -> None:
        store.body_client(timeouts_s[-1]).copy_object(
            Bucket=store.bucket,
            Key=target,
            CopySource={"Bucket": store.bucket, "Key": seen.key},
            CopySourceIfMatch=f'"{seen.etag}"',
            ChecksumAlgorithm="SHA256",
            MetadataDirective="COPY",
            **encryption,
        )

    try:
        with store_errors(f"s3://{store.bucket}/{target}"):
            Patience(timeouts_s, timed_out=timed_out).run(copy, is_worth_a_retry)
    except (MissingObjectError, RefusedConditionError):
        raise _replaced(store, seen.key) from None


def _replaced(store: PhotoStore, key: str) -> PhotoChangedError:
    return PhotoChangedError(
        f"s3://{store.bucket}/{key}", cause="it was replaced or deleted meanwhile", fix="look again"
    )
