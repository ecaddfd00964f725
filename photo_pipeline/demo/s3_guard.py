"""What stands in front of moto, which believes every request: signatures, body hashes, an access log.

A WSGI middleware. Whatever it cannot prove it refuses with the code that S3 would use, before the store sees
it. Signatures are proven in ``s3_signature``; what the store does with a good request is not its business.
Browser form uploads (POST policies) are refused.
"""

import base64
import binascii
import hashlib
import hmac
import io
import json
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from xml.sax.saxutils import escape

from botocore.credentials import Credentials

from photo_pipeline.demo.s3_checksums import CHECKSUMS
from photo_pipeline.demo.s3_signature import UNSIGNED_PAYLOAD, S3Refusal, environ_key, verified_claim

_REASONS: Final = {
    400: "Bad Request",
    403: "Forbidden",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class AccessLog:
    """One JSON line per request: time, method, path, status, bytes in and bytes out."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()

    def write(self, environ: WSGIEnvironment, *, status: int, bytes_out: int) -> None:
        """Append the line of one request, after its answer is known."""
        line = {
            "time": datetime.now(UTC).isoformat(),
            "method": environ["REQUEST_METHOD"],
            # Without the query: it holds the signature of presigned URLs.
            "path": str(environ["RAW_URI"]).partition("?")[0],
            "status": status,
            "bytes": bytes_out,
            "bytes_in": int(environ.get("CONTENT_LENGTH") or 0),
        }
        with self._lock:
            self._file.write(json.dumps(line) + "\n")


class S3Guard:
    """WSGI middleware that lets only proven S3 requests pass."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        credentials: Credentials,
        access_log: AccessLog | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._app = app
        self._credentials = credentials
        self._access_log = access_log
        self._now = now

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, or refuse it."""
        status = 500

        def noting(line: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            nonlocal status
            status = int(line.split(" ", 1)[0])
            return start_response(line, headers)

        body: list[bytes] = []
        try:
            body = self._answer(environ, noting)
            return body
        finally:
            if self._access_log:
                self._access_log.write(environ, status=status, bytes_out=sum(map(len, body)))

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        try:
            self._admit(environ)
            return list(self._app(environ, start_response))
        except S3Refusal as refusal:
            return _refuse(refusal, environ, start_response)

    def _admit(self, environ: WSGIEnvironment) -> None:
        is_form = str(environ.get("CONTENT_TYPE", "")).lower().startswith("multipart/form-data")
        if environ["REQUEST_METHOD"] == "POST" and is_form:
            raise S3Refusal(
                501, "NotImplemented", "Form uploads (POST) are not served here; use a signed PUT."
            )
        claim = verified_claim(environ, credentials=self._credentials, now=self._now())
        body = environ["wsgi.input"].read()
        _check_length(environ, body)
        _check_payload_hash(claim.payload_hash, body)
        _check_content_md5(environ, body)
        _check_checksums(environ, body)
        if "HTTP_X_AMZ_COPY_SOURCE" in environ and not _is_of_upload(environ):
            # Moto hands a multipart source's composite checksum on as the copy's own, and boto3 then cannot
            # read the copy; told an algorithm, it computes the checksum.
            environ.setdefault("HTTP_X_AMZ_CHECKSUM_ALGORITHM", "SHA256")
        environ["wsgi.input"] = io.BytesIO(body)
        if environ.pop("HTTP_TRANSFER_ENCODING", None):
            # Moto reads as many bytes as are announced: none, for a chunked body.
            environ["CONTENT_LENGTH"] = str(len(body))
            environ.pop("wsgi.input_terminated", None)


def _check_length(environ: WSGIEnvironment, body: bytes) -> None:
    if environ.get("CONTENT_LENGTH") and len(body) != int(environ["CONTENT_LENGTH"]):
        raise S3Refusal(
            400, "IncompleteBody", "The request body terminated before the number of bytes it announced."
        )


def _check_payload_hash(payload_hash: str, body: bytes) -> None:
    if payload_hash == UNSIGNED_PAYLOAD:
        return
    if payload_hash.startswith("STREAMING-"):
        # Neither boto3 nor obstore sends aws-chunked bodies over plain HTTP.
        raise S3Refusal(
            501, "NotImplemented", "aws-chunked bodies are not served here; sign the whole payload."
        )
    if not hmac.compare_digest(payload_hash.encode(), hashlib.sha256(body).hexdigest().encode()):
        raise S3Refusal(
            400,
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )


def _check_content_md5(environ: WSGIEnvironment, body: bytes) -> None:
    claimed = environ.get("HTTP_CONTENT_MD5")
    if claimed is None:
        return
    digest = _decoded(str(claimed))
    if digest is None or len(digest) != 16:
        raise S3Refusal(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")
    if digest != hashlib.md5(body, usedforsecurity=False).digest():
        raise S3Refusal(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")


def _check_checksums(environ: WSGIEnvironment, body: bytes) -> None:
    if environ["REQUEST_METHOD"] == "POST" and _is_of_upload(environ):
        # CompleteMultipartUpload announces the checksum of the whole object, not of this request.
        return
    for name, checksum in CHECKSUMS.items():
        claimed = environ.get(environ_key(f"x-amz-checksum-{name}"))
        if claimed is None:
            continue
        if _decoded(str(claimed)) != checksum(body):
            raise S3Refusal(
                400, "BadDigest", f"The {name.upper()} you specified did not match the calculated checksum."
            )
        # Moto returns a checksum on HEAD only if this header came along; obstore does not send it.
        environ.setdefault("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", name.upper())


def _is_of_upload(environ: WSGIEnvironment) -> bool:
    return "uploadId=" in str(environ.get("QUERY_STRING", ""))


def _decoded(value: str) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def _refuse(refusal: S3Refusal, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    resource = escape(str(environ["RAW_URI"]).partition("?")[0])
    content = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>"
        f"<Resource>{resource}</Resource></Error>"
    ).encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(content)))]
    start_response(f"{refusal.status} {_REASONS[refusal.status]}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [content]
