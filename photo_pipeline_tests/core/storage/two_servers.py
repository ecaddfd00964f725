"""Two real S3 servers that differ where it matters, each with one store for all tests of a module."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.storage.probe import StoreProbe, ask_store
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY, embedded_credentials
from photo_pipeline_tests.rclone_server import RcloneServer


@dataclass(frozen=True)
class Served:
    """A store, what the probe found out about its server, and where that is."""

    name: str
    store: PhotoStore
    probe: StoreProbe
    url: str

    def key(self, name: str = "a.jpg") -> str:
        """Return a key that no other test uses."""
        return f"{self.store.settings.prefix}/{uuid.uuid4().hex}/{name}"

    def through(self, url: str) -> PhotoStore:
        """Return the same bucket by another way, say a proxy."""
        return PhotoStore.open(self.store.settings.model_copy(update={"endpoint_url": url}))


@pytest.fixture(scope="module")
def embedded(servers: RunningServers) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as environment:
        embedded_credentials(environment)
        yield served_by("embedded", servers)


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = RcloneServer.start(
        tmp_path_factory.mktemp("rclone"), bucket="second", access_key=ACCESS_KEY, secret_key=SECRET_KEY
    )
    with pytest.MonkeyPatch.context() as environment:
        embedded_credentials(environment)
        yield served_by("rclone", server.servers)
    server.stop()


@pytest.fixture(scope="module", params=["embedded", "rclone"])
def served(request: pytest.FixtureRequest) -> Served:
    """Each of the two, in turn."""
    found: Served = request.getfixturevalue(request.param)
    return found


def served_by(name: str, servers: RunningServers) -> Served:
    settings = StoreSettings(
        bucket=servers.bucket,
        region=servers.region,
        endpoint_url=servers.s3_url,
        prefix=f"{uuid.uuid4().hex[:8]}/photos",
        encryption=None,
    )
    store = PhotoStore.open(settings)
    return Served(name, store, ask_store(store), servers.s3_url)
