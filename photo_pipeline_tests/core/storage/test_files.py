"""Files to and from two real servers: whole, proven, in place at once or not at all."""

import hashlib
import os
from pathlib import Path

import pytest

from photo_pipeline.core.errors import (
    GuardRefusedError,
    InfrastructureError,
    PhotoChangedError,
    StorageConflictError,
    StoreError,
)
from photo_pipeline.core.storage import files
from photo_pipeline.core.storage.files import download_file, upload_file
from photo_pipeline.core.storage.multipart import put_parts
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline_tests.core.storage.two_servers import Served, embedded, rclone, served
from photo_pipeline_tests.fault_proxy import Fault, FaultProxy

__all__ = ["embedded", "rclone", "served"]
_MIB = 1024**2


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "local.jpg"
    path.write_bytes(os.urandom(300_000))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Two parts of the smallest size that S3 takes, and a bit."""
    path = tmp_path / "large.tif"
    path.write_bytes(os.urandom(2 * 5 * _MIB + 1_000))
    return path


@pytest.fixture
def five_mib_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(put_parts, "__kwdefaults__", {**put_parts.__kwdefaults__, "part_bytes": 5 * _MIB})


def hidden(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if each.name.startswith(".")]


def unfinished(store: PhotoStore) -> list[str]:
    return [each["Key"] for each in store.s3.list_multipart_uploads(Bucket=store.bucket).get("Uploads", ())]


def test_a_file_goes_up_and_comes_down_the_same(served: Served, local: Path, tmp_path: Path) -> None:
    key, seen = served.key(), []
    sent = upload_file(
        served.store,
        local,
        key,
        probe=served.probe,
        content_type="image/jpeg",
        progress=lambda *step: seen.append(step),
    )
    digest = hashlib.sha256(local.read_bytes()).hexdigest()
    assert (sent.size, sent.sha256, sent.created) == (300_000, digest, True)
    assert sent.proven_by == served.probe.verification
    got = download_file(served.store, key, tmp_path / "copy.jpg", progress=lambda *step: seen.append(step))
    assert (got.path.read_bytes(), got.sha256, got.size) == (local.read_bytes(), digest, 300_000)
    assert seen[0] == ("upload", 300_000, 300_000)
    assert seen[-1] == ("download", 300_000, 300_000)
    assert hidden(tmp_path) == []


def test_the_same_file_again_is_adopted_and_another_one_refused(
    served: Served, local: Path, tmp_path: Path
) -> None:
    key = served.key()
    upload_file(served.store, local, key, probe=served.probe)
    assert not upload_file(served.store, local, key, probe=served.probe).created
    other = tmp_path / "other.jpg"
    other.write_bytes(local.read_bytes()[::-1])
    with pytest.raises(StorageConflictError, match="other bytes"):
        upload_file(served.store, other, key, probe=served.probe)
    assert served.store.read(key) == local.read_bytes()


@pytest.mark.usefixtures("five_mib_parts")
def test_a_large_file_goes_up_in_parts_that_prove_the_whole(
    served: Served, large: Path, tmp_path: Path
) -> None:
    key, seen = served.key("large.tif"), []
    sent = upload_file(
        served.store,
        large,
        key,
        probe=served.probe,
        multipart_above=_MIB,
        progress=lambda _stage, done, _total: seen.append(done),
    )
    assert (sent.created, seen) == (True, [5 * _MIB, 10 * _MIB, large.stat().st_size])
    if served.name == "embedded":
        assert served.store.look(key).etag.endswith("-3")
    assert download_file(served.store, key, tmp_path / "again", sha256=sent.sha256).sha256 == sent.sha256
    assert (tmp_path / "again").read_bytes() == large.read_bytes()
    assert not upload_file(served.store, large, key, probe=served.probe, multipart_above=_MIB).created


@pytest.mark.usefixtures("five_mib_parts")
def test_completing_never_overwrites_and_leaves_no_parts(
    embedded: Served, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embedded only: others ignore the condition, and are only looked at before (docs/s3-servers.md)."""
    key = embedded.key("large.tif")
    embedded.store.put_new(key, b"first", content_type="image/tiff")
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    for seen in (True, False):
        if not seen:  # as if the object had come between the look and the request
            monkeypatch.setattr(PhotoStore, "look", lambda *_: None)
        with large.open("rb") as file:
            sent = put_parts(embedded.store, key, file, sha256=digest, content_type="image/tiff")
        assert not sent.created
    assert (embedded.store.read(key), unfinished(embedded.store)) == (b"first", [])


@pytest.mark.usefixtures("five_mib_parts")
def test_a_file_that_is_another_one_by_its_last_part_makes_no_object(embedded: Served, large: Path) -> None:
    key = embedded.key("large.tif")
    with large.open("rb") as file, pytest.raises(PhotoChangedError, match=r"large\.tif"):
        put_parts(embedded.store, key, file, sha256="0" * 64, content_type="image/tiff")
    assert (embedded.store.head(key), unfinished(embedded.store)) == (None, [])


@pytest.mark.usefixtures("five_mib_parts", "quick_tries")
def test_a_part_that_always_fails_leaves_neither_object_nor_parts(embedded: Served, large: Path) -> None:
    key = embedded.key("large.tif")

    def every_part_but_the_first(method: str, _path: str, earlier: int) -> Fault | None:
        return Fault.SLOW_DOWN if method == "PUT" and earlier > 0 else None

    with FaultProxy(embedded.url, every_part_but_the_first) as proxy:
        store = embedded.through(proxy.url)
        with pytest.raises(StoreError, match="SlowDown"):
            upload_file(store, large, key, probe=embedded.probe, multipart_above=_MIB)
        assert proxy.injected[Fault.SLOW_DOWN] == 10
    assert (embedded.store.head(key), unfinished(embedded.store)) == (None, [])


@pytest.mark.usefixtures("five_mib_parts", "quick_tries")
@pytest.mark.parametrize("fault", [Fault.FLIP_BIT, Fault.LOSE_ANSWER, Fault.SLOW_DOWN, Fault.TRUNCATE])
def test_parts_arrive_whole_in_spite_of(embedded: Served, large: Path, fault: Fault) -> None:
    key = embedded.key("large.tif")

    def first_of_each(method: str, _path: str, earlier: int) -> Fault | None:
        return fault if (method, earlier) in (("PUT", 0), ("PUT", 2), ("POST", 1)) else None

    with FaultProxy(embedded.url, first_of_each) as proxy:
        sent = upload_file(
            embedded.through(proxy.url), large, key, probe=embedded.probe, multipart_above=_MIB
        )
        assert proxy.injected[fault] == 3
    # By the SHA-256 of the parts' SHA-256s, which the server reports: nothing had to be read back.
    assert (sent.created, sent.proven_by) == (True, "checksum")
    assert embedded.store.read(key) == large.read_bytes()


def test_damage_on_the_way_down_is_read_again_and_what_stays_wrong_is_not_kept(
    served: Served, local: Path, tmp_path: Path
) -> None:
    key, target = served.key(), tmp_path / "copy.jpg"
    upload_file(served.store, local, key, probe=served.probe)

    def first_get(method: str, _path: str, earlier: int) -> Fault | None:
        return Fault.FLIP_ANSWER if method == "GET" and earlier == 0 else None

    with FaultProxy(served.url, first_get) as proxy:
        store = served.through(proxy.url)
        assert download_file(store, key, target).path.read_bytes() == local.read_bytes()
        assert proxy.injected[Fault.FLIP_ANSWER] == 1
    with pytest.raises(StorageConflictError, match="nothing was kept"):
        download_file(served.store, key, tmp_path / "wrong.jpg", sha256="0" * 64)
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == ["copy.jpg", "local.jpg"]


def test_a_file_that_is_there_stays_unless_it_may_be_replaced(
    served: Served, local: Path, tmp_path: Path
) -> None:
    key, target = served.key(), tmp_path / "precious.jpg"
    upload_file(served.store, local, key, probe=served.probe)
    target.write_bytes(b"precious")
    with pytest.raises(GuardRefusedError, match="there is a file already"):
        download_file(served.store, key, target)
    assert target.read_bytes() == b"precious"
    download_file(served.store, key, target, replace=True)
    assert target.read_bytes() == local.read_bytes()


def test_a_file_that_appears_during_the_download_stays(
    embedded: Served, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, target = embedded.key(), tmp_path / "precious.jpg"
    upload_file(embedded.store, local, key, probe=embedded.probe)
    with pytest.raises(GuardRefusedError, match="there is a file already"):
        download_file(embedded.store, key, target, progress=lambda *_: target.write_bytes(b"precious"))
    assert target.read_bytes() == b"precious"
    assert hidden(tmp_path) == []


def test_what_nothing_vouches_for_is_not_downloaded_unless_its_checksum_is_said(
    embedded: Served, tmp_path: Path
) -> None:
    key = embedded.key()
    embedded.store.s3.put_object(
        Bucket=embedded.store.bucket, Key=key, Body=b"theirs", ChecksumAlgorithm="CRC32"
    )
    with pytest.raises(GuardRefusedError, match="keeps no SHA-256"):
        download_file(embedded.store, key, tmp_path / "theirs")
    digest = hashlib.sha256(b"theirs").hexdigest()
    assert download_file(embedded.store, key, tmp_path / "theirs", sha256=digest).size == 6


def test_an_absent_object_an_absent_file_and_a_full_disk_are_told_apart(
    embedded: Served, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageConflictError, match="no such object"):
        download_file(embedded.store, embedded.key(), tmp_path / "x")
    with pytest.raises(InfrastructureError, match="No such file"):
        upload_file(embedded.store, tmp_path / "none", embedded.key(), probe=embedded.probe)
    key = embedded.key()
    upload_file(embedded.store, local, key, probe=embedded.probe)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(InfrastructureError, match=r"No space left.*free space"):
        download_file(embedded.store, key, tmp_path / "x")
    assert hidden(tmp_path) == []


@pytest.mark.usefixtures("quick_tries")
def test_an_object_that_is_deleted_before_its_bytes_come_is_said_to_be_absent(
    embedded: Served, tmp_path: Path
) -> None:
    key = embedded.key()
    embedded.store.put_new(key, b"x" * 1_000, content_type="x/x")

    def delete_first(method: str, _path: str, _earlier: int) -> None:
        if method == "GET":
            embedded.store.delete(key)

    with (
        FaultProxy(embedded.url, delete_first) as proxy,
        pytest.raises(StorageConflictError, match="there is no such object"),
    ):
        download_file(embedded.through(proxy.url), key, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_server_that_never_answers_the_first_request_for_parts_costs_no_bodys_time(
    embedded: Served, large: Path
) -> None:
    """Its limit is a control request's, 18 s in all; a part may take 17 minutes."""
    with FaultProxy(embedded.url, lambda method, *_: Fault.HANG if method == "POST" else None) as proxy:
        store = embedded.through(proxy.url)
        with pytest.raises(StoreError):
            upload_file(store, large, embedded.key("large.tif"), probe=embedded.probe, multipart_above=_MIB)
