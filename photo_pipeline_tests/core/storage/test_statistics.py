"""How much is stored, by prefix and kind."""

import uuid
from functools import partial

import pytest

from photo_pipeline.core.storage.listing import list_objects
from photo_pipeline.core.storage.statistics import Amount, ObjectKind, kind_of, store_statistics
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline_tests.core.storage.two_servers import Served, embedded, rclone, served

__all__ = ["embedded", "rclone", "served"]
SHA = "ab" * 32


def test_each_object_counts_once_under_its_kind(served: Served) -> None:
    apart = {"prefix": f"{uuid.uuid4().hex}/photos", "originals_prefix": f"{uuid.uuid4().hex}/originals"}
    store = PhotoStore.open(served.store.settings.model_copy(update=apart))
    prefix, originals = store.settings.prefix, store.settings.originals_prefix
    for key, size in {
        f"{prefix}/ab/{SHA}/0123456789abcdef/full.avif": 10,
        f"{prefix}/ab/{SHA}/0123456789abcdef/full.jpg": 30,
        f"{prefix}/ab/{SHA}/0123456789abcdef/thumb.jpg": 5,
        f"{originals}/ab/{SHA}.jpg": 100,
        f"{prefix}-backups/rows.parquet": 7,
        f"{prefix}/stray.txt": 1,
    }.items():
        assert store.put_new(key, b"x" * size, content_type="x/x")
    seen: list[tuple[str, int, int | None]] = []
    found = store_statistics(store, [f"{prefix}", f"{originals}/"], progress=lambda *step: seen.append(step))
    assert found.total == Amount(6, 153)
    assert found.by("kind") == {"variant": Amount(3, 45), "original": Amount(1, 100), "other": Amount(2, 8)}
    assert found.by("format")["jpg"] == Amount(3, 135)
    assert found.by("variant")["full"] == Amount(2, 40)
    assert found.by("prefix") == {prefix: Amount(4, 46), originals: Amount(1, 100), "": Amount(1, 7)}
    assert seen[-1] == ("objects", 6, 6)


def test_kinds_are_told_by_the_whole_key() -> None:
    assert kind_of(f"photos/ab/{SHA}/0f/full.jpg", ["photos"]) == ObjectKind(
        "photos", "variant", "full", "jpg"
    )
    for key in (f"photos/ab/{SHA}/0f/full.jpg/x", f"photos/ab/{SHA[1:]}/0f/full.jpg", "photos/a.jpg"):
        assert kind_of(key, ["photos"]) == ObjectKind("photos", "other")
    assert kind_of("photosynthesis/a.jpg", ["photos"]) == ObjectKind("", "other")


def test_a_listing_goes_on_over_pages_and_from_where_it_ended(
    embedded: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = embedded.key("many"), embedded.store
    for number in range(5):
        store.put_new(f"{folder}/{number}", b"x", content_type="x/x")
    monkeypatch.setattr(store.s3, "list_objects_v2", partial(store.s3.list_objects_v2, MaxKeys=2))
    keys = [each.key for each in list_objects(store, f"{folder}/")]
    assert keys == [f"{folder}/{number}" for number in range(5)]
    assert [each.key for each in list_objects(store, f"{folder}/", start_after=keys[2])] == keys[3:]
