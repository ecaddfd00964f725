"""What makes moto's in-memory S3 survive a restart: a journal of mutating requests, replayed at start.

Moto's own recorder is not used: it writes base64 without a lock, records reads and refused requests too, and
cannot read a file whose last line was torn by a kill. Authentication and body checks happen before, in
``s3_guard``.

Each record is written before it is applied and taken back when S3 refuses it, so an acknowledged request is
always in the journal. It is not fsynced: a killed process loses nothing, a power cut may lose the last
seconds.
"""

import fcntl
import io
import json
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import moto.s3.models as s3_models
from moto.core.request import PRESERVED_HEADER_NAMES_ENVIRON_KEY
from moto.core.utils import utcnow
from moto.moto_api._internal import mock_random
from moto.moto_server.werkzeug_app import create_backend_app

from photo_pipeline.core.errors import InfrastructureError
from photo_pipeline.demo.s3_signature import S3Refusal

_FRAME: Final = struct.Struct(">4sIII")  # magic, length of the head, length of the body, CRC-32 of both
_MAGIC: Final = b"PPJ1"
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class JournaledRequest:
    """One mutating request, with everything that makes its effect repeatable.

    Attributes:
        environ: The WSGI environ without its streams.
        received_at: When it came, ISO 8601 in UTC; becomes Last-Modified again after a restart.
        seed: Seed for the identifiers that moto makes up (version ids, upload ids).
        body: The request body.
    """

    environ: dict[str, Any]
    received_at: str
    seed: int
    body: bytes

    @classmethod
    def of(cls, environ: WSGIEnvironment, *, body: bytes) -> "JournaledRequest":
        """Return the record of a request that arrives now."""
        kept: dict[str, Any] = {key: value for key, value in environ.items() if isinstance(value, str)}
        kept[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = environ.get(PRESERVED_HEADER_NAMES_ENVIRON_KEY) or {}
        now = datetime.now(UTC).replace(tzinfo=None).isoformat()
        return cls(environ=kept, received_at=now, seed=secrets.randbits(64), body=body)

    def to_bytes(self) -> bytes:
        """Return the record as one frame of the journal."""
        head = json.dumps([self.environ, self.received_at, self.seed]).encode()
        checksum = zlib.crc32(self.body, zlib.crc32(head))
        return _FRAME.pack(_MAGIC, len(head), len(self.body), checksum) + head + self.body


class Journal:
    """An append-only file of requests, owned by one process at a time, until the end of that process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise InfrastructureError(
                str(path.parent),
                cause="another embedded S3 server that does not answer owns this data directory",
                fix="Stop it (its pid is in servers.json) and start again",
            ) from error
        self._end = os.fstat(self._fd).st_size

    def append(self, request: JournaledRequest) -> int:
        """Write one record and return the position that takes it back."""
        start, rest = self._end, memoryview(request.to_bytes())
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            self.take_back(start)
            raise S3Refusal(503, "ServiceUnavailable", f"The journal cannot be written: {error}") from error
        self._end = os.fstat(self._fd).st_size
        return start

    def take_back(self, start: int) -> None:
        """Remove the records from this position on."""
        os.ftruncate(self._fd, start)
        self._end = start

    def requests(self) -> Iterator[JournaledRequest]:
        """Yield the whole records; a torn last one, never acknowledged, is cut off."""
        with self._path.open("rb") as file:
            while (start := file.tell()) < self._end:
                request = self._read(file, start)
                if request is None:
                    self.take_back(start)
                    return
                yield request

    def _read(self, file: io.BufferedReader, start: int) -> JournaledRequest | None:
        frame = file.read(_FRAME.size)
        if len(frame) < _FRAME.size:
            return None
        magic, head_bytes, body_bytes, checksum = _FRAME.unpack(frame)
        content = file.read(head_bytes + body_bytes) if magic == _MAGIC else b""
        whole = len(content) == head_bytes + body_bytes and zlib.crc32(content) == checksum
        if magic == _MAGIC and not whole and file.tell() >= self._end:
            return None
        if not whole or magic != _MAGIC:
            raise InfrastructureError(
                str(self._path),
                cause=f"the record at byte {start} is damaged, and it is not the last one",
                fix="Restore the file, or delete the data directory to start with an empty store",
            )
        environ, received_at, seed = json.loads(content[:head_bytes])
        return JournaledRequest(environ, received_at, seed, content[head_bytes:])


class _Repeatable:
    """Makes moto's clock and identifiers a function of the journalled request."""

    def __init__(self) -> None:
        self._frozen: datetime | None = None
        s3_models.utcnow = self.now  # type: ignore[attr-defined]
        s3_models.FakeMultipart = _SeededMultipart  # type: ignore[misc]

    def now(self) -> datetime:
        return self._frozen or utcnow()

    def begin(self, request: JournaledRequest) -> None:
        self._frozen = datetime.fromisoformat(request.received_at)
        mock_random.seed(request.seed)

    def end(self) -> None:
        self._frozen = None


class _SeededMultipart(s3_models.FakeMultipart):
    """Moto takes upload ids from os.urandom; a resumed multipart upload must find its id after a restart."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.id = mock_random.get_random_hex(64)


class JournaledMoto:
    """Moto's S3 as a WSGI application whose state outlives the process.

    Only one may exist per process: moto's backends, clock and random source are global.
    """

    def __init__(self, journal: Journal) -> None:
        # Only the S3 app: moto's dispatcher would also serve /moto-api (reset!) and 150 other services.
        self._app: WSGIApplication = create_backend_app("s3")
        self._journal = journal
        self._repeatable = _Repeatable()
        # One request at a time: the journal has the order of effect, and conditional writes cannot race.
        self._lock = threading.Lock()

    def replay(self) -> int:
        """Apply the journal and return the number of requests in it."""
        count = 0
        for request in self._journal.requests():
            self._apply(request)
            count += 1
        return count

    def drain(self) -> None:
        """Wait for the request at work, and let none in after it: the process is about to end."""
        self._lock.acquire()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; a mutating one is in the journal before its answer."""
        with self._lock:
            if environ["REQUEST_METHOD"] in _READS:
                status, headers, content = self._run(environ)
            else:
                status, headers, content = self._journaled(environ)
        start_response(status, headers)
        return [content]

    def _journaled(self, environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], bytes]:
        request = JournaledRequest.of(environ, body=environ["wsgi.input"].read())
        start = self._journal.append(request)
        accepted = False
        try:
            answer = self._apply(request)
            accepted = answer[0].startswith("2")
        finally:
            if not accepted:
                self._journal.take_back(start)
        return answer

    def _apply(self, request: JournaledRequest) -> tuple[str, list[tuple[str, str]], bytes]:
        streams = {
            "wsgi.version": (1, 0),
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        self._repeatable.begin(request)
        try:
            return self._run({**request.environ, **streams})
        finally:
            self._repeatable.end()

    def _run(self, environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], bytes]:
        answer: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            answer[:] = [(status, headers)]
            return lambda _: None

        chunks = self._app(environ, start_response)
        try:
            content = b"".join(chunks)
        finally:
            getattr(chunks, "close", lambda: None)()
        return *answer[0], content
