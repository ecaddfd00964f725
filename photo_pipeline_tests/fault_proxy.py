"""A small real proxy in front of an S3 server that fails on purpose.

It passes the Host header on, so signatures stay valid. What fails is decided by a rule: a function of the
request's method, its path, and how often that method and path came before.
"""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    ERROR_500 = auto()  # 500 without asking the server
    DENY = auto()  # 403 AccessDenied without asking the server
    RESET = auto()  # the connection is reset before the server is asked
    FORGET = auto()  # 200 without asking the server
    # The server does its work, its answer ends in the middle (of its headers, without a body).
    TRUNCATE = auto()
    FLIP_ANSWER = auto()  # one bit of the answer's body (or of its checksum, without one) changes on its way


Rule = Callable[[str, str, int], Fault | None]
_ANSWERS = {
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.ERROR_500: (500, "InternalError"),
    Fault.DENY: (403, "AccessDenied"),
    Fault.FORGET: (200, ""),
    Fault.CONFLICT: (409, "ConditionalRequestConflict"),
}
_CHECKSUMS = ("x-amz-checksum-sha256", "etag")


@dataclass(frozen=True)
class Exchange:
    """One request as the proxy saw it; times by the proxy's monotonic clock, in seconds."""

    method: str
    path: str
    fault: Fault | None
    began_s: float


def seeded_rule(seed: int, shares: Mapping[Fault, float], *, applies: Callable[[str], bool]) -> Rule:
    """Return a rule that fails requests at random, each fault with its share of all requests.

    What befalls the n-th request of a method for a path depends on the seed only, not on the order in which
    threads come by. Of a path only the last three parts count: a site's prefix is another in each run.
    """

    def rule(method: str, path: str, earlier: int) -> Fault | None:
        if not applies(path):
            return None
        name = "/".join(path.split("/")[-3:])
        drawn = random.Random(f"{seed} {method} {name} {earlier}").random()
        for fault, share in shares.items():
            drawn -= share
            if drawn < 0:
                return fault
        return None

    return rule


class FaultProxy:
    """Use it as a context manager; `rule` may be replaced at any time."""

    def __init__(self, server_url: str, rule: Rule) -> None:
        self.rule = rule
        self.injected: Counter[Fault] = Counter()
        self.exchanges: list[Exchange] = []
        self.received_bytes = 0  # of the requests' bodies
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
            self.exchanges.append(Exchange(method, path, fault, time.monotonic()))
            if fault:
                self.injected[fault] += 1
        return fault

    def received(self, size: int) -> None:
        with self._lock:
            self.received_bytes += size

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
        self.proxy.received(len(body))
        fault = self.proxy.fault(self.command, self.path.partition("?")[0])
        self.close_connection = fault is not None
        if fault is Fault.HANG:
            self.proxy.hang()
        elif fault is Fault.RESET:
            self._reset()
        elif fault in _ANSWERS:
            status, code = _ANSWERS[fault]
            content = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
            self._answer(status, {} if code else {"ETag": '"0"'}, content)
        else:
            if fault is Fault.FLIP_BIT and body:
                body = bytes([body[0] ^ 1]) + body[1:]
            status, headers, content = self.proxy.forward(self.command, self.path, self.headers, body)
            if fault is Fault.FLIP_ANSWER:
                headers, content = _flipped(headers, content, has_body=self.command != "HEAD")
            if fault is not Fault.LOSE_ANSWER:
                self._answer(status, headers, content, cut=fault is Fault.TRUNCATE)

    do_HEAD = do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815 - the library's names

    def _reset(self) -> None:
        """Close with a TCP reset, as a failing load balancer does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _answer(self, status: int, headers: Any, content: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            # Unsaid, a client may send its next request into a connection that is just being closed.
            self.send_header("Connection", "close")
        if self.command == "HEAD" or not content:
            self._cut_headers() if cut else self.end_headers()
            return
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)

    def _cut_headers(self) -> None:
        """Keep the first half of the headers: the answer ends within a line and without its empty one."""
        head = b"".join(self._headers_buffer)
        self._headers_buffer = []
        self.wfile.write(head[: len(head) // 2])
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None: ...


def _flipped(headers: Any, content: bytes, *, has_body: bool) -> tuple[Any, bytes]:
    """Return the answer with one bit of its body changed, or of its checksum where it has no body."""
    if content and has_body:
        middle = len(content) // 2
        return headers, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    changed = dict(headers.items())
    for name, value in changed.items():
        if name.lower() in _CHECKSUMS and len(value) > 9:
            changed[name] = value[:8] + ("A" if value[8] != "A" else "B") + value[9:]
    return changed, content
