"""A small real proxy in front of an S3 server that fails on purpose.

It passes the Host header on, so signatures stay valid. What fails is decided by a rule: a function of the
request's method, its path, and how often that method and path came before.
"""

import http.client
import threading
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Fault(Enum):
    """What happens to one request."""

    SLOW_DOWN = auto()  # 503 without asking the server
    CONFLICT = auto()  # 409 ConditionalRequestConflict without asking the server
    FLIP_BIT = auto()  # one bit of the request's body changes on its way
    LOSE_ANSWER = auto()  # the server does its work, the connection ends before the answer
    HANG = auto()  # no answer until the proxy stops


Rule = Callable[[str, str, int], Fault | None]
_ANSWERS = {Fault.SLOW_DOWN: (503, "SlowDown"), Fault.CONFLICT: (409, "ConditionalRequestConflict")}


class FaultProxy:
    """Use it as a context manager; `rule` may be replaced at any time."""

    def __init__(self, server_url: str, rule: Rule) -> None:
        self.rule = rule
        self.injected: Counter[Fault] = Counter()
        self._netloc = urlsplit(server_url).netloc
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FaultProxy":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            fault = self.rule(method, path, self._seen[method, path])
            self._seen[method, path] += 1
            if fault:
                self.injected[fault] += 1
        return fault

    def hang(self) -> None:
        self._stopping.wait()

    def forward(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection(self._netloc, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.fault(self.command, self.path.partition("?")[0])
        self.close_connection = fault is not None
        if fault is Fault.HANG:
            self.proxy.hang()
        elif fault in _ANSWERS:
            status, code = _ANSWERS[fault]
            self._answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
        else:
            if fault is Fault.FLIP_BIT:
                body = bytes([body[0] ^ 1]) + body[1:]
            status, headers, content = self.proxy.forward(self.command, self.path, self.headers, body)
            if fault is not Fault.LOSE_ANSWER:
                self._answer(status, headers, content)

    do_HEAD = do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815 - the library's names

    def _answer(self, status: int, headers: Any, content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...
