"""A photo store on the embedded server, with key prefixes of its own."""

import uuid
from collections.abc import Callable
from functools import partial

import pytest

from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.demo.servers import RunningServers

StoreAt = Callable[..., StoreSettings]


@pytest.fixture
def settings_for(servers: RunningServers, aws_environment: None) -> StoreAt:
    """Settings of the embedded store; `settings_for(endpoint_url=…)` changes some."""

    return partial(settings_at, servers)


def settings_at(servers: RunningServers, **changes: object) -> StoreSettings:
    defaults: dict[str, object] = {
        "bucket": servers.bucket,
        "region": servers.region,
        "endpoint_url": servers.s3_url,
        "prefix": f"{uuid.uuid4().hex[:8]}/photos",
        "encryption": None,
    }
    return StoreSettings.model_validate(defaults | changes)


@pytest.fixture
def store(settings_for: StoreAt) -> PhotoStore:
    return PhotoStore.open(settings_for())
