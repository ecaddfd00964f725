"""Deleting what was looked at and nothing else, so that it can be undone where the bucket keeps versions.

Which objects may be deleted is decided elsewhere (`core.cleanup`). A delete is conditional three times over:
the object is looked at first; the request carries its ETag (`If-Match`), which S3 checks and some servers
ignore (docs/s3-servers.md); and in a bucket with versions it is looked up afterwards what was hidden, and
taken back if that was another object.
"""

from typing import Any

from botocore.exceptions import ClientError

from photo_pipeline.core.aws_errors import http_status
from photo_pipeline.core.storage.faults import MissingObjectError, RefusedConditionError, store_errors
from photo_pipeline.core.storage.keys import checked_key
from photo_pipeline.core.storage.listing import list_versions
from photo_pipeline.core.storage.objects import Deleted, ListedObject, ObjectVersion, StoredObject
from photo_pipeline.core.storage.store import PhotoStore

# What S3 calls the one version of an object in a bucket whose versioning is suspended, or was off then.
_NO_VERSION = "null"
# How servers without versions answer the question for them; rclone serve s3 takes it for an unknown bucket.
_NOT_KNOWN = (404, 405, 501)


def delete_object(store: PhotoStore, expected: StoredObject | ListedObject) -> Deleted:
    """Delete the object if it is still the one that was seen; say how to bring it back.

    Its ETag must be the same, and, as far as they are known, its version and the second it was stored in. A
    HEAD and a DELETE, and in a bucket with versions one listing of the key.

    Args:
        store: The bucket.
        expected: The object as `PhotoStore.head` or `list_objects` showed it.

    Returns:
        `outcome` is `deleted`, `absent` or `changed` (then nothing is gone). Keep what it returns:
        `undelete` needs it.

    Raises:
        StoreError: the store failed or refused a request after retries; whether the object is gone is then
            unknown: ask again.
        ObjectKeyError: no request can mean this key.
    """
    found = store.head(checked_key(expected.key))
    if found is None:
        return Deleted(expected.key, "absent")
    if not _is_the_same(found, expected):
        return Deleted(expected.key, "changed", found=found)
    tries = 0

    def delete() -> Any:
        nonlocal tries
        tries += 1
        return store.s3.delete_object(Bucket=store.bucket, Key=found.key, IfMatch=f'"{found.etag}"')

    try:
        with store_errors(f"s3://{store.bucket}/{found.key}"):
            answer = store.control(delete)
    except (MissingObjectError, RefusedConditionError):
        # Changed since the look, or deleted by an earlier try of ours whose answer was lost.
        answer = None
    if found.version_id is None and not (answer or {}).get("DeleteMarker"):
        return _without_versions(store, found, ours=answer is not None, tries=tries)
    marker = None if answer is None else str(answer.get("VersionId"))
    return _what_was_hidden(store, found, marker, tries=tries)


def undelete(store: PhotoStore, deleted: Deleted) -> bool:
    """Take the delete back by removing its marker; return whether that object is what its key shows again.

    False: the bucket kept no version, the version has been destroyed, or something newer is there by now,
    which is left as it is.

    Raises:
        StoreError: the store failed or refused a request after retries.
    """
    if not deleted.can_be_undone:
        return False
    _delete_version(store, deleted.key, str(deleted.marker_id))
    shown = store.head(deleted.key)
    return shown is not None and shown.version_id == deleted.version_id


def destroy_version(store: PhotoStore, key: str, version_id: str) -> None:
    """Delete one version, or one delete marker, for good; an absent one is no error.

    Raises:
        StoreError: the store failed or refused the request after retries.
        ObjectKeyError: no request can mean this key.
    """
    _delete_version(store, checked_key(key), version_id)


def keeps_versions(store: PhotoStore) -> bool:
    """Return whether the bucket keeps a version of what is deleted from now on.

    False also where the server knows no versions (rclone serve s3).

    Raises:
        StoreError: the store failed the request, or does not let us ask (s3:GetBucketVersioning).
    """

    def ask() -> bool:
        try:
            answer = store.s3.get_bucket_versioning(Bucket=store.bucket)
        except ClientError as error:
            if http_status(error) in _NOT_KNOWN:
                return False
            raise
        return bool(answer.get("Status") == "Enabled")

    with store_errors(f"s3://{store.bucket}"):
        return store.control(ask)


def _is_the_same(found: StoredObject, expected: StoredObject | ListedObject) -> bool:
    version = expected.version_id if isinstance(expected, StoredObject) else None
    stored_at, expected_at = found.last_modified, expected.last_modified
    if stored_at and expected_at:
        # A HEAD tells whole seconds, a listing thousandths.
        stored_at, expected_at = stored_at.replace(microsecond=0), expected_at.replace(microsecond=0)
    return (
        bool(expected.etag)
        and found.etag == expected.etag
        and version in (None, found.version_id)
        and expected_at in (None, stored_at)
    )


def _without_versions(store: PhotoStore, found: StoredObject, *, ours: bool, tries: int) -> Deleted:
    if ours:
        return Deleted(found.key, "deleted", found=found)
    if store.head(found.key) is not None:
        return Deleted(found.key, "changed", found=found)
    return Deleted(found.key, "deleted" if tries > 1 else "absent", found=found)


def _what_was_hidden(store: PhotoStore, found: StoredObject, marker: str | None, *, tries: int) -> Deleted:
    """Look up what our marker hides, and take it back if that is another object than the one that was meant.

    `marker` is None where the request was refused; it may still have been an earlier try's success.
    """
    meant = found.version_id or _NO_VERSION
    if marker == meant == _NO_VERSION:
        # Versioning is suspended: the marker has taken the place of the only version.
        return Deleted(found.key, "deleted", found=found)
    history = [each for each in list_versions(store, found.key) if each.key == found.key]
    latest = next((each for each in history if each.is_latest), None)
    if marker is None and latest and latest.is_marker and tries > 1:
        marker = latest.version_id
    if marker not in {each.version_id for each in history if each.is_marker}:
        return Deleted(found.key, "changed" if latest and not latest.is_marker else "absent", found=found)
    if _is_next(meant, history):
        _remove_repetitions(store, history, marker, meant, tries=tries)
        return Deleted(found.key, "deleted", meant, marker, found=found)
    # Somebody stored another object between look and request, and the server ignored the condition.
    _delete_version(store, found.key, str(marker))
    return Deleted(found.key, "changed", found=found)


def _is_next(meant: str, history: list[ObjectVersion]) -> bool:
    """Return whether the version is the newest one but for one that was stored after the delete.

    Told by the versions' own order: between versions and markers a listing's whole seconds decide nothing.
    """
    versions = [each for each in history if not each.is_marker]
    newer = versions[1:] if versions and versions[0].is_latest else versions
    return bool(newer) and newer[0].version_id == meant


def _remove_repetitions(
    store: PhotoStore, history: list[ObjectVersion], marker: str | None, meant: str, *, tries: int
) -> None:
    """Remove the markers of earlier tries whose answer was lost: undoing must not meet a second one."""
    stored_at = next(each.last_modified for each in history if each.version_id == meant)
    for each in history if tries > 1 else ():
        if each.is_marker and each.version_id != marker and each.last_modified >= stored_at:
            _delete_version(store, each.key, each.version_id)


def _delete_version(store: PhotoStore, key: str, version_id: str) -> None:
    try:
        with store_errors(f"s3://{store.bucket}/{key}"):
            store.control(lambda: store.s3.delete_object(Bucket=store.bucket, Key=key, VersionId=version_id))
    except MissingObjectError:
        pass
