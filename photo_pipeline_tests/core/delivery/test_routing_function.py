"""The JavaScript that CloudFront runs for `.auto` URLs, run in Node: real browsers, and anything at all."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photo_pipeline.core.delivery.routing import ACCEPT_BY_FORMAT, negotiate_format
from photo_pipeline.core.delivery.routing_function import publish
from photo_pipeline.core.delivery.routing_function.cases import CASES, LIVE_CASES, RoutingCase
from photo_pipeline.core.delivery.routing_function.publish import (
    MAX_BYTES,
    event_of,
    function_code,
    publish_function,
)
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError
from photo_pipeline_tests.cloudfront_stub import CloudFrontStub, StubError
from photo_pipeline_tests.examples import examples
from photo_pipeline_tests.node import FunctionError, NodeFunction

EXTENSIONS = {"avif": "avif", "webp": "webp", "jpeg": "jpg"}


@pytest.fixture(scope="module")
def function() -> Iterator[NodeFunction]:
    with NodeFunction(function_code().decode()) as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_program_gets_the_best_format_it_names(function: NodeFunction, case: RoutingCase) -> None:
    assert function(event_of(case))["uri"] == case.becomes


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_table_is_what_the_reference_says(case: RoutingCase) -> None:
    if case.uri.endswith(".auto"):
        accept = ",".join(case.accept) if case.accept else None
        assert case.becomes == f"{case.uri.removesuffix('.auto')}.{negotiate_format(accept)}"


def test_the_three_headers_that_the_delivery_test_sends_get_three_formats() -> None:
    assert {name: negotiate_format(accept) for name, accept in ACCEPT_BY_FORMAT.items()} == EXTENSIONS


NAMES = ["image/avif", "image/webp", "*/*", "IMAGE/", "q", "q=", "q=0", "Q=0.000", "q=0.0001"]
MARKS = [";", ",", "=", " ", "0.", "1", "1.0", "1.5", ".5", "-", "e-3", '"', "²"]
# What either Python or JavaScript calls space, and a letter that grows when it is made small.
ODD = ["\t", "\n", "\u00a0", "\ufeff", "\x1c", "\u0130"]
HEADER_PIECES = st.sampled_from([*NAMES, *MARKS, *ODD])
HEADERS = st.one_of(st.text(), st.lists(HEADER_PIECES).map("".join))


@examples(250, deadline=None)
@given(st.lists(HEADERS, max_size=3))
def test_it_agrees_with_the_reference_on_any_headers(function: NodeFunction, accept: list[str]) -> None:
    case = RoutingCase("any", "/a.auto", tuple(accept), "")
    reference = negotiate_format(",".join(accept) if accept else None)
    assert function(event_of(case))["uri"] == f"/a.{reference}"


def test_nothing_but_the_path_of_the_request_is_changed(function: NodeFunction) -> None:
    event = event_of(CASES[0])
    event["request"]["querystring"] = {"v": {"value": "1"}}
    assert function(event) == event["request"] | {"uri": CASES[0].becomes}


@pytest.mark.parametrize(
    ("uri", "vary", "expected"),
    [
        ("/a.auto", None, "Accept"),
        ("/a.auto", "Origin", "Origin, Accept"),
        ("/a.auto", "origin, ACCEPT", "origin, ACCEPT"),
        ("/a.auto", "*", "*"),
        ("/a.jpg", None, None),
    ],
)
def test_answers_to_auto_urls_say_that_they_vary(
    function: NodeFunction, uri: str, vary: str | None, expected: str | None
) -> None:
    headers = {"vary": {"value": vary}} if vary else {}
    event = {
        "context": {"eventType": "viewer-response"},
        "request": {"uri": uri, "headers": {}},
        "response": {"statusCode": 200, "headers": headers},
    }
    answer = function(event)
    assert answer["headers"].get("vary", {}).get("value") == expected
    assert answer["statusCode"] == 200


def test_it_fits_cloudfront_and_asks_for_nothing_that_only_node_has() -> None:
    code = function_code()
    assert len(code) < MAX_BYTES
    assert code.isascii()  # CloudFront would count and show anything else oddly
    with (
        pytest.raises(FunctionError),
        NodeFunction("function handler(e) { return require('fs') }") as control,
    ):
        control({})


def test_it_is_created_tested_and_published_on_a_stub_of_the_api(
    stub: CloudFrontStub, cloudfront: Any
) -> None:
    done = publish_function(cloudfront, name="auto")
    assert (done.outcome, done.cases_tested) == ("created", len(LIVE_CASES))
    assert done.arn.endswith(":function/auto")
    assert done.attach[0][0] == "viewer-request"
    live = stub.stages["auto"]["LIVE"]
    assert (live.code, live.runtime) == (function_code(), "cloudfront-js-2.0")
    assert stub.calls.count("TestFunction") == len(LIVE_CASES)
    assert stub.calls[-1] == "PublishFunction"


def test_what_is_live_is_not_published_again_on_a_stub_of_the_api(
    stub: CloudFrontStub, cloudfront: Any
) -> None:
    first = publish_function(cloudfront, name="auto")
    stub.calls.clear()
    again = publish_function(cloudfront, name="auto")
    assert (again.outcome, again.arn) == ("unchanged", first.arn)
    assert stub.calls == ["DescribeFunction", "GetFunction"]


def test_an_older_version_is_updated_on_a_stub_of_the_api(
    stub: CloudFrontStub, cloudfront: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(publish, "function_code", lambda: function_code() + b"// older\n")
        publish_function(cloudfront, name="auto")
    done = publish_function(cloudfront, name="auto")
    assert done.outcome == "updated"
    assert stub.stages["auto"]["LIVE"].code == function_code()


def test_a_publication_that_was_interrupted_goes_on_on_a_stub_of_the_api(
    stub: CloudFrontStub, cloudfront: Any
) -> None:
    publish_function(cloudfront, name="auto")
    del stub.stages["auto"]["LIVE"]
    done = publish_function(cloudfront, name="auto")
    assert done.outcome == "published"
    assert "LIVE" in stub.stages["auto"]


@pytest.mark.parametrize("wrong", ["'avif'", "'jpg'", "oops()"])
def test_a_function_that_fails_its_test_never_goes_live_on_a_stub_of_the_api(
    stub: CloudFrontStub, cloudfront: Any, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    right = function_code()
    publish_function(cloudfront, name="auto")
    broken = right.replace(
        b"function bestExtension(accept) {", f"function bestExtension(accept) {{ return {wrong};".encode()
    )
    assert broken != right
    monkeypatch.setattr(publish, "function_code", lambda: broken)
    with pytest.raises(GuardRefusedError, match=r"on CloudFront's servers it fails for .+ not published"):
        publish_function(cloudfront, name="auto")
    assert stub.stages["auto"]["LIVE"].code == right


def test_a_refusal_names_the_permission_on_a_stub_of_the_api(stub: CloudFrontStub, cloudfront: Any) -> None:
    stub.failures.append(StubError(403, "AccessDenied"))
    with pytest.raises(ConfigurationError, match="Allow cloudfront:"):
        publish_function(cloudfront, name="auto")
