"""What the CDN answers comes back as it is, whatever the status; only no answer at all is an error."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3

from photo_pipeline.core.delivery import cdn as cdn_module
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.errors import DeliveryError


class Handler(BaseHTTPRequestHandler):
    """Answers /<status> with that status, and remembers the paths."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = f"this is {self.path}".encode()
        self.send_response(int(self.path[1:]))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/x-answer")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Location", "/200")
        self.send_header("Retry-After", "3600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def cdn(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cdn]:
    """The delivery side of a real HTTP server; retries come at once."""
    quick: urllib3.Retry = cdn_module._RETRIES.new(backoff_factor=0)
    monkeypatch.setattr(cdn_module, "_RETRIES", quick)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    client = Cdn(f"http://127.0.0.1:{server.server_port}")
    yield client
    client.close()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "attempts"),
    [(200, 1), (301, 1), (302, 1), (307, 1), (403, 1), (404, 1), (429, 1), (500, 3), (502, 3), (503, 3)],
)
def test_every_answer_comes_back_as_it_is(cdn: Cdn, asked: list[str], status: int, attempts: int) -> None:
    answer = cdn.fetch(f"{cdn.base_url}/{status}")
    assert (answer.status, answer.body) == (status, f"this is /{status}".encode())
    assert (answer.content_type, answer.cache_control) == ("text/x-answer", "no-store")
    assert asked == [f"/{status}"] * attempts


def test_no_answer_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cdn_module, "_RETRIES", cdn_module._RETRIES.new(backoff_factor=0))
    client = Cdn("http://127.0.0.1:9")
    with pytest.raises(DeliveryError, match="it does not answer"):
        client.fetch("http://127.0.0.1:9/a.jpg")
    client.close()
