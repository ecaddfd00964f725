"""The embedded S3 server and CDN edge: a child process, and the controller that starts, finds and stops it.

The child outlives its parent (``make demo`` ends, its URLs go on working), keeps its ports and its objects in
the data directory, and ends by itself when nobody has used it for a while. What it serves is in ``serving``,
which needs the extra ``demo`` and runs in the child only.
"""

import fcntl
import http.client
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from photo_pipeline.core.errors import ConfigurationError, InfrastructureError

DEFAULT_PRIVATE_PREFIXES: Final = ("originals/",)

HOST: Final = "127.0.0.1"
_READY_TIMEOUT_S: Final = 30.0
_HEALTH_TIMEOUT_S: Final = 5.0
ACCESS_KEY_VARIABLE: Final = "PHOTO_PIPELINE_EMBEDDED_ACCESS_KEY"
SECRET_KEY_VARIABLE: Final = "PHOTO_PIPELINE_EMBEDDED_SECRET_KEY"
# Below Linux's and macOS's ephemeral ranges: a remembered port must still be free after a restart.
PORTS: Final = range(20_000, 32_000)


@dataclass(frozen=True)
class RunningServers:
    """An embedded S3 server and its CDN edge, as servers.json describes them. Holds no secret.

    Attributes:
        s3_url: Endpoint URL for S3 clients (path-style, plain HTTP).
        cdn_url: Base URL of the edge, without a slash at the end.
        bucket: The bucket that the edge serves.
        access_key: The access key id that the S3 server accepts.
        region: Region to sign for.
        pid: Process id of the server process.
        instance: Random id of this run of the server.
        started_at: When it was ready, ISO 8601 in UTC.
        data_dir: Where its objects, its log and servers.json are.
    """

    s3_url: str
    cdn_url: str
    bucket: str
    access_key: str
    region: str
    pid: int
    instance: str
    started_at: str
    data_dir: str

    def is_alive(self) -> bool:
        """Return whether this very server (not a successor on its port) answers."""
        return _health(self.s3_url) == self.instance

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Stop the server, first politely; return when its process has let go of the data directory."""
        files = DataDir(Path(self.data_dir))
        with files.locked():
            current = files.described()
            if current is None or current.instance != self.instance:
                return
            for number in (signal.SIGTERM, signal.SIGKILL):
                if not files.is_owned():
                    return
                with suppress(ProcessLookupError):
                    os.kill(self.pid, number)
                files.wait_until_free(timeout_s)


class EmbeddedServers:
    """Starts and finds the embedded servers of a data directory; there is at most one pair for each."""

    @staticmethod
    def start(
        data_dir: Path,
        *,
        bucket: str,
        access_key: str,
        secret_key: str,
        s3_port: int = 0,
        cdn_port: int = 0,
        idle_stop_s: float | None = None,
        access_log: Path | None = None,
        private_prefixes: Sequence[str] = DEFAULT_PRIVATE_PREFIXES,
    ) -> RunningServers:
        """Return the running servers of the data directory, started if need be, with the bucket in place.

        Args:
            data_dir: Folder for objects, log and servers.json; created if absent.
            bucket: The bucket to create and to serve through the edge.
            access_key: The only access key id that the server accepts.
            secret_key: Its secret; goes to the child through its environment and is stored nowhere.
            s3_port: Port of the S3 server; 0 means the one of the last time, or a free one.
            cdn_port: Port of the edge; 0 as above.
            idle_stop_s: Seconds without a request after which the child ends by itself; None means never.
            access_log: File that gets one JSON line per S3 request.
            private_prefixes: Key prefixes that the edge never serves.

        Raises:
            ConfigurationError: The extra ``demo`` is not installed, or a running server has other settings.
            InfrastructureError: The server did not come up, or a port is taken.
        """
        _require_extra()
        files = DataDir(data_dir.resolve())
        files.path.mkdir(parents=True, exist_ok=True)
        with files.locked():
            # Asked first: a zombie's pid with a silent stranger on its port would cost the health timeout.
            running = EmbeddedServers.find(files.path) if files.is_owned() else None
            if running is None:
                last = files.described()
                options = {
                    "data-dir": files.path,
                    "bucket": bucket,
                    "s3-port": s3_port or _port(last.s3_url if last else None),
                    "cdn-port": cdn_port or _port(last.cdn_url if last else None),
                    "idle-stop-s": idle_stop_s,
                    "access-log": access_log and access_log.resolve(),
                }
                running = _launch(
                    files, options, private_prefixes, access_key=access_key, secret_key=secret_key
                )
            _ensure_bucket(running, bucket=bucket, access_key=access_key, secret_key=secret_key)
            return running

    @staticmethod
    def find(data_dir: Path) -> RunningServers | None:
        """Return the servers of the data directory if they answer, else None. Starts nothing."""
        running = DataDir(data_dir.resolve()).described()
        return running if running is not None and _pid_exists(running.pid) and running.is_alive() else None


class DataDir:
    """The files of one pair of servers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.description = path / "servers.json"
        self.journal = path / "s3.journal"
        self.log = path / "servers.log"

    def described(self) -> RunningServers | None:
        """Return what servers.json says, whether or not it still runs."""
        try:
            return RunningServers(**json.loads(self.description.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def describe(self, running: RunningServers) -> None:
        """Write servers.json atomically: a reader sees the old file or the new one."""
        draft = self.description.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(running), indent=2) + "\n", encoding="utf-8")
        draft.replace(self.description)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold off other starts and stops."""
        if not self.path.is_dir():
            yield
            return
        with (self.path / "servers.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def is_owned(self) -> bool:
        """Return whether a server process is alive: it holds the journal's lock until its very end.

        Unlike a process id, the lock is not reused and not kept by a zombie.
        """
        if not self.journal.exists():
            return False
        with self.journal.open("rb") as journal:
            try:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def wait_until_free(self, timeout_s: float) -> None:
        """Return when no server process owns the directory, or after the timeout."""
        deadline = time.monotonic() + timeout_s
        while self.is_owned() and time.monotonic() < deadline:
            time.sleep(0.02)

    def log_tail(self) -> str:
        """Return the log's last lines as one."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return " | ".join(line.strip() for line in text.splitlines()[-8:] if line.strip())


def _require_extra() -> None:
    missing = [name for name in ("moto", "flask", "flask_cors") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            "embedded S3 server",
            cause=f"not installed: {', '.join(missing)}",
            fix="Run: pip install 'photo-pipeline[demo]'",
        )


def _port(url: str | None) -> int:
    return int(url.rsplit(":", 1)[1]) if url else 0


def _pid_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _health(url: str) -> str | None:
    """Return the id of the instance that answers on the URL, or None."""
    connection = http.client.HTTPConnection(HOST, _port(url), timeout=_HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/-/health")
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return str(answer.get("instance")) if isinstance(answer, dict) else None


def _launch(
    files: DataDir,
    options: dict[str, Any],
    private_prefixes: Sequence[str],
    *,
    access_key: str,
    secret_key: str,
) -> RunningServers:
    """Start the child and wait until it says through a pipe that it serves (or why it cannot)."""
    read_end, write_end = os.pipe()
    flags = [f"--{name}={value}" for name, value in options.items() if value is not None]
    flags += [f"--private-prefix={prefix}" for prefix in private_prefixes]
    with files.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "photo_pipeline.demo.serving", f"--ready-fd={write_end}", *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_child_environment(access_key, secret_key),
            pass_fds=(write_end,),
            start_new_session=True,
        )
    os.close(write_end)
    with os.fdopen(read_end, "rb") as ready:
        message = _read_until_closed(ready.fileno(), timeout_s=_READY_TIMEOUT_S)
    if message is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return _started(files, message)


def _child_environment(access_key: str, secret_key: str) -> dict[str, str]:
    # No AWS_* variable: whatever the user has there must not be reachable from a pretended S3.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    path_style = {"S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}
    return {**kept, **path_style, ACCESS_KEY_VARIABLE: access_key, SECRET_KEY_VARIABLE: secret_key}


def _read_until_closed(fd: int, *, timeout_s: float) -> bytes | None:
    deadline, message = time.monotonic() + timeout_s, b""
    while select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(fd, 65_536)
        if not chunk:
            return message
        message += chunk
    return None


def _started(files: DataDir, message: bytes | None) -> RunningServers:
    answer = json.loads(message) if message else {}
    if "error" in answer:
        raise InfrastructureError(**answer["error"])
    running = files.described()
    if not answer or running is None or not running.is_alive():
        what = (
            f"was not ready within {_READY_TIMEOUT_S:.0f} s"
            if message is None
            else "ended before it was ready"
        )
        raise InfrastructureError(
            "embedded S3 server",
            cause=f"its process {what}; the log ends: {files.log_tail() or '(empty)'}",
            fix=f"See {files.log}",
        )
    return running


def _ensure_bucket(running: RunningServers, *, bucket: str, access_key: str, secret_key: str) -> None:
    # botocore takes 0.2 s to import; finding and stopping servers does without.
    from botocore.credentials import Credentials

    from photo_pipeline.demo.s3_signature import SignedS3Client

    if running.bucket != bucket:
        raise _other_settings(running, f"it serves the bucket {running.bucket!r}, not {bucket!r}")
    client = SignedS3Client(running.s3_url, bucket=bucket, credentials=Credentials(access_key, secret_key))
    status = client.send("HEAD").status_code
    if status == 404:
        status = client.send("PUT").status_code
    if status == 403:
        raise _other_settings(running, "it refuses these credentials")
    if status != 200:
        raise InfrastructureError(
            f"bucket {bucket!r}", cause=f"creating it was answered with status {status}"
        )


def _other_settings(running: RunningServers, cause: str) -> ConfigurationError:
    return ConfigurationError(
        f"embedded S3 server at {running.s3_url} (pid {running.pid})",
        cause=f"it was started with other settings: {cause}",
        fix="Stop it first (make stop), or use another data directory",
    )
