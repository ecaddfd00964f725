"""A stand-in for two parts of the CloudFront API over HTTP, after AWS's reference, for what moto lacks.

Functions: create, describe, get, update, test and publish, with two stages, ETags and If-Match; TestFunction
runs the code that it was given, in Node. Invalidations: the documented limits (3,000 paths and 15 wildcards
in progress, the same CallerReference twice is one invalidation), and an end that comes
after so many questions. What AWS really does may differ; tests that use this say "stub" in their names.
"""

import base64
import json
import threading
import uuid
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from photo_pipeline_tests.node import FunctionError, NodeFunction

_ARN = "arn:aws:cloudfront::123456789012:function/"
_Answer = tuple[int, str | bytes, dict[str, str]]


@dataclass
class StubStage:
    code: bytes
    runtime: str
    comment: str
    etag: str = field(default_factory=lambda: f"E{uuid.uuid4().hex[:12].upper()}")


@dataclass
class StubInvalidation:
    id: str
    reference: str
    paths: list[str]
    questions_left: int

    @property
    def wildcards(self) -> int:
        return sum(path.endswith("*") for path in self.paths)


class StubError(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class CloudFrontStub:
    """Use it as a context manager; `url` is for AWS_ENDPOINT_URL_CLOUDFRONT."""

    def __init__(self) -> None:
        self.forget()
        self._running: dict[bytes, NodeFunction] = {}
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"stub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def forget(self) -> None:
        """Be as new."""
        self.calls: list[str] = []
        self.stages: dict[str, dict[str, StubStage]] = {}
        self.invalidations: list[StubInvalidation] = []
        self.questions = 0
        """How often each invalidation answers InProgress."""
        self.failures: list[StubError] = []
        """What the next calls fail with, one each."""
        self.lost_answers = 0
        """How many of the next creations are carried out, and answered with 503 all the same."""

    def __enter__(self) -> "CloudFrontStub":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for function in self._running.values():
            function.close()

    @property
    def in_progress(self) -> list[StubInvalidation]:
        return [each for each in self.invalidations if each.questions_left > 0]

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> _Answer:
        path = urlsplit(target)
        parts = path.path.strip("/").split("/")[1:]
        stage = parse_qs(path.query).get("Stage", ["DEVELOPMENT"])[0]
        with self._lock:
            if self.failures:
                raise self.failures.pop(0)
            if parts[0] == "distribution":
                return self._invalidation(method, parts[3:], body)
            return self._function(method, parts[1:], stage, headers.get("If-Match"), body)

    def _invalidation(self, method: str, parts: list[str], body: bytes) -> _Answer:
        if method == "GET":
            self.calls.append("GetInvalidation")
            found = next(each for each in self.invalidations if each.id == parts[0])
            status = "InProgress" if found.questions_left > 0 else "Completed"
            found.questions_left -= 1
            return 200, _invalidation_xml(found, status), {}
        self.calls.append("CreateInvalidation")
        document = ElementTree.fromstring(body)
        paths = [each.text or "" for each in document.iter() if each.tag.endswith("}Path")]
        reference = next(each.text or "" for each in document.iter() if each.tag.endswith("CallerReference"))
        quantity = next(each.text or "" for each in document.iter() if each.tag.endswith("Quantity"))
        made = next((each for each in self.invalidations if each.reference == reference), None)
        if made is None:
            made = self._create(reference, paths, int(quantity))
        if self.lost_answers:
            self.lost_answers -= 1
            raise StubError(503, "ServiceUnavailable")
        return 201, _invalidation_xml(made, "InProgress"), {}

    def _create(self, reference: str, paths: list[str], quantity: int) -> StubInvalidation:
        if quantity != len(paths):
            raise StubError(400, "InconsistentQuantities")
        if len(paths) > 3000:
            raise StubError(413, "BatchTooLarge")
        if any(not path.startswith("/") or "*" in path[:-1] or " " in path for path in paths):
            raise StubError(400, "InvalidArgument")
        made = StubInvalidation(f"I{len(self.invalidations)}", reference, paths, self.questions)
        running = [*self.in_progress, made]
        wildcards = sum(each.wildcards for each in running)
        if wildcards > 15 or sum(len(each.paths) for each in running) - wildcards > 3000:
            raise StubError(400, "TooManyInvalidationsInProgress")
        self.invalidations.append(made)
        return made

    def _function(
        self, method: str, parts: list[str], stage: str, if_match: str | None, body: bytes
    ) -> _Answer:
        document = _fields(body)
        if not parts:
            self.calls.append("CreateFunction")
            name = document["Name"]
            self.stages[name] = {"DEVELOPMENT": _new_stage(document)}
            return 201, self._summary(name, "DEVELOPMENT"), {"ETag": self.stages[name]["DEVELOPMENT"].etag}
        name, action = parts[0], parts[1] if len(parts) > 1 else ""
        stages = self.stages.get(name, {})
        if method == "GET":
            self.calls.append("DescribeFunction" if action else "GetFunction")
            if stage not in stages:
                raise StubError(404, "NoSuchFunctionExists")
            shown: str | bytes = self._summary(name, stage) if action else stages[stage].code
            return 200, shown, {"ETag": stages[stage].etag}
        if if_match != stages["DEVELOPMENT"].etag:
            raise StubError(412, "PreconditionFailed")
        if method == "PUT":
            self.calls.append("UpdateFunction")
            stages["DEVELOPMENT"] = _new_stage(document)
            # The name of this header is a misspelling in AWS's own API.
            return 200, self._summary(name, "DEVELOPMENT"), {"ETtag": stages["DEVELOPMENT"].etag}
        if action == "publish":
            self.calls.append("PublishFunction")
            present = stages["DEVELOPMENT"]
            stages["LIVE"] = StubStage(present.code, present.runtime, present.comment)
            return 200, self._summary(name, "LIVE"), {}
        self.calls.append("TestFunction")
        return 200, self._tested(name, document), {}

    def _tested(self, name: str, document: dict[str, str]) -> str:
        code = self.stages[name]["DEVELOPMENT"].code
        output, problem = "", ""
        try:
            if code not in self._running:
                self._running[code] = NodeFunction(code.decode())
            request = self._running[code](json.loads(base64.b64decode(document["EventObject"])))
            output = json.dumps({"request": request})
        except FunctionError as error:
            problem = str(error)
        return (
            f"<TestResult>{self._summary(name, 'DEVELOPMENT')}<ComputeUtilization>10</ComputeUtilization>"
            f"<FunctionErrorMessage>{escape(problem)}</FunctionErrorMessage>"
            f"<FunctionOutput>{escape(output)}</FunctionOutput></TestResult>"
        )

    def _summary(self, name: str, stage: str) -> str:
        present = self.stages[name][stage]
        return (
            f"<FunctionSummary><Name>{name}</Name><Status>UNASSOCIATED</Status>"
            f"<FunctionConfig><Comment>{escape(present.comment)}</Comment><Runtime>{present.runtime}</Runtime>"
            f"</FunctionConfig><FunctionMetadata><FunctionARN>{_ARN}{name}</FunctionARN><Stage>{stage}</Stage>"
            "<LastModifiedTime>2026-11-27T00:00:00Z</LastModifiedTime></FunctionMetadata></FunctionSummary>"
        )


def _fields(body: bytes) -> dict[str, str]:
    if not body.strip():
        return {}
    return {each.tag.rpartition("}")[2]: each.text or "" for each in ElementTree.fromstring(body).iter()}


def _new_stage(document: dict[str, str]) -> StubStage:
    code = base64.b64decode(document["FunctionCode"])
    if len(code) > 10 * 1024:
        raise StubError(413, "FunctionSizeLimitExceeded")
    return StubStage(code, document["Runtime"], document["Comment"])


def _invalidation_xml(made: StubInvalidation, status: str) -> str:
    items = "".join(f"<Path>{escape(path)}</Path>" for path in made.paths)
    return (
        f"<Invalidation><Id>{made.id}</Id><Status>{status}</Status><CreateTime>2026-11-27T00:00:00Z</CreateTime>"
        f"<InvalidationBatch><Paths><Quantity>{len(made.paths)}</Quantity><Items>{items}</Items></Paths>"
        f"<CallerReference>{made.reference}</CallerReference></InvalidationBatch></Invalidation>"
    )


class _Handler(BaseHTTPRequestHandler):
    stub: CloudFrontStub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, content, headers = self.stub.answer(self.command, self.path, self.headers, body)
        except StubError as error:
            status, headers = error.status, {}
            content = (
                f"<ErrorResponse><Error><Type>Sender</Type><Code>{error.code}</Code><Message>stub</Message>"
                "</Error></ErrorResponse>"
            )
        data = content if isinstance(content, bytes) else content.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_PUT = do_GET  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *values: object) -> None:
        pass
