"""Listings' answers are read by ourselves: they must say what botocore reads in them."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from photo_pipeline.core.storage.listing_answer import _take_objects
from photo_pipeline.core.storage.store import PhotoStore

_READ = {"Key", "Size", "LastModified", "ETag", "StorageClass"}
_NAMES = ("plain", "a space", "a+b%2B", "\u00e9 & <tag>.jpg", "deep/er/name")


def test_a_listing_says_what_botocore_reads_in_it(store: PhotoStore) -> None:
    prefix = store.settings.prefix
    for name in _NAMES:
        store.put_new(f"{prefix}/{name}", name.encode(), content_type="text/plain")
    # The session's other clients read by themselves.
    plain = store.session.client("s3", endpoint_url=store.settings.endpoint_url)
    for options in ({}, {"MaxKeys": 2}, {"Prefix": f"{prefix}/nothing"}):
        asked: dict[str, Any] = {"Bucket": store.bucket, "Prefix": f"{prefix}/"} | options
        theirs, ours = plain.list_objects_v2(**asked), store.s3.list_objects_v2(**asked)
        assert [set(each) for each in ours.get("Contents", [])] == [_READ] * ours["KeyCount"]
        shown = [{name: each[name] for name in _READ} for each in theirs.get("Contents", [])]
        assert ours.get("Contents", []) == shown
        for name in ("IsTruncated", "KeyCount", "Prefix", "MaxKeys"):
            assert ours[name] == theirs[name]


def test_what_is_no_good_answer_is_left_to_botocore(store: PhotoStore) -> None:
    for status, body in ((403, b"<Error/>"), (200, b"<ListBucketResult><Contents><Key>a</Key>"), (200, b"")):
        answer: dict[str, Any] = {"status_code": status, "body": body}
        taken: dict[str, Any] = {}
        _take_objects(answer, taken)
        assert (answer["body"], taken) == (body, {})
    with pytest.raises(ClientError, match="NoSuchBucket"):
        store.s3.list_objects_v2(Bucket="no-such-bucket-here")
