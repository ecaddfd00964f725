"""A small real proxy in front of the embedded CDN, for a CDN that is set up wrongly.

What it does wrong is decided by two functions, which may be replaced at any time: one sees each request's
path and headers before they are passed on, the other each answer.
"""

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Asked:
    path: str
    accept: str


@dataclass(frozen=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    def with_header(self, name: str, value: str) -> "Answered":
        return replace(self, headers=self.headers | {name: value})


class CdnProxy:
    """Use it as a context manager."""

    def __init__(self, cdn_url: str) -> None:
        self.change_request: Callable[[Asked], Asked] = lambda asked: asked
        self.change_answer: Callable[[Asked, Answered], Answered] = lambda _asked, answered: answered
        self.asked: list[Asked] = []
        self.netloc = urlsplit(cdn_url).netloc
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "CdnProxy":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    proxy: CdnProxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = Asked(self.path, self.headers.get("Accept", ""))
        self.proxy.asked.append(asked)
        passed = self.proxy.change_request(asked)
        connection = http.client.HTTPConnection(self.proxy.netloc, timeout=30)
        try:
            connection.request("GET", passed.path, headers={"Accept": passed.accept})
            answer = connection.getresponse()
            answered = Answered(answer.status, dict(answer.headers), answer.read())
        finally:
            connection.close()
        answered = self.proxy.change_answer(asked, answered)
        self.send_response(answered.status)
        for name, value in answered.headers.items():
            if name.lower() not in ("content-length", "connection", "date", "server", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answered.body)))
        self.end_headers()
        self.wfile.write(answered.body)

    def log_message(self, format: str, *values: object) -> None:
        pass
