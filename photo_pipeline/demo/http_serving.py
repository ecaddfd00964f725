"""Serves a WSGI application on a loopback port with HTTP/1.1 keep-alive, and answers for its health.

Werkzeug's own handler closes every connection and waits 10 ms after each answer; this one reads the whole
body first, so that the next request on the connection starts where it should. Only for applications whose
answers fit in memory. Which ports and applications is decided in ``servers``.
"""

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

HOST: Final = "127.0.0.1"
HEALTH_PATH: Final = "/-/health"
# Bodies are held in memory (with moto's copy); the largest photo we take is 50 MB.
MAX_BODY_BYTES: Final = 256 * 1024 * 1024


class KeepAliveHandler(MotoRequestHandler):
    """Moto's handler (it keeps underscores in metadata names) with persistent connections."""

    protocol_version = "HTTP/1.1"
    # Headers and body are two packets; Nagle and delayed ACK would add 40 ms between them.
    disable_nagle_algorithm = True
    # A thread waits per idle connection; clients open a new one without complaint.
    timeout = 300

    def run_wsgi(self) -> None:
        """Answer one request."""
        environ = self.make_environ()
        if not self._read_body(environ):
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is larger than this server takes")
            self.close_connection = True
            return
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            started[:] = [(status, headers)]

        try:
            content = b"".join(self.server.app(environ, start_response))
        except Exception:
            self.close_connection = True
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise
        self._send(*started[0], content)

    def _read_body(self, environ: WSGIEnvironment) -> bool:
        stream = environ["wsgi.input"]
        if environ.get("wsgi.input_terminated"):
            self.close_connection = True
            body = stream.read(MAX_BODY_BYTES + 1)
        else:
            announced = int(environ.get("CONTENT_LENGTH") or 0)
            body = stream.read(announced) if 0 < announced <= MAX_BODY_BYTES else b""
            self.close_connection |= len(body) != announced
            if announced > MAX_BODY_BYTES:
                return False
        environ["wsgi.input"] = io.BytesIO(body)
        return len(body) <= MAX_BODY_BYTES

    def _send(self, status: str, headers: list[tuple[str, str]], content: bytes) -> None:
        code, _, reason = status.partition(" ")
        self.send_response_only(int(code), reason)
        present = {name.lower() for name, _ in headers}
        for name, value in headers:
            self.send_header(name, value)
        if "date" not in present:
            self.send_header("Date", self.date_time_string())
        if "content-length" not in present and code not in {"204", "304"}:
            self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: the guard's access log has the requests, the server's log only trouble."""


class Activity:
    """When the servers were last used, for stopping when nobody needs them any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._last = time.monotonic()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one request as running."""
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._last = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the last request ended; 0 while one runs."""
        with self._lock:
            return 0.0 if self._running else time.monotonic() - self._last


class WithHealth:
    """WSGI middleware: answers HEALTH_PATH itself and notes all other requests as activity."""

    def __init__(self, app: WSGIApplication, *, identity: dict[str, str], activity: Activity) -> None:
        self._app = app
        self._identity = json.dumps(identity).encode()
        self._activity = activity

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if environ["PATH_INFO"] == HEALTH_PATH:
            start_response("200 OK", [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
            return [self._identity]
        with self._activity.request():
            return list(self._app(environ, start_response))


def serve_in_background(app: WSGIApplication, listener: socket.socket) -> BaseWSGIServer:
    """Serve the application on a listening socket, in threads that end with the process."""
    port = listener.getsockname()[1]
    server = make_server(
        HOST, port, app, threaded=True, request_handler=KeepAliveHandler, fd=listener.fileno()
    )
    listener.close()
    target: Callable[[], None] = server.serve_forever
    threading.Thread(target=target, name=f"http-{port}", daemon=True).start()
    return server
