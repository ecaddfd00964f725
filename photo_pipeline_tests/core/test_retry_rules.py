"""The one table of retry rules, and that every error finds its rule in it."""

from collections.abc import Iterator

import pytest
import requests
from botocore.exceptions import ClientError, ConnectTimeoutError

from photo_pipeline.core import errors
from photo_pipeline.core.errors import (
    ErrorClass,
    PhotoPipelineError,
    PhotoTimeoutError,
    StoreError,
    StoreRefusedError,
    StoreUnreachableError,
)
from photo_pipeline.core.retry_rules import RULES, after_tries, class_of, class_of_type, rule_of
from photo_pipeline.core.storage.faults import store_errors


def kinds(kind: type[PhotoPipelineError] = PhotoPipelineError) -> Iterator[type[PhotoPipelineError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from kinds(each)


def waits(kind: ErrorClass) -> list[float]:
    return [RULES[kind].wait_s(failures) for failures in range(1, RULES[kind].retries + 1)]


def test_each_class_of_the_taxonomy_has_its_tries_and_waits() -> None:
    assert waits(ErrorClass.NETWORK) == [1, 2, 4]
    assert waits(ErrorClass.STORAGE) == [5, 10]
    assert waits(ErrorClass.PROCESSING) == [0]
    for never in (ErrorClass.QUOTA, ErrorClass.UNSUPPORTED, ErrorClass.CORRUPTION):
        assert waits(never) == []
    assert set(RULES) == set(ErrorClass)


def test_no_wait_grows_beyond_an_hour() -> None:
    for rule in RULES.values():
        assert rule.wait_s(10_000) <= 3600


@pytest.mark.parametrize("kind", sorted(kinds(), key=lambda kind: kind.__name__))
def test_each_error_has_a_rule(kind: type[PhotoPipelineError]) -> None:
    error = kind("a thing", cause="a cause")
    assert rule_of(error) is RULES[class_of(error)]
    assert RULES[class_of(error)].sentence


def test_what_is_recorded_of_a_photo_leads_to_its_class() -> None:
    for kind in kinds(errors.PhotoError):
        assert issubclass(kind, errors.PhotoError)
        assert class_of_type(kind.error_type) is kind.error_class
    assert class_of_type("conflict") is ErrorClass.CORRUPTION
    assert class_of_type(None) is None
    assert class_of(requests.Timeout()) is ErrorClass.PROCESSING


def test_a_store_that_does_not_answer_is_told_from_one_that_fails() -> None:
    def raised(error: Exception) -> type[StoreError]:
        with pytest.raises(StoreError) as found, store_errors("s3://bucket/key"):
            raise error
        return type(found.value)

    busy = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
    denied = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    assert raised(ConnectTimeoutError(endpoint_url="http://nowhere")) is StoreUnreachableError
    assert raised(ClientError(busy, "PutObject")) is StoreError  # type: ignore[arg-type]
    assert raised(ClientError(denied, "PutObject")) is StoreRefusedError  # type: ignore[arg-type]


def test_an_error_that_came_again_says_how_often() -> None:
    error = PhotoTimeoutError("a.jpg", cause="it took too long", fix="replace it")
    assert after_tries(error, 1) is error
    again = after_tries(error, 2)
    assert str(again) == "a.jpg: it took too long (tried 2 times). Replace it."
    assert type(again) is PhotoTimeoutError
