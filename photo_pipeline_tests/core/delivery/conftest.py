"""One stub of the CloudFront API for a whole module, and one client of it: a client takes 0.3 s to make."""

from collections.abc import Iterator
from typing import Any

import pytest

from photo_pipeline.core.delivery.cloudfront import open_cloudfront
from photo_pipeline_tests.cloudfront_stub import CloudFrontStub


@pytest.fixture(scope="module")
def _stub_and_client() -> Iterator[tuple[CloudFrontStub, Any]]:
    with CloudFrontStub() as running, pytest.MonkeyPatch.context() as environment:
        environment.delenv("AWS_PROFILE", raising=False)
        environment.setenv("AWS_ACCESS_KEY_ID", "STUB")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "only-for-the-stub")
        environment.setenv("AWS_ENDPOINT_URL_CLOUDFRONT", running.url)
        yield running, open_cloudfront()


@pytest.fixture
def stub(_stub_and_client: tuple[CloudFrontStub, Any]) -> CloudFrontStub:
    """The stub, as new."""
    _stub_and_client[0].forget()
    return _stub_and_client[0]


@pytest.fixture
def cloudfront(stub: CloudFrontStub, _stub_and_client: tuple[CloudFrontStub, Any]) -> Any:
    """A client of the stub."""
    return _stub_and_client[1]
