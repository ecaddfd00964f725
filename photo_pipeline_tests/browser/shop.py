"""A web application on a loopback port: pages, scripts and files that a test puts there."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Shop:
    """Serves what `put` gave it, 404 for the rest; use it as a context manager."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.asked: list[str] = []
        files, asked = self._files, self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                asked.append(path)
                data, headers = files.get(path, (b"", {}))
                self.send_response(200 if path in files else 404)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, path: str, content: bytes | str, mime: str, **headers: str) -> str:
        """Serve the content there from now on; return its URL."""
        data = content.encode() if isinstance(content, str) else content
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._files[path] = (
            data,
            {"Content-Type": f"{mime}; charset=utf-8", "Cache-Control": "no-store"} | named,
        )
        return f"{self.url}{path}"

    def page(self, body: str, *, csp: str | None = None, head: str = "") -> str:
        """Serve a whole page with that body; return its URL."""
        document = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Shop</title>{head}</head>'
            f"<body><main><h1>Shop</h1>{body}</main></body></html>"
        )
        headers = {"Content_Security_Policy": csp} if csp else {}
        return self.put("/", document, "text/html", **headers)
