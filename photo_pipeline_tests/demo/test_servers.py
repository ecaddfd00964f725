"""The embedded servers live longer than those who start them, and lose nothing that was acknowledged."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from photo_pipeline.core.errors import ConfigurationError, InfrastructureError
from photo_pipeline.demo.servers import EmbeddedServers, RunningServers

BUCKET, ACCESS_KEY, SECRET_KEY = "photos", "DEMOKEY", "demo-secret-that-must-not-leak"

Start = Callable[..., RunningServers]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def start(data_dir: Path) -> Iterator[Start]:
    started = []

    def start(**options: Any) -> RunningServers:
        settings = {"bucket": BUCKET, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "idle_stop_s": 300}
        running = EmbeddedServers.start(data_dir, **{**settings, **options})
        started.append(running)
        return running

    yield start
    for running in started:
        running.stop()


@cache
def client(servers: RunningServers) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=servers.s3_url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name=servers.region,
        config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}),
    )


def kill(servers: RunningServers) -> None:
    with ended(servers):
        os.kill(servers.pid, signal.SIGKILL)


class ended:  # noqa: N801 - reads as a word
    """Wait, on leaving, until the server's process has ended."""

    def __init__(self, servers: RunningServers) -> None:
        self._pidfd = os.pidfd_open(servers.pid)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        readable, _, _ = select.select([self._pidfd], [], [], 20)
        os.close(self._pidfd)
        assert readable, "the server's process did not end"


def contents(servers: RunningServers) -> dict[str, tuple[bytes, Any]]:
    s3 = client(servers)
    found = {}
    for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        head = s3.get_object(Bucket=BUCKET, Key=entry["Key"])
        kept = {
            name: head[name] for name in ("ContentType", "CacheControl", "Metadata", "ETag", "LastModified")
        }
        found[entry["Key"]] = (head["Body"].read(), kept)
    return found


def put(servers: RunningServers, key: str, body: bytes = b"photo") -> None:
    client(servers).put_object(
        Bucket=BUCKET,
        Key=key,
        Body=body,
        ContentType="image/webp",
        CacheControl="immutable",
        Metadata={"photo_id": str(len(key))},
        ChecksumAlgorithm="SHA256",
    )


def test_start_brings_up_a_described_server_and_stop_ends_it(data_dir: Path, start: Start) -> None:
    running = start()

    description = json.loads((data_dir / "servers.json").read_text(encoding="utf-8"))
    assert description["pid"] == running.pid
    assert (description["s3_url"], description["cdn_url"]) == (running.s3_url, running.cdn_url)
    assert EmbeddedServers.find(data_dir) == running
    with ended(running):
        running.stop()
    assert EmbeddedServers.find(data_dir) is None


def test_starting_twice_gives_the_same_server(start: Start) -> None:
    assert start() == start()


def test_concurrent_starts_make_one_server(start: Start) -> None:
    with ThreadPoolExecutor(4) as pool:
        running = list(pool.map(lambda _: start(), range(4)))

    assert len(set(running)) == 1


def test_two_processes_starting_at_once_share_one_server(data_dir: Path, start: Start) -> None:
    script = (
        "import sys, pathlib; from photo_pipeline.demo.servers import EmbeddedServers as E; "
        f"print(E.start(pathlib.Path(sys.argv[1]), bucket={BUCKET!r}, access_key={ACCESS_KEY!r}, "
        f"secret_key={SECRET_KEY!r}, idle_stop_s=300).instance)"
    )
    command = [sys.executable, "-c", script, str(data_dir)]
    parents = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    instances = {parent.communicate(timeout=60)[0].strip() for parent in parents}

    # Both parents have ended by now; their server has not.
    found = EmbeddedServers.find(data_dir)
    assert found is not None
    assert instances == {found.instance}
    assert start() == found


def test_acknowledged_objects_survive_kill_9_with_everything_about_them(start: Start) -> None:
    first = start()
    for number in range(20):
        put(first, f"photos/{number} é", os.urandom(1_000))
    client(first).delete_object(Bucket=BUCKET, Key="photos/3 é")
    before = contents(first)

    kill(first)
    second = start()

    assert len(before) == 19
    assert contents(second) == before
    assert (second.s3_url, second.cdn_url) == (first.s3_url, first.cdn_url)
    assert second.instance != first.instance
    head = client(second).head_object(Bucket=BUCKET, Key="photos/5 é", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"]


def test_a_kill_under_load_loses_no_acknowledged_object(start: Start) -> None:
    running = start()
    acknowledged = []

    def upload(number: int) -> None:
        if number == 60:
            os.kill(running.pid, signal.SIGKILL)
        try:
            put(running, f"load/{number}", f"photo {number}".encode())
        except Exception:  # noqa: BLE001 - whatever a dying server causes
            return
        acknowledged.append(f"load/{number}")

    with ended(running), ThreadPoolExecutor(6) as pool:
        list(pool.map(upload, range(120)))

    found = contents(start())
    assert len(acknowledged) >= 50
    assert set(acknowledged) <= found.keys()
    assert all(body == key.replace("load/", "photo ").encode() for key, (body, _) in found.items())


@pytest.mark.parametrize("torn_bytes", [1, pytest.param(1_000, marks=pytest.mark.slow)])
def test_a_torn_last_record_costs_only_itself(data_dir: Path, start: Start, torn_bytes: int) -> None:
    running = start()
    put(running, "whole", b"whole")
    put(running, "torn", b"torn" * 200)
    kill(running)
    journal = data_dir / "s3.journal"
    os.truncate(journal, journal.stat().st_size - torn_bytes)

    restarted = start()
    assert contents(restarted).keys() == {"whole"}
    put(restarted, "after", b"after")
    kill(restarted)

    assert contents(start()).keys() == {"whole", "after"}


def test_a_journal_damaged_in_the_middle_is_refused_not_shortened(data_dir: Path, start: Start) -> None:
    running = start()
    put(running, "a")
    put(running, "b")
    running.stop()
    journal = data_dir / "s3.journal"
    content = bytearray(journal.read_bytes())
    content[200] ^= 1
    journal.write_bytes(content)

    with pytest.raises(InfrastructureError, match="record at byte 0 is damaged"):
        start()
    assert journal.read_bytes() == content


def test_reads_and_refused_writes_do_not_grow_the_journal(data_dir: Path, start: Start) -> None:
    running = start()
    put(running, "a")
    size = (data_dir / "s3.journal").stat().st_size

    contents(running)
    with pytest.raises(client(running).exceptions.ClientError, match="PreconditionFailed"):
        client(running).put_object(Bucket=BUCKET, Key="a", Body=b"other", IfNoneMatch="*")

    assert (data_dir / "s3.journal").stat().st_size == size


def test_versions_and_open_multipart_uploads_keep_their_ids_over_a_restart(start: Start) -> None:
    s3 = client(first := start())
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    versions = [s3.put_object(Bucket=BUCKET, Key="v", Body=body)["VersionId"] for body in (b"old", b"new")]
    upload_id = s3.create_multipart_upload(Bucket=BUCKET, Key="large")["UploadId"]
    part = {"Bucket": BUCKET, "Key": "large", "UploadId": upload_id, "PartNumber": 1}
    etag = s3.upload_part(**part, Body=b"x" * 1_000)["ETag"]

    kill(first)
    s3 = client(start())

    assert s3.get_object(Bucket=BUCKET, Key="v", VersionId=versions[0])["Body"].read() == b"old"
    s3.complete_multipart_upload(
        Bucket=BUCKET,
        Key="large",
        UploadId=upload_id,
        MultipartUpload={"Parts": [{"ETag": etag, "PartNumber": 1}]},
    )
    assert s3.get_object(Bucket=BUCKET, Key="large")["Body"].read() == b"x" * 1_000


@pytest.mark.slow
def test_a_remembered_port_that_somebody_took_is_named_with_the_fix(start: Start) -> None:
    running = start()
    running.stop()
    port = int(running.s3_url.rsplit(":", 1)[1])

    with socket.socket() as somebody:
        somebody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        somebody.bind(("127.0.0.1", port))
        somebody.listen()
        with pytest.raises(InfrastructureError, match=rf"port {port} .*taken.*Stop the program"):
            start()

    assert start().s3_url == running.s3_url


@pytest.mark.slow
def test_an_unused_server_ends_by_itself_and_comes_back_with_its_objects(
    data_dir: Path, start: Start
) -> None:
    running = start(idle_stop_s=1.0)
    put(running, "kept")

    with ended(running):
        pass

    assert EmbeddedServers.find(data_dir) is None
    assert contents(start()).keys() == {"kept"}


def test_secrets_are_in_no_file_and_on_no_command_line(data_dir: Path, start: Start) -> None:
    running = start()
    put(running, "a")

    assert SECRET_KEY.encode() not in Path(f"/proc/{running.pid}/cmdline").read_bytes()
    for file in data_dir.iterdir():
        assert SECRET_KEY.encode() not in file.read_bytes(), file
    assert SECRET_KEY not in repr(running)


def test_a_running_server_with_other_settings_is_not_taken_for_ours(start: Start) -> None:
    start()

    with pytest.raises(ConfigurationError, match=r"refuses these credentials.*make stop"):
        start(secret_key="another")
    with pytest.raises(ConfigurationError, match="serves the bucket 'photos', not 'other'"):
        start(bucket="other")


def test_the_servers_listen_on_loopback_only(start: Start) -> None:
    running = start()
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = {
        address
        for address, port in (fields[1].split(":") for fields in listening if fields[3] == "0A")
        if int(port, 16) in {int(url.rsplit(":", 1)[1]) for url in (running.s3_url, running.cdn_url)}
    }

    assert addresses == {"0100007F"}


def test_a_child_that_cannot_start_is_reported_with_the_reason(start: Start, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="could not start: FileNotFoundError"):
        start(access_log=tmp_path / "no such folder" / "access.log")


def test_a_child_that_dies_without_a_word_is_reported_with_the_end_of_its_log(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\necho the disk is on fire >&2\nexit 3\n", encoding="utf-8")
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))

    with pytest.raises(
        InfrastructureError, match=r"ended before it was ready; the log ends: the disk is on fire"
    ):
        start()


def test_a_stale_description_is_not_a_running_server(data_dir: Path, start: Start) -> None:
    kill(start())

    assert EmbeddedServers.find(data_dir) is None
    (data_dir / "servers.json").write_text("{torn", encoding="utf-8")
    assert EmbeddedServers.find(data_dir) is None
    assert EmbeddedServers.find(data_dir / "absent") is None


def test_without_the_extra_the_message_names_the_install_command(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "moto", None)

    with pytest.raises(ConfigurationError, match=r"moto.*pip install 'photo-pipeline\[demo\]'"):
        start()
