"""Conditional deletes, and the way back: only what was seen is deleted, and a version brings it back."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import boto3
import pytest

from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.errors import ObjectKeyError
from photo_pipeline.core.storage.deletion import delete_object, destroy_version, keeps_versions, undelete
from photo_pipeline.core.storage.listing import list_objects, list_versions
from photo_pipeline.core.storage.objects import Deleted, ListedObject, StoredObject
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import embedded_credentials
from photo_pipeline_tests.core.storage.conftest import settings_at
from photo_pipeline_tests.fault_proxy import Fault, FaultProxy

Bucket = Callable[[str], StoreSettings]


@pytest.fixture(scope="module")
def bucket(servers: RunningServers) -> Iterator[Bucket]:
    """The settings of a bucket whose versioning is "Enabled", "Suspended" or was never set ("")."""
    made: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as environment:
        embedded_credentials(environment)

        def settings(versioning: str) -> StoreSettings:
            if versioning not in made:
                made[versioning] = f"deletes-{versioning.lower()}-{uuid.uuid4().hex[:8]}"
                create_bucket(servers, made[versioning], versioning)
            return settings_at(servers, bucket=made[versioning])

        yield settings


def create_bucket(servers: RunningServers, name: str, versioning: str) -> None:
    s3 = boto3.client("s3", endpoint_url=servers.s3_url, region_name=servers.region)
    s3.create_bucket(Bucket=name)
    if versioning:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": versioning})


@pytest.fixture(scope="module")
def versioned(bucket: Bucket) -> PhotoStore:
    return PhotoStore.open(bucket("Enabled"))


@pytest.fixture(scope="module")
def plain(bucket: Bucket) -> PhotoStore:
    return PhotoStore.open(bucket(""))


@pytest.fixture
def either(request: pytest.FixtureRequest) -> PhotoStore:
    """The bucket with versions, or the one without."""
    return request.getfixturevalue(request.param)


in_both = pytest.mark.parametrize("either", ["versioned", "plain"], indirect=True)


@pytest.fixture
def key() -> str:
    return f"photos/{uuid.uuid4().hex}/a.jpg"


def stored(store: PhotoStore, key: str, data: bytes = b"ours") -> StoredObject:
    assert store.put_new(key, data, content_type="image/jpeg")
    found = store.head(key)
    assert found is not None
    return found


def overwrite(store: PhotoStore, key: str, data: bytes) -> None:
    store.s3.put_object(Bucket=store.bucket, Key=key, Body=data)


def without_its_condition(params: dict[str, Any], **_: Any) -> None:
    params["headers"].pop("If-Match", None)


@contextmanager
def before_the_request(store: PhotoStore, act: Callable[[], None], *, lax: bool = False) -> Iterator[None]:
    """Let something happen between look and request; a lax server does not get to see the condition."""

    def hook(params: dict[str, Any], **_: Any) -> None:
        store.s3.meta.events.unregister(event, hook)
        act()
        if lax:
            without_its_condition(params)

    event = "before-call.s3.DeleteObject"
    store.s3.meta.events.register(event, hook)
    yield


@contextmanager
def losing_the_first_answer(store: PhotoStore, servers: RunningServers) -> Iterator[PhotoStore]:
    def first_delete(method: str, _path: str, earlier: int) -> Fault | None:
        return Fault.LOSE_ANSWER if method == "DELETE" and earlier == 0 else None

    with FaultProxy(servers.s3_url, first_delete) as proxy:
        yield PhotoStore.open(store.settings.model_copy(update={"endpoint_url": proxy.url}))
        assert proxy.injected[Fault.LOSE_ANSWER] == 1


def markers(store: PhotoStore, key: str) -> list[bool]:
    return sorted(each.is_marker for each in list_versions(store, key))


def test_with_versions_a_deleted_object_comes_back_as_it_was(versioned: PhotoStore, key: str) -> None:
    before = stored(versioned, key)
    deleted = delete_object(versioned, before)
    assert (deleted.outcome, deleted.version_id, deleted.can_be_undone) == (
        "deleted",
        before.version_id,
        True,
    )
    assert versioned.head(key) is None
    assert undelete(versioned, deleted)
    assert (versioned.head(key), versioned.read(key)) == (before, b"ours")
    assert not undelete(versioned, Deleted(key, "absent"))


def test_without_versions_a_deleted_object_is_gone_and_says_so(plain: PhotoStore, key: str) -> None:
    deleted = delete_object(plain, stored(plain, key))
    assert (deleted.outcome, deleted.can_be_undone) == ("deleted", False)
    assert not undelete(plain, deleted)
    assert plain.head(key) is None


def test_what_versioning_that_was_suspended_replaces_is_gone_and_what_it_kept_comes_back(
    bucket: Bucket, key: str
) -> None:
    store = PhotoStore.open(bucket("Suspended"))
    before = stored(store, key)
    deleted = delete_object(store, before)
    assert deleted.outcome == "deleted"
    assert undelete(store, deleted) is deleted.can_be_undone is (store.head(key) is not None)


@in_both
def test_a_listed_object_can_be_deleted_as_it_was_listed(either: PhotoStore, key: str) -> None:
    stored(either, key)
    (listed,) = list_objects(either, key)
    assert delete_object(either, listed).outcome == "deleted"
    assert either.head(key) is None


def test_deleting_what_is_not_there_makes_no_marker(versioned: PhotoStore, key: str) -> None:
    before = stored(versioned, key)
    assert delete_object(versioned, before).outcome == "deleted"
    assert delete_object(versioned, before).outcome == "absent"
    assert markers(versioned, key) == [False, True]


@in_both
def test_an_object_that_was_replaced_since_it_was_seen_is_left(either: PhotoStore, key: str) -> None:
    before = stored(either, key)
    overwrite(either, key, b"theirs")
    assert delete_object(either, before).outcome == "changed"
    assert either.read(key) == b"theirs"


@in_both
def test_the_same_bytes_stored_at_another_time_are_another_object(either: PhotoStore, key: str) -> None:
    seen = stored(either, key)
    assert seen.last_modified is not None
    earlier = ListedObject(key, seen.size, seen.last_modified - timedelta(seconds=1), seen.etag)
    assert delete_object(either, earlier).outcome == "changed"
    assert delete_object(either, replace(earlier, etag="", last_modified=seen.last_modified)).outcome == (
        "changed"
    )
    assert either.read(key) == b"ours"


@in_both
def test_a_replacement_between_look_and_request_is_left(either: PhotoStore, key: str) -> None:
    before = stored(either, key)
    with before_the_request(either, lambda: overwrite(either, key, b"theirs")):
        assert delete_object(either, before).outcome == "changed"
    assert either.read(key) == b"theirs"


@in_both
def test_a_deletion_by_somebody_else_between_look_and_request_is_theirs(either: PhotoStore, key: str) -> None:
    before = stored(either, key)
    with before_the_request(either, lambda: either.delete(key)):
        assert delete_object(either, before).outcome == "absent"


def test_a_replacement_that_a_lax_server_deleted_is_brought_back(versioned: PhotoStore, key: str) -> None:
    before = stored(versioned, key)
    with before_the_request(versioned, lambda: overwrite(versioned, key, b"theirs"), lax=True):
        assert delete_object(versioned, before).outcome == "changed"
    assert versioned.read(key) == b"theirs"
    assert markers(versioned, key) == [False, False]


@pytest.mark.parametrize("lax", [True, False])
def test_a_lost_answer_leaves_one_marker_and_the_way_back(
    versioned: PhotoStore, key: str, servers: RunningServers, lax: bool
) -> None:
    before = stored(versioned, key)
    with losing_the_first_answer(versioned, servers) as store:
        if lax:
            store.s3.meta.events.register("before-call.s3.DeleteObject", without_its_condition)
        deleted = delete_object(store, before)
    assert (deleted.outcome, deleted.can_be_undone) == ("deleted", True)
    assert markers(versioned, key) == [False, True]
    assert undelete(versioned, deleted)
    assert versioned.read(key) == b"ours"


def test_a_lost_answer_without_versions_counts_as_deleted(
    plain: PhotoStore, key: str, servers: RunningServers
) -> None:
    before = stored(plain, key)
    with losing_the_first_answer(plain, servers) as store:
        assert delete_object(store, before).outcome == "deleted"


def test_what_is_newer_than_the_delete_survives_its_undoing(versioned: PhotoStore, key: str) -> None:
    deleted = delete_object(versioned, stored(versioned, key))
    overwrite(versioned, key, b"newer")
    assert not undelete(versioned, deleted)
    assert versioned.read(key) == b"newer"


def test_only_the_key_itself_is_looked_up_and_not_those_that_start_like_it(
    versioned: PhotoStore, key: str
) -> None:
    before = stored(versioned, key)
    longer = stored(versioned, f"{key}.bak", b"longer")
    assert delete_object(versioned, before).outcome == "deleted"
    assert versioned.head(longer.key) == longer


def test_a_destroyed_version_cannot_come_back(versioned: PhotoStore, key: str) -> None:
    deleted = delete_object(versioned, stored(versioned, key))
    destroy_version(versioned, key, str(deleted.version_id))
    destroy_version(versioned, key, str(deleted.version_id))
    assert not undelete(versioned, deleted)
    assert list(list_versions(versioned, key)) == []


@pytest.mark.parametrize(("versioning", "kept"), [("Enabled", True), ("Suspended", False), ("", False)])
def test_whether_versions_are_kept_is_known_beforehand(bucket: Bucket, versioning: str, kept: bool) -> None:
    assert keeps_versions(PhotoStore.open(bucket(versioning))) is kept


def test_a_key_that_no_request_can_mean_is_refused_before_any(plain: PhotoStore, key: str) -> None:
    seen = replace(stored(plain, key), key=f"photos//{key}")
    with pytest.raises(ObjectKeyError, match="empty segment"):
        delete_object(plain, seen)
