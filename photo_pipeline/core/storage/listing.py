"""What is in the bucket: objects and versions, page by page, in constant memory.

By boto3, whose listings come percent-encoded: obstore's fail on keys that it would not accept itself, and a
stranger's key must not blind us to our own objects.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from photo_pipeline.core.storage.faults import store_errors
from photo_pipeline.core.storage.objects import ListedObject, ObjectVersion

if TYPE_CHECKING:
    from photo_pipeline.core.storage.store import PhotoStore


def list_objects(store: "PhotoStore", prefix: str, *, start_after: str = "") -> Iterator[ListedObject]:
    """Yield every object whose key starts with `prefix`, in the order of their keys' UTF-8 bytes.

    One request per 1,000 objects. `prefix` is a plain beginning: end it with a slash to mean a folder.

    Args:
        store: The bucket.
        prefix: What the keys start with; empty for all.
        start_after: Leave out the keys up to this one, to go on where an earlier listing ended.

    Raises:
        StoreError: the store failed or refused a request after retries.
    """
    for page in list_pages(store, prefix, start_after=start_after):
        yield from page


def list_pages(store: "PhotoStore", prefix: str, *, start_after: str = "") -> Iterator[list[ListedObject]]:
    """Yield what `list_objects` does, one request's answer at a time."""
    options: dict[str, Any] = {"StartAfter": start_after} if start_after else {}
    with store_errors(f"s3://{store.bucket}/{prefix}"):
        while True:
            ask = partial(store.s3.list_objects_v2, Bucket=store.bucket, Prefix=prefix, **options)
            page = store.control(ask)
            yield [_listed(each) for each in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return
            options = {"ContinuationToken": page["NextContinuationToken"]}


def list_versions(store: "PhotoStore", prefix: str) -> Iterator[ObjectVersion]:
    """Yield every version and delete marker whose key starts with `prefix`, by key, newest first.

    A key's versions come in the store's order, and so do its markers. Between the two, times decide, which S3
    tells in whole seconds; only the latest of all is certain (`is_latest`).

    Raises:
        StoreError: the store failed or refused a request, or knows no versions at all (rclone serve s3).
    """
    options: dict[str, Any] = {}
    with store_errors(f"s3://{store.bucket}/{prefix}"):
        while True:
            ask = partial(store.s3.list_object_versions, Bucket=store.bucket, Prefix=prefix, **options)
            page = store.control(ask)
            yield from _page_of_versions(page)
            if not page.get("IsTruncated"):
                return
            options = {"KeyMarker": page["NextKeyMarker"]}
            if page.get("NextVersionIdMarker"):
                options["VersionIdMarker"] = page["NextVersionIdMarker"]


def _listed(entry: dict[str, Any]) -> ListedObject:
    return ListedObject(
        key=entry["Key"],
        size=int(entry["Size"]),
        last_modified=entry["LastModified"],
        etag=entry.get("ETag", "").strip('"'),
        storage_class=entry.get("StorageClass", "STANDARD"),
    )


def _page_of_versions(page: dict[str, Any]) -> list[ObjectVersion]:
    """Return the page's versions and markers, which come in two lists, in one order."""
    versions = [_version(each, is_marker=False) for each in page.get("Versions", ())]
    markers = [_version(each, is_marker=True) for each in page.get("DeleteMarkers", ())]
    newest_first = sorted(
        versions + markers, key=lambda each: (each.is_latest, each.last_modified), reverse=True
    )
    return sorted(newest_first, key=lambda each: each.key.encode())


def _version(entry: dict[str, Any], *, is_marker: bool) -> ObjectVersion:
    return ObjectVersion(
        key=entry["Key"],
        version_id=entry["VersionId"],
        is_latest=bool(entry["IsLatest"]),
        is_marker=is_marker,
        size=0 if is_marker else int(entry["Size"]),
        last_modified=entry["LastModified"],
        etag="" if is_marker else entry.get("ETag", "").strip('"'),
    )
