"""The embedded CDN: what CloudFront shows of the bucket, on a loopback port.

It serves GET and HEAD of public keys by signed requests to S3, routes ``.auto`` URLs by the Accept header,
and answers 403 for private and missing keys alike, as CloudFront does without ListBucket. It caches nothing:
a stale answer would only hide mistakes of the migration.
"""

from collections.abc import Collection, Iterable
from typing import Final, Protocol
from wsgiref.types import StartResponse, WSGIEnvironment

from botocore.awsrequest import AWSResponse
from botocore.exceptions import BotoCoreError
from werkzeug.wrappers import Request, Response

from photo_pipeline.core.delivery.routing import AUTO_SUFFIX, negotiate_format

_PASSED_HEADERS: Final = (
    "Content-Type",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Length",
    "ETag",
    "Expires",
    "Last-Modified",
)
_METHODS: Final = "GET, HEAD, OPTIONS"


class Origin(Protocol):
    """Where the edge gets objects from."""

    def send(self, method: str, key: str = "") -> AWSResponse:
        """Send a request for the key and return the whole answer."""
        ...


class CdnEdge:
    """WSGI application that serves the public part of one bucket."""

    def __init__(self, origin: Origin, *, private_prefixes: Collection[str]) -> None:
        self._origin = origin
        self._private_prefixes = tuple(private_prefixes)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        response = self._respond(request)
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status=204, headers={"Allow": _METHODS, "Access-Control-Allow-Methods": _METHODS})
        if request.method not in {"GET", "HEAD"}:
            return _error(405, "MethodNotAllowed", headers={"Allow": _METHODS})
        key = request.path.removeprefix("/")
        routed = key.endswith(AUTO_SUFFIX)
        if routed:
            extension = negotiate_format(request.headers.get("Accept"))
            key = f"{key.removesuffix(AUTO_SUFFIX)}.{extension}"
        response = self._object(request, key) if self._is_public(key) else _error(403, "AccessDenied")
        if routed:
            response.headers["Vary"] = "Accept"
        return response

    def _is_public(self, key: str) -> bool:
        # No object of ours has such segments, and no hop may normalise them into a private key.
        if any(segment in {"", ".", ".."} for segment in key.split("/")):
            return False
        return not key.startswith(self._private_prefixes)

    def _object(self, request: Request, key: str) -> Response:
        try:
            answer = self._origin.send(request.method, key)
        except BotoCoreError:
            return _error(502, "BadGateway")
        if answer.status_code >= 500:
            return _error(502, "BadGateway")
        if answer.status_code != 200:
            return _error(403, "AccessDenied")
        headers = {name: answer.headers[name] for name in _PASSED_HEADERS if name in answer.headers}
        # As a list: given bytes, werkzeug would count them anew and answer HEAD with a length of 0.
        response = Response([answer.content], headers={**headers, "X-Cache": "Miss from edge"})
        is_get = request.method == "GET"
        return response.make_conditional(
            request.environ, accept_ranges=is_get, complete_length=len(answer.content) if is_get else None
        )


def _error(status: int, code: str, *, headers: dict[str, str] | None = None) -> Response:
    content = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
    extra = {"X-Cache": "Error from edge", "Cache-Control": "no-store", **(headers or {})}
    return Response(content, status=status, headers=extra, mimetype="application/xml")
