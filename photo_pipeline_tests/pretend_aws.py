"""AWS over HTTP on 127.0.0.1: moto, with a stand-in for what it lacks or loses of CloudFront and Budgets.

Of CloudFront, moto forgets a distribution's origin access control, functions and policies, takes any
If-Match, and knows no cache policies, response headers policies and monitoring subscriptions. The stand-in
keeps documents as they came, with the defaults that AWS adds, and refuses what AWS documents as refused: a
stale ETag, a quantity that is not its list's, an unknown id, a name twice. What AWS really does may differ;
tests that lean on it say "stub" in their names. moto's Budgets has no UpdateBudget; here it replaces the
budget.
"""

import copy
import json
import threading
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from moto.budgets.models import budgets_backends
from moto.core.base_backend import BackendDict
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from photo_pipeline.demo.http_serving import serve_in_background
from photo_pipeline_tests.sockets import listening_socket

ACCOUNT = "123456789012"
_API = "/2020-05-31/"
_Answer = tuple[int, str, dict[str, str]]


class StubError(Exception):
    """What AWS would refuse, with its status and code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


@dataclass
class Kept:
    """One resource: its configuration as it came, and what goes with it."""

    config: ET.Element
    id: str = field(default_factory=lambda: f"E{uuid.uuid4().hex[:12].upper()}")
    etag: str = field(default_factory=lambda: uuid.uuid4().hex)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: ET.Element | None = None


@dataclass(frozen=True)
class Kind:
    """How one kind of resource is spelled in CloudFront's XML."""

    wrapper: str
    config: str
    container: str
    item: str
    missing: str
    taken: str


KINDS = {
    "distribution": Kind(
        "Distribution",
        "DistributionConfig",
        "DistributionList",
        "DistributionSummary",
        "NoSuchDistribution",
        "",
    ),
    "origin-access-control": Kind(
        "OriginAccessControl",
        "OriginAccessControlConfig",
        "OriginAccessControlList",
        "OriginAccessControlSummary",
        "NoSuchOriginAccessControl",
        "OriginAccessControlAlreadyExists",
    ),
    "cache-policy": Kind(
        "CachePolicy",
        "CachePolicyConfig",
        "CachePolicyList",
        "CachePolicySummary",
        "NoSuchCachePolicy",
        "CachePolicyAlreadyExists",
    ),
    "response-headers-policy": Kind(
        "ResponseHeadersPolicy",
        "ResponseHeadersPolicyConfig",
        "ResponseHeadersPolicyList",
        "ResponseHeadersPolicySummary",
        "NoSuchResponseHeadersPolicy",
        "ResponseHeadersPolicyAlreadyExists",
    ),
}


class CloudFrontStub:
    """The stand-in; a WSGI application for paths below /2020-05-31/, functions excepted."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Kept]] = {kind: {} for kind in KINDS}

    def answer(self, method: str, path: str, query: dict[str, list[str]], match: str, body: bytes) -> _Answer:
        """Return status, document and headers.

        Raises:
            StubError: AWS would refuse it.
        """
        parts = path.removeprefix(_API).split("/")
        document = ET.fromstring(body) if body.strip() else None
        if document is not None:
            _check_quantities(document)
        if parts[0] == "tagging":
            return self._tagging(method, query["Resource"][0], document)
        if parts[0] == "distributions":
            return self._metrics(method, self._find("distribution", parts[1]), document)
        if method == "POST":
            return self._create(parts[0], document)
        if len(parts) == 1:
            return 200, self._list(parts[0]), {}
        found = self._find(parts[0], parts[1])
        if method == "PUT":
            self._update(parts[0], found, document, match)
        shown = (
            _text(found.config) if parts[-1] == "config" and method == "GET" else _wrapped(parts[0], found)
        )
        return 200, shown, {"ETag": found.etag}

    def _find(self, kind: str, name: str) -> Kept:
        if name not in self.kept[kind]:
            raise StubError(404, KINDS[kind].missing)
        return self.kept[kind][name]

    def _create(self, kind: str, document: ET.Element | None) -> _Answer:
        assert document is not None
        config = document if _tag(document) == KINDS[kind].config else _child(document, KINDS[kind].config)
        made = Kept(_plain(config))
        if kind == "distribution":
            self._check_distribution(made.config)
            reference = made.config.findtext("CallerReference")
            if any(each.config.findtext("CallerReference") == reference for each in self.kept[kind].values()):
                raise StubError(409, "DistributionAlreadyExists")
            made.tags = {t.findtext("Key", ""): t.findtext("Value", "") for t in _plain(document).iter("Tag")}
            _add_defaults(made.config)
        elif any(
            each.config.findtext("Name") == made.config.findtext("Name") for each in self.kept[kind].values()
        ):
            raise StubError(409, KINDS[kind].taken)
        self.kept[kind][made.id] = made
        return 201, _wrapped(kind, made), {"ETag": made.etag}

    def _update(self, kind: str, found: Kept, document: ET.Element | None, match: str) -> None:
        assert document is not None
        if match != found.etag:
            raise StubError(412, "PreconditionFailed")
        if kind == "distribution":
            self._check_distribution(_plain(document))
        found.config, found.etag = _plain(document), uuid.uuid4().hex

    def _check_distribution(self, config: ET.Element) -> None:
        for tag, kind in (
            ("OriginAccessControlId", "origin-access-control"),
            ("CachePolicyId", "cache-policy"),
            ("ResponseHeadersPolicyId", "response-headers-policy"),
        ):
            for each in config.iter(tag):
                if each.text and each.text not in self.kept[kind]:
                    raise StubError(404, KINDS[kind].missing)
        behaviour = _child(config, "DefaultCacheBehavior")
        if behaviour.findtext("CachePolicyId") and behaviour.find("MinTTL") is not None:
            raise StubError(400, "InvalidArgument")
        origins = {each.findtext("Id") for each in config.iter("Origin")}
        if behaviour.findtext("TargetOriginId") not in origins:
            raise StubError(400, "NoSuchOrigin")
        if config.findtext("Aliases/Quantity", "0") != "0" and not config.findtext(
            "ViewerCertificate/ACMCertificateArn"
        ):
            raise StubError(400, "InvalidViewerCertificate")

    def _list(self, kind: str) -> str:
        names = KINDS[kind]
        items = "".join(_summary(kind, each) for each in self.kept[kind].values())
        return (
            f"<{names.container}><Marker></Marker><MaxItems>100</MaxItems><IsTruncated>false</IsTruncated>"
            f"<Quantity>{len(self.kept[kind])}</Quantity><Items>{items}</Items></{names.container}>"
        )

    def _tagging(self, method: str, arn: str, document: ET.Element | None) -> _Answer:
        found = self._find("distribution", arn.rpartition("/")[2])
        if method == "POST" and document is not None:
            found.tags |= {
                t.findtext("Key", ""): t.findtext("Value", "") for t in _plain(document).iter("Tag")
            }
            return 204, "", {}
        tags = "".join(f"<Tag><Key>{k}</Key><Value>{v}</Value></Tag>" for k, v in found.tags.items())
        return 200, f"<Tags><Items>{tags}</Items></Tags>", {}

    def _metrics(self, method: str, found: Kept, document: ET.Element | None) -> _Answer:
        if method == "POST":
            found.metrics = document
        if found.metrics is None:
            raise StubError(404, "NoSuchMonitoringSubscription")
        return 200, _text(found.metrics), {}


class PretendAws:
    """Moto and the stand-in behind one port; use it as a context manager.

    moto keeps what is stored per process, not per server: entering and leaving empty it, or a later module
    would find an earlier one's buckets.
    """

    def __init__(self) -> None:
        self.cloudfront = CloudFrontStub()
        self.requests: list[str] = []
        self.unknown: set[str] = set()
        """Requests (as `PUT encryption`) that are answered as by a server that does not know them."""
        self._moto: WSGIApplication = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        listener = listening_socket()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = serve_in_background(self._respond, listener)

    def __enter__(self) -> "PretendAws":
        BackendDict.reset()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        BackendDict.reset()

    def _respond(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.requests.append(f"{environ['REQUEST_METHOD']} {path}?{environ.get('QUERY_STRING', '')}")
        if f"{environ['REQUEST_METHOD']} {environ.get('QUERY_STRING', '')}" in self.unknown:
            start_response("501 Not Implemented", [("Content-Type", "application/xml")])
            return [b"<Error><Code>NotImplemented</Code><Message>unknown here</Message></Error>"]
        if path.startswith(_API) and not path.startswith(f"{_API}function"):
            return self._cloudfront(environ, start_response)
        if environ.get("HTTP_X_AMZ_TARGET") == "AWSBudgetServiceGateway.UpdateBudget":
            return self._update_budget(environ, start_response)
        return self._moto(environ, start_response)

    def _cloudfront(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        try:
            with self._lock:
                status, text, headers = self.cloudfront.answer(
                    environ["REQUEST_METHOD"],
                    environ["PATH_INFO"],
                    query,
                    environ.get("HTTP_IF_MATCH", ""),
                    body,
                )
        except StubError as error:
            status, headers = error.status, {}
            text = (
                f"<ErrorResponse><Error><Type>Sender</Type><Code>{error.code}</Code><Message>stub</Message>"
                "</Error></ErrorResponse>"
            )
        start_response(f"{status} stub", [("Content-Type", "text/xml"), *headers.items()])
        return [text.encode()]

    def _update_budget(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        budgets: Any = budgets_backends[ACCOUNT]["aws"].budgets
        budgets[asked["AccountId"]][asked["NewBudget"]["BudgetName"]].budget = asked["NewBudget"]
        start_response("200 OK", [("Content-Type", "application/x-amz-json-1.1")])
        return [b"{}"]


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _plain(element: ET.Element) -> ET.Element:
    """Return a copy without namespaces."""
    copied = copy.deepcopy(element)
    for each in copied.iter():
        each.tag = _tag(each)
    return copied


def _text(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode")


def _child(element: ET.Element, name: str) -> ET.Element:
    return next(each for each in element.iter() if _tag(each) == name)


def _check_quantities(document: ET.Element) -> None:
    for element in document.iter():
        children = {_tag(each): each for each in element}
        if "Quantity" in children and int(children["Quantity"].text or 0) != len(children.get("Items", ())):
            raise StubError(400, "InconsistentQuantities")


def _add_defaults(config: ET.Element) -> None:
    """Add what AWS adds: the reader must not take it for a difference, nor the writer lose it."""
    for name, text in (("DefaultRootObject", ""), ("WebACLId", ""), ("Staging", "false")):
        if config.find(name) is None:
            ET.SubElement(config, name).text = text
    for origin in config.iter("Origin"):
        for name, text in (("OriginPath", ""), ("ConnectionAttempts", "3"), ("ConnectionTimeout", "10")):
            if origin.find(name) is None:
                ET.SubElement(origin, name).text = text
    behaviour = _child(config, "DefaultCacheBehavior")
    for name, text in (("SmoothStreaming", "false"), ("FieldLevelEncryptionId", "")):
        if behaviour.find(name) is None:
            ET.SubElement(behaviour, name).text = text


def _facts(kind: str, kept: Kept) -> str:
    if kind == "distribution":
        return (
            f"<Id>{kept.id}</Id><ARN>arn:aws:cloudfront::{ACCOUNT}:distribution/{kept.id}</ARN>"
            f"<Status>Deployed</Status><DomainName>{kept.id.lower()}.cloudfront.net</DomainName>"
        )
    return f"<Id>{kept.id}</Id>"


def _wrapped(kind: str, kept: Kept) -> str:
    name = KINDS[kind].wrapper
    return f"<{name}>{_facts(kind, kept)}{_text(kept.config)}</{name}>"


def _summary(kind: str, kept: Kept) -> str:
    item = KINDS[kind].item
    if kind.endswith("-policy"):
        return f"<{item}><Type>custom</Type>{_wrapped(kind, kept)}</{item}>"
    return f"<{item}>{_facts(kind, kept)}{''.join(_text(each) for each in kept.config)}</{item}>"
