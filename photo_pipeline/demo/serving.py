"""The child process of the embedded servers: claims the ports, replays the journal, serves, stops.

Started by `servers`; what it serves is in `s3_guard`, `s3_journal` and `edge`, which need the extra ``demo``.
"""

import argparse
import errno
import json
import os
import random
import secrets
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from botocore.credentials import Credentials

from photo_pipeline.core.errors import InfrastructureError, PhotoPipelineError
from photo_pipeline.demo.edge import CdnEdge
from photo_pipeline.demo.http_serving import Activity, WithHealth, serve_in_background
from photo_pipeline.demo.s3_guard import AccessLog, S3Guard
from photo_pipeline.demo.s3_journal import Journal, JournaledMoto
from photo_pipeline.demo.s3_signature import REGION, SignedS3Client
from photo_pipeline.demo.servers import (
    ACCESS_KEY_VARIABLE,
    HOST,
    PORTS,
    SECRET_KEY_VARIABLE,
    DataDir,
    RunningServers,
)


def main() -> None:
    """Run the servers: the entry point of the child process."""
    options = _options()
    if os.fork():
        os._exit(0)  # The parent collects this process at once; the server is left to init, never a zombie.
    with os.fdopen(options.ready_fd, "w", encoding="utf-8") as ready:
        try:
            serving = _Serving(options)
        except PhotoPipelineError as error:
            json.dump({"error": {"thing": error.thing, "cause": error.cause, "fix": error.fix}}, ready)
            sys.exit(error.exit_code)
        except Exception as error:
            cause = f"its process could not start: {type(error).__name__}: {error}"
            json.dump(
                {"error": {"thing": "embedded S3 server", "cause": cause, "fix": "See servers.log"}}, ready
            )
            raise
        json.dump({"ready": True}, ready)
    serving.run()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="photo_pipeline.demo.serving")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--s3-port", type=int, default=0)
    parser.add_argument("--cdn-port", type=int, default=0)
    parser.add_argument("--idle-stop-s", type=float)
    parser.add_argument("--access-log", type=Path)
    parser.add_argument("--private-prefix", action="append", default=[])
    return parser.parse_args()


class _Serving:
    """The child's life: claim the ports, replay the journal, serve, stop."""

    def __init__(self, options: argparse.Namespace) -> None:
        files = DataDir(options.data_dir)
        credentials = Credentials(os.environ.pop(ACCESS_KEY_VARIABLE), os.environ.pop(SECRET_KEY_VARIABLE))
        s3, cdn = _listen(options.s3_port, name="S3"), _listen(options.cdn_port, name="CDN")
        self._store = JournaledMoto(Journal(files.journal))
        self._store.replay()
        self._activity = Activity()
        self._idle_stop_s: float | None = options.idle_stop_s
        running = RunningServers(
            s3_url=f"http://{HOST}:{s3.getsockname()[1]}",
            cdn_url=f"http://{HOST}:{cdn.getsockname()[1]}",
            bucket=options.bucket,
            access_key=credentials.access_key,
            region=REGION,
            pid=os.getpid(),
            instance=secrets.token_hex(8),
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            data_dir=str(options.data_dir),
        )
        access_log = AccessLog(options.access_log) if options.access_log else None
        guard = S3Guard(self._store, credentials=credentials, access_log=access_log)
        origin = SignedS3Client(running.s3_url, bucket=options.bucket, credentials=credentials)
        edge = CdnEdge(origin, private_prefixes=options.private_prefix)
        for app, listener in ((guard, s3), (edge, cdn)):
            identity = {"instance": running.instance}
            serve_in_background(WithHealth(app, identity=identity, activity=self._activity), listener)
        files.describe(running)

    def run(self) -> None:
        """Serve until a signal or idleness; then let the request at work finish."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            while (remaining_s := self._remaining_s()) > 0:
                time.sleep(min(remaining_s, 3600))
        finally:
            # The journal stays locked until the kernel closes it together with the ports: see is_owned().
            self._store.drain()

    def _remaining_s(self) -> float:
        return 3600.0 if self._idle_stop_s is None else self._idle_stop_s - self._activity.idle_s


def _listen(port: int, *, name: str) -> socket.socket:
    """Return a listening loopback socket, on this port or, for 0, on a free one."""
    candidates = [port] if port else [*random.sample(PORTS, 20), 0]
    for candidate in candidates:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, candidate))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise
        else:
            return listener
    raise InfrastructureError(
        f"port {port} (embedded {name} server)",
        cause="it is taken by another program or not permitted, and stored URLs contain it",
        fix=f"Stop the program that listens on {HOST}:{port}, or start with another data directory or port",
    )


if __name__ == "__main__":
    main()
