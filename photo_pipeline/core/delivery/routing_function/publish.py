"""Brings the routing function to CloudFront: create or update, test on their servers, publish.

Idempotent: what is live already is not published again. Attaching the function to a distribution's behaviour
is provisioning's business; `Published.attach` says what has to be attached.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from botocore.exceptions import ClientError

from photo_pipeline.core.aws_errors import error_code
from photo_pipeline.core.delivery.cloudfront import cloudfront_errors
from photo_pipeline.core.delivery.routing_function.cases import LIVE_CASES, RoutingCase
from photo_pipeline.core.errors import GuardRefusedError

RUNTIME = "cloudfront-js-2.0"
DEFAULT_NAME = "photo-pipeline-auto-format"
# CloudFront's limit of a function's size.
MAX_BYTES = 10 * 1024
_COMMENT = "photo_pipeline: maps .auto URLs to AVIF, WebP or JPEG by Accept"


@dataclass(frozen=True)
class Published:
    """The function as it is live now.

    Attributes:
        name: Its name.
        arn: Its ARN, which a cache behaviour names.
        outcome: Whether it had to be created, updated, only published (it was in development), or nothing.
        cases_tested: How many requests CloudFront ran it on before it was published.
        attach: The event types of the cache behaviour, and whether each is required.
    """

    name: str
    arn: str
    outcome: Literal["created", "updated", "published", "unchanged"]
    cases_tested: int
    attach: tuple[tuple[str, str], ...] = (
        ("viewer-request", "required: chooses the format"),
        ("viewer-response", "optional: adds Vary: Accept for caches behind CloudFront"),
    )


def function_code() -> bytes:
    """Return the JavaScript."""
    return (files(__package__) / "auto_format.js").read_bytes()


def event_of(case: RoutingCase) -> dict[str, Any]:
    """Return the case as the event that CloudFront hands to a viewer-request function."""
    headers: dict[str, Any] = {}
    if case.accept:
        headers["accept"] = {"value": case.accept[0]}
        if len(case.accept) > 1:
            headers["accept"]["multiValue"] = [{"value": value} for value in case.accept]
    return {
        "version": "1.0",
        "context": {"eventType": "viewer-request"},
        "viewer": {"ip": "198.51.100.7"},
        "request": {"method": "GET", "uri": case.uri, "querystring": {}, "headers": headers, "cookies": {}},
    }


def publish_function(cloudfront: Any, *, name: str = DEFAULT_NAME) -> Published:
    """Let the function of that name be this one, live; return what it is and what must be attached.

    Args:
        cloudfront: Client of the CloudFront API (`open_cloudfront`).
        name: The function's name within the account.

    Raises:
        GuardRefusedError: CloudFront ran it and it did something else than here; it is not published.
        ConfigurationError: CloudFront refuses the credentials.
        InfrastructureError: CloudFront does not answer.
    """
    with cloudfront_errors(f"CloudFront function {name}", permission="cloudfront:*Function"):
        live = _stage(cloudfront, name, "LIVE")
        if live is not None and live.is_current:
            return Published(name, live.arn, "unchanged", cases_tested=0)
        outcome, etag = _develop(cloudfront, name)
        for case in LIVE_CASES:
            _require(case, cloudfront, name, etag)
        answer = cloudfront.publish_function(Name=name, IfMatch=etag)
        arn = answer["FunctionSummary"]["FunctionMetadata"]["FunctionARN"]
    return Published(name, arn, outcome, cases_tested=len(LIVE_CASES))


@dataclass(frozen=True)
class _Stage:
    """One stage of the function as CloudFront has it."""

    etag: str
    arn: str
    is_current: bool


def _stage(cloudfront: Any, name: str, stage: str) -> _Stage | None:
    try:
        described = cloudfront.describe_function(Name=name, Stage=stage)
        stored = cloudfront.get_function(Name=name, Stage=stage)
    except ClientError as error:
        if error_code(error) == "NoSuchFunctionExists":
            return None
        raise
    summary = described["FunctionSummary"]
    same_runtime = summary["FunctionConfig"]["Runtime"] == RUNTIME
    return _Stage(
        etag=described["ETag"],
        arn=summary["FunctionMetadata"]["FunctionARN"],
        is_current=same_runtime and stored["FunctionCode"].read() == function_code(),
    )


def _develop(cloudfront: Any, name: str) -> tuple[Literal["created", "updated", "published"], str]:
    """Bring the code to the development stage; return what was done and the stage's ETag."""
    present = _stage(cloudfront, name, "DEVELOPMENT")
    config = {"Comment": _COMMENT, "Runtime": RUNTIME}
    if present is None:
        made = cloudfront.create_function(Name=name, FunctionConfig=config, FunctionCode=function_code())
        return "created", str(made["ETag"])
    if present.is_current:
        return "published", present.etag
    changed = cloudfront.update_function(
        Name=name, IfMatch=present.etag, FunctionConfig=config, FunctionCode=function_code()
    )
    return "updated", str(changed["ETag"])


def _require(case: RoutingCase, cloudfront: Any, name: str, etag: str) -> None:
    """Let CloudFront run the function on one case."""
    event = json.dumps(event_of(case)).encode()
    result = cloudfront.test_function(Name=name, IfMatch=etag, Stage="DEVELOPMENT", EventObject=event)
    tested = result["TestResult"]
    problem = tested.get("FunctionErrorMessage") or ""
    if not problem:
        uri = json.loads(tested["FunctionOutput"]).get("request", {}).get("uri")
        problem = "" if uri == case.becomes else f"{case.uri} became {uri!r}, not {case.becomes!r}"
    if problem:
        raise GuardRefusedError(
            f"CloudFront function {name}",
            cause=f"on CloudFront's servers it fails for {case.name}: {problem}",
            fix="it was not published, and what was live before still is; please report this",
        )
