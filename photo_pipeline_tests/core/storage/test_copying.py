"""Copies and moves on two real servers: proven, never over other bytes, the source last."""

import os

import pytest

from photo_pipeline.core.errors import PhotoChangedError, StorageConflictError
from photo_pipeline.core.storage import copying
from photo_pipeline.core.storage.copying import copy_object, move_object
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline_tests.core.storage.two_servers import Served, embedded, rclone, served

__all__ = ["embedded", "rclone", "served"]
_METADATA = {"photo-id": "7"}


def put(served: Served, data: bytes) -> str:
    key = served.key("käse & brot+1.jpg")
    assert served.store.put_new(
        key, data, content_type="image/jpeg", cache_control="no-cache", metadata=_METADATA
    )
    return key


def test_a_copy_has_the_bytes_and_the_facts_and_leaves_the_source(served: Served) -> None:
    data, target = os.urandom(2_000), served.key("copy.jpg")
    source = put(served, data)
    copied = copy_object(served.store, source, target, probe=served.probe)
    assert (copied.created, copied.proven_by) == (True, served.probe.verification)
    assert served.store.read(target) == served.store.read(source) == data
    found = served.store.head(target)
    assert (found.content_type, found.cache_control) == ("image/jpeg", "no-cache")
    assert found.metadata["photo-id"] == "7"
    assert not copy_object(served.store, source, target, probe=served.probe).created


def test_other_bytes_under_the_target_are_left(served: Served) -> None:
    source, target = put(served, b"ours"), put(served, b"theirs")
    for act in (copy_object, move_object):
        with pytest.raises(StorageConflictError, match="other bytes"):
            act(served.store, source, target, probe=served.probe)
    assert (served.store.read(source), served.store.read(target)) == (b"ours", b"theirs")


def test_a_move_leaves_one_object_and_can_be_repeated_after_half_of_it(served: Served) -> None:
    source, target = put(served, b"ours"), served.key("moved.jpg")
    copy_object(served.store, source, target, probe=served.probe)
    moved = move_object(served.store, source, target, probe=served.probe)
    assert (moved.copied.created, moved.deleted.outcome) == (False, "deleted")
    assert (served.store.read(source), served.store.read(target)) == (None, b"ours")


def test_what_is_not_there_or_is_its_own_target_is_said(served: Served) -> None:
    with pytest.raises(StorageConflictError, match="no such object"):
        copy_object(served.store, served.key(), served.key(), probe=served.probe)
    source = put(served, b"ours")
    with pytest.raises(StorageConflictError, match="one key"):
        move_object(served.store, source, source, probe=served.probe)
    assert served.store.read(source) == b"ours"


def test_a_source_that_is_replaced_after_it_was_copied_is_kept(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = put(served, b"ours"), served.key("moved.jpg")

    def copy_then_replace(store: PhotoStore, *keys: str, **options: object) -> copying.Copied:
        copied = copy_object(store, *keys, **options)  # type: ignore[arg-type]
        store.s3.put_object(Bucket=store.bucket, Key=source, Body=b"newer")
        return copied

    monkeypatch.setattr(copying, "copy_object", copy_then_replace)
    with pytest.raises(PhotoChangedError, match="replaced or deleted meanwhile"):
        move_object(served.store, source, target, probe=served.probe)
    assert (served.store.read(source), served.store.read(target)) == (b"newer", b"ours")
