"""The object store over HTTP: what it keeps, what it refuses, and how it fails.

Everything is sent to a real server; faults are made by a proxy in front of it or by killing it.
"""

import json
import os
import select
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

import boto3
import pytest
from PIL import Image

from photo_pipeline.core.delivery.cloudfront import open_cloudfront
from photo_pipeline.core.errors import ConfigurationError, StoreError
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.process import process_batch
from photo_pipeline.core.migration.run import migrate_batch, new_run_id
from photo_pipeline.core.migration.upload import Uploaded, upload_batch
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.objects import StoredObject
from photo_pipeline.core.storage.retries import data_timeouts_s
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.demo.servers import EmbeddedServers, RunningServers
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY, MakeSite
from photo_pipeline_tests.core.storage.conftest import StoreAt
from photo_pipeline_tests.fault_proxy import Fault, FaultProxy, Rule
from photo_pipeline_tests.sites import TINY_VARIANTS, Site, item_photo, photo
from photo_pipeline_tests.sockets import free_port, listening_socket

BATCH = "batch-000001"
JPEG = "image/jpeg"


def key_of(store: PhotoStore, name: str) -> str:
    return f"{store.settings.prefix}/{name}"


def at_first(fault: Fault, *, every: int = 1) -> Rule:
    """Fail the first PUT of every n-th key."""
    chosen: dict[str, bool] = {}

    def rule(method: str, path: str, earlier: int) -> Fault | None:
        if method != "PUT" or "/.probe/" in path:
            return None
        hit = chosen.setdefault(path, len(chosen) % every == 0)
        return fault if hit and earlier == 0 else None

    return rule


def always(fault: Fault, *, method: str = "PUT") -> Rule:
    return lambda seen, path, _earlier: fault if seen == method and "/.probe/" not in path else None


# --- one object


def test_what_was_put_is_there_with_all_its_facts(store: PhotoStore) -> None:
    key = key_of(store, "a.jpg")
    created = store.put_new(
        key, b"bytes", content_type=JPEG, cache_control="public, max-age=60", metadata={"photo-id": "7"}
    )
    assert created
    assert store.read(key) == b"bytes"
    found = store.head(key)
    assert abs(datetime.now(UTC) - found.last_modified) < timedelta(minutes=10)
    assert found == StoredObject(
        key=key,
        size=5,
        sha256=sha256_hex(b"bytes"),
        content_type=JPEG,
        cache_control="public, max-age=60",
        metadata={"photo-id": "7"},
        etag=md5(b"bytes").hexdigest(),
        version_id=None,
        last_modified=found.last_modified,
    )


def test_an_existing_key_is_never_overwritten(store: PhotoStore) -> None:
    key = key_of(store, "a.jpg")
    assert store.put_new(key, b"first", content_type=JPEG)
    assert not store.put_new(key, b"second", content_type="image/png")
    assert (store.read(key), store.head(key).content_type) == (b"first", JPEG)


def test_of_sixteen_writers_of_one_key_exactly_one_stores_it(store: PhotoStore) -> None:
    key = key_of(store, "race.jpg")
    bodies = [f"writer {number}".encode() for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        created = list(pool.map(lambda body: store.put_new(key, body, content_type=JPEG), bodies))
    assert created.count(True) == 1
    assert store.read(key) == bodies[created.index(True)]


def test_sixteen_threads_store_and_read_two_hundred_objects(store: PhotoStore) -> None:
    bodies = {key_of(store, f"{number}.jpg"): os.urandom(2_000) for number in range(200)}
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda key: store.put_new(key, bodies[key], content_type=JPEG), bodies))
        assert dict(zip(bodies, pool.map(store.read, bodies), strict=True)) == bodies


@pytest.mark.parametrize("encryption", ["AES256", "aws:kms"])
def test_encryption_at_rest_is_asked_for(settings_for: StoreAt, encryption: str) -> None:
    store = PhotoStore.open(settings_for(encryption=encryption))
    key = key_of(store, "a.jpg")
    store.put_new(key, b"bytes", content_type=JPEG)
    assert store.s3.head_object(Bucket=store.bucket, Key=key)["ServerSideEncryption"] == encryption


@pytest.mark.parametrize("name", ["späß & co.jpg", "a b+c=d.jpg", "日本/写真.jpg", "100%.jpg"])
def test_keys_of_any_spelling_mean_the_same_object_to_every_request(store: PhotoStore, name: str) -> None:
    key = key_of(store, name)
    assert store.put_new(key, b"bytes", content_type=JPEG)
    assert not store.put_new(key, b"bytes", content_type=JPEG)
    assert store.read(key) == b"bytes"
    assert store.head(key).size == 5
    assert list(store.list(store.settings.prefix)) == [(key, 5)]
    store.delete(key)
    assert store.head(key) is None


def test_an_absent_object_has_no_facts_and_no_bytes_and_may_be_deleted(store: PhotoStore) -> None:
    key = key_of(store, "never.jpg")
    assert store.head(key) is None
    assert store.read(key) is None
    store.delete(key)


def test_an_empty_object_is_not_an_absent_one(store: PhotoStore) -> None:
    key = key_of(store, "empty")
    assert store.put_new(key, b"", content_type=JPEG)
    assert store.read(key) == b""
    assert store.head(key).sha256 == sha256_hex(b"")


def test_a_listing_has_every_object_below_the_prefix_and_no_other(store: PhotoStore) -> None:
    wanted = {key_of(store, f"deep/{number}.jpg"): number for number in range(1, 6)}
    for key, size in wanted.items():
        store.put_new(key, b"x" * size, content_type=JPEG)
    store.put_new(key_of(store, "deeper/1.jpg"), b"x", content_type=JPEG)
    assert dict(store.list(f"{store.settings.prefix}/deep")) == wanted
    assert list(store.list(f"{store.settings.prefix}/nothing")) == []


def test_an_object_stored_without_a_checksum_has_none(store: PhotoStore) -> None:
    key = key_of(store, "foreign.jpg")
    store.s3.put_object(Bucket=store.bucket, Key=key, Body=b"bytes", ChecksumAlgorithm="CRC32")
    assert store.head(key).sha256 is None


def test_a_multipart_checksum_is_composite_and_counts_as_none(store: PhotoStore) -> None:
    key = key_of(store, "parts.jpg")
    where = {"Bucket": store.bucket, "Key": key}
    upload = store.s3.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]
    part = store.s3.upload_part(
        **where, UploadId=upload, PartNumber=1, Body=b"bytes", ChecksumAlgorithm="SHA256"
    )
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}]
    store.s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    assert store.head(key).sha256 is None


# --- opening


def test_wrong_credentials_are_named_with_the_bucket(
    settings_for: StoreAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ConfigurationError, match=r"test-photos.*refuses these credentials.*AWS_SECRET"):
        PhotoStore.open(settings_for())


def test_missing_credentials_are_named(settings_for: StoreAt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(ConfigurationError, match="AWS credentials: there are none"):
        PhotoStore.open(settings_for())


def test_half_of_the_credentials_is_named(settings_for: StoreAt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for open_it in (lambda: PhotoStore.open(settings_for()), open_cloudfront):
        with pytest.raises(ConfigurationError, match=r"AWS credentials: .*missing: AWS_SECRET_ACCESS_KEY"):
            open_it()


def test_an_unknown_profile_is_named(settings_for: StoreAt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigurationError, match="nobody"):
        PhotoStore.open(settings_for())


def test_a_missing_bucket_is_named(settings_for: StoreAt) -> None:
    with pytest.raises(ConfigurationError, match="'no-such-bucket': it does not exist"):
        PhotoStore.open(settings_for(bucket="no-such-bucket"))


def test_a_server_that_is_not_there_is_infrastructure(settings_for: StoreAt) -> None:
    with pytest.raises(StoreError, match="does not answer") as caught:
        PhotoStore.open(settings_for(endpoint_url=f"http://127.0.0.1:{free_port()}"))
    assert caught.value.exit_code == 4


def test_an_endpoint_that_is_no_url_is_a_configuration_error(settings_for: StoreAt) -> None:
    with pytest.raises(ConfigurationError, match=r"not a url.*store\.endpoint_url"):
        PhotoStore.open(settings_for(endpoint_url="not a url"))


def test_a_bucket_name_that_no_bucket_can_have_is_a_configuration_error(settings_for: StoreAt) -> None:
    with pytest.raises(ConfigurationError, match=r"no such\?.*store\.bucket"):
        PhotoStore.open(settings_for(bucket="no such?"))


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up_within_thirty_seconds(settings_for: StoreAt) -> None:
    with listening_socket() as black_hole:
        started = time.monotonic()
        with pytest.raises(StoreError, match="does not answer"):
            PhotoStore.open(settings_for(endpoint_url=f"http://127.0.0.1:{black_hole.getsockname()[1]}"))
        assert time.monotonic() - started < 60


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["put", "head", "read", "list", "delete"])
def test_every_operation_gives_up_a_hanging_server_within_thirty_seconds(
    settings_for: StoreAt, servers: RunningServers, operation: str
) -> None:
    with FaultProxy(servers.s3_url, lambda *_: None) as proxy:
        store = PhotoStore.open(settings_for(endpoint_url=proxy.url))
        proxy.rule = lambda *_: Fault.HANG
        calls: dict[str, Any] = {
            "put": lambda: store.put_new("a", b"x", content_type=JPEG),
            "head": lambda: store.head("a"),
            "read": lambda: store.read("a"),
            "list": lambda: list(store.list("a")),
            "delete": lambda: store.delete("a"),
        }
        started = time.monotonic()
        with pytest.raises(StoreError):
            calls[operation]()
        assert time.monotonic() - started < 60


@pytest.mark.usefixtures("quick_tries")
@pytest.mark.parametrize("key", ["a.jpg", "403/a.jpg"])
def test_a_failing_server_is_not_taken_for_refused_credentials(
    settings_for: StoreAt, servers: RunningServers, key: str
) -> None:
    with FaultProxy(servers.s3_url, always(Fault.SLOW_DOWN)) as proxy:
        store = PhotoStore.open(settings_for(endpoint_url=proxy.url))
        with pytest.raises(StoreError, match=r"503.*heck the network and the server"):
            store.put_new(key, b"x", content_type=JPEG)


def test_credentials_refused_later_are_said_to_be_so(store: PhotoStore) -> None:
    rotated = boto3.Session(aws_access_key_id=ACCESS_KEY, aws_secret_access_key="rotated")
    with pytest.raises(StoreError, match="heck the credentials"):
        PhotoStore(store.settings, s3=store.s3, session=rotated).put_new("a", b"x", content_type=JPEG)


def test_a_large_body_gets_the_time_that_a_slow_uplink_needs() -> None:
    sizes = (0, 100 * 1024, 500 * 1024, 3 * 1024**2, 20 * 1024**2, 50 * 1024**2)
    limits = [data_timeouts_s(size)[-1] for size in sizes]
    assert limits == sorted(limits)
    assert all(sum(data_timeouts_s(size)) < 28 for size in sizes[:3])
    assert all(
        limit * 32 * 1024 >= size
        for limit, size in zip(limits[3:], (3 << 20, 20 << 20, 50 << 20), strict=True)
    )


@pytest.mark.usefixtures("quick_tries")
def test_a_large_body_that_is_refused_at_once_is_sent_again(
    settings_for: StoreAt, servers: RunningServers
) -> None:
    body = os.urandom(5 * 1024**2)
    with FaultProxy(servers.s3_url, at_first(Fault.SLOW_DOWN)) as proxy:
        store = PhotoStore.open(settings_for(endpoint_url=proxy.url))
        assert store.put_new(key_of(store, "large"), body, content_type=JPEG)
        assert proxy.injected[Fault.SLOW_DOWN] == 1


def test_a_body_beyond_the_smallest_time_limit_arrives_whole(store: PhotoStore) -> None:
    body = b"0123456789abcdef" * 65_536
    assert store.put_new("large", body, content_type=JPEG)
    assert store.read("large", size=len(body)) == body


# --- a batch on a server that fails


def at_proxy(site: Site, proxy: FaultProxy) -> Site:
    site.configure(store=site.settings["store"] | {"endpoint_url": proxy.url})
    return site


def prepare(site: Site, project: Project) -> None:
    """Inventory and variants: everything before the first upload."""
    site.inventory(project)
    with BatchLease(project.database, BATCH, run=new_run_id()) as lease:
        process_batch(project.database, project.config, lease, project.workers)


def upload(project: Project, **options: Any) -> Uploaded:
    with BatchLease(project.database, BATCH, run=new_run_id()) as lease:
        return upload_batch(
            project.database, project.config, lease, project.store, project.workers, **options
        )


@pytest.mark.usefixtures("quick_tries")
@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.CONFLICT, Fault.FLIP_BIT, Fault.LOSE_ANSWER])
def test_every_object_arrives_once_in_spite_of(
    make_site: MakeSite, servers: RunningServers, s3_access_log: Path, fault: Fault
) -> None:
    site = make_site(photos=3)
    with FaultProxy(servers.s3_url, at_first(fault, every=2)) as proxy:
        (outcome,) = at_proxy(site, proxy).migrate()
        assert proxy.injected[fault] == 12  # of 3 * 7 keys and two backups, every second
    assert (outcome.state, outcome.validated.passed) == ("completed", 3)
    assert outcome.uploaded.uploaded + outcome.uploaded.adopted == 3 * 7
    assert max(Counter(site.puts(s3_access_log)).values()) == 1
    assert len(site.puts(s3_access_log)) == 3 * 7


@pytest.mark.usefixtures("quick_tries")
def test_a_lost_answer_is_adopted_after_its_checksum_was_compared(
    make_site: MakeSite, servers: RunningServers
) -> None:
    site = make_site(photos=1)
    with (
        FaultProxy(servers.s3_url, at_first(Fault.LOSE_ANSWER)) as proxy,
        at_proxy(site, proxy).project() as p,
    ):
        prepare(site, p)
        outcome = upload(p)
    assert (outcome.uploaded, outcome.adopted, outcome.bytes) == (0, 7, 0)


def large_original(make_site: MakeSite, **settings: Any) -> tuple[Site, str]:
    """A site with one photo of 6 MB, and its original's key."""
    rows = [item_photo(0, "/uploads/items/0.jpg")]
    site = make_site(photos=0, rows=rows, variants=TINY_VARIANTS, **settings)
    noise = Image.frombytes("RGB", (1500, 1200), os.urandom(1500 * 1200 * 3))
    (site.uploads / "items").mkdir(exist_ok=True)
    noise.save(site.uploads / "items/0.jpg", quality=98)
    assert (site.uploads / "items/0.jpg").stat().st_size > 2 * 1024**2
    return site, original_key(site)


def test_a_large_original_goes_in_parts_and_is_proven_by_the_parts_checksums(make_site: MakeSite) -> None:
    site, key = large_original(make_site)
    site.configure(upload={"multipart_above": "1 MB"})
    with site.project() as project:
        prepare(site, project)
        outcome = upload(project)
        assert project.store.look(key).etag.endswith("-1")
        assert project.store.read(key, size=6_000_000) == (site.uploads / "items/0.jpg").read_bytes()
        # Three requests of the dear class for the object in parts, and none to read it back.
        assert outcome.requests == {"PUT": 6 + 3, "HEAD": 7}
        assert site.execute("SELECT verified_by FROM pp_object WHERE variant = 'original'") == [("checksum",)]


def test_a_large_original_that_changed_since_it_was_catalogued_makes_no_object(make_site: MakeSite) -> None:
    site, key = large_original(make_site)
    site.configure(upload={"multipart_above": "1 MB"})
    with site.project() as project:
        prepare(site, project)
        path = site.uploads / "items/0.jpg"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        upload(project)
        assert project.store.head(key) is None
    ((error_type, _),) = site.execute("SELECT error_type, error_detail FROM pp_photo")
    assert error_type == "changed_on_disk"


@pytest.mark.usefixtures("quick_tries")
def test_a_body_that_is_always_damaged_on_its_way_is_reported_and_never_stored(
    make_site: MakeSite, servers: RunningServers, s3_access_log: Path
) -> None:
    site = make_site(photos=1)
    before = site.dump()
    with FaultProxy(servers.s3_url, always(Fault.FLIP_BIT)) as proxy:
        with at_proxy(site, proxy).project() as project:
            prepare(site, project)
            with pytest.raises(StoreError, match="s3://test-photos/"):
                upload(project)
        assert proxy.injected[Fault.FLIP_BIT] >= 3
    assert site.puts(s3_access_log) == []
    assert site.execute("SELECT COUNT(*) FROM pp_object WHERE verified_at IS NOT NULL") == [(0,)]
    assert site.dump() == before


@pytest.mark.slow
def test_a_batch_gives_up_a_server_that_takes_no_object_after_two_objects_time(
    make_site: MakeSite, servers: RunningServers
) -> None:
    """The server still answers for the bucket, so that it takes three photos to judge it: 25 s, twice."""
    site = make_site(photos=8)
    with FaultProxy(servers.s3_url, lambda *_: None) as proxy, at_proxy(site, proxy).project() as project:
        prepare(site, project)
        proxy.rule = always(Fault.HANG)
        started = time.monotonic()
        with pytest.raises(StoreError):
            upload(project)
        assert time.monotonic() - started < 60


def original_key(site: Site) -> str:
    data = (site.uploads / "items/0.jpg").read_bytes()
    digest = sha256_hex(data)
    return f"{site.settings['store']['originals_prefix']}/{digest[:2]}/{digest}.jpg"


def test_foreign_bytes_under_our_key_cost_that_photo_and_are_left_alone(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    before, key = site.dump(), original_key(site)
    with site.project() as project:
        project.store.put_new(key, b"somebody else's", content_type="text/plain")
        site.inventory(project)
        migrate_batch(project, BATCH, run=new_run_id())
        assert project.store.read(key) == b"somebody else's"
    assert site.dump() == before
    ((error_type, detail),) = site.execute("SELECT error_type, error_detail FROM pp_photo")
    assert error_type == "storage_conflict"
    assert key in detail
    assert "other bytes" in detail


@pytest.mark.parametrize("algorithm", ["SHA256", "CRC32"])
def test_equal_bytes_under_our_key_are_adopted_with_or_without_a_checksum(
    make_site: MakeSite, s3_access_log: Path, algorithm: str
) -> None:
    site = make_site(photos=1)
    with site.project() as project:
        project.store.s3.put_object(
            Bucket=project.store.bucket,
            Key=original_key(site),
            Body=(site.uploads / "items/0.jpg").read_bytes(),
            ContentType=JPEG,
            ChecksumAlgorithm=algorithm,
        )
        site.inventory(project)
        outcome = migrate_batch(project, BATCH, run=new_run_id())
    assert outcome.state == "completed"
    assert (outcome.uploaded.adopted, outcome.uploaded.uploaded) == (1, 6)
    assert len(site.puts(s3_access_log)) == 7


def test_metadata_tells_a_non_ascii_path_in_ascii(make_site: MakeSite) -> None:
    site = make_site(photos=0, rows=[])
    photo(site.uploads / "items/Käse & Brot · 写真.jpg")
    row = item_photo(0, "/uploads/items/Käse & Brot · 写真.jpg")
    site.execute(
        "INSERT INTO item_photos (id, item_id, original_url) VALUES (:id, :item_id, :original_url)",
        **{name: row[name] for name in ("id", "item_id", "original_url")},
    )
    (outcome,) = site.migrate()
    assert outcome.state == "completed"
    with site.project() as project:
        prefix = site.settings["store"]["originals_prefix"]
        ((key, _size),) = project.store.list(prefix)
        metadata = project.store.head(key).metadata
    assert metadata["path"] == "uploads/items/K%C3%A4se%20%26%20Brot%20%C2%B7%20%E5%86%99%E7%9C%9F.jpg"
    assert metadata["source-sha256"] == metadata["sha256"]


# --- a server that dies


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator["Mortal"]:
    server = Mortal(tmp_path / "mortal", tmp_path / "mortal.jsonl")
    yield server
    server.running.stop()


class Mortal:
    """An embedded server of the test's own, which may be killed and started again on its data."""

    def __init__(self, data_dir: Path, access_log: Path) -> None:
        self._data_dir = data_dir
        self.access_log = access_log
        self.running = self.start()

    def start(self) -> RunningServers:
        self.running = EmbeddedServers.start(
            self._data_dir,
            bucket="mortal",
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            idle_stop_s=300,
            access_log=self.access_log,
        )
        return self.running

    def kill(self) -> None:
        ended = os.pidfd_open(self.running.pid)
        os.kill(self.running.pid, signal.SIGKILL)
        assert select.select([ended], [], [], 20)[0], "the server's process did not end"
        os.close(ended)

    def puts(self) -> Counter[str]:
        lines = map(json.loads, self.access_log.read_text(encoding="utf-8").splitlines())
        return Counter(
            line["path"]
            for line in lines
            if line["method"] == "PUT"
            and line["status"] == 200
            and line["path"].count("/") > 1
            and "/.probe/" not in line["path"]
            and "-backups/" not in line["path"]
        )


@pytest.mark.usefixtures("quick_tries")
def test_a_server_killed_in_the_middle_costs_no_object_and_no_second_upload(
    make_site: MakeSite, mortal: Mortal
) -> None:
    site = make_site(photos=8)
    site.configure(
        store=site.settings["store"] | {"bucket": "mortal", "endpoint_url": mortal.running.s3_url},
        cdn={"base_url": mortal.running.cdn_url},
        upload={"concurrency": 4},
    )
    before = site.dump()

    def kill_at_ten(stage: str, done: int, _total: int | None) -> None:
        if stage == "objects" and done == 10:
            mortal.kill()

    with site.project() as project:
        prepare(site, project)
        with pytest.raises(StoreError) as caught:
            upload(project, progress=kill_at_ten)
        assert caught.value.exit_code == 4
    assert site.dump() == before
    assert 10 <= len(mortal.puts()) < 8 * 7
    mortal.start()
    earlier = mortal.puts().total()
    (outcome,) = site.migrate()
    assert (outcome.state, outcome.validated.passed) == ("completed", 8)
    # What it stored in its last moment is not in its log; no key is in it twice, and none is missing.
    assert outcome.uploaded.uploaded == mortal.puts().total() - earlier
    assert set(mortal.puts().values()) == {1}
    with site.project() as project:
        stored = dict(project.store.list(site.name)) | dict(project.store.list(f"originals/{site.name}"))
    assert len(stored) == 8 * 7
