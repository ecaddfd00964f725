"""An embedded S3 and CDN whose bucket is as the doctor wants it, and a site on it that lacks nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from photo_pipeline.core.delivery import cdn as cdn_module
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import MakeSite, client_of, embedded_servers
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site

BUCKET = "healthy-photos"
AUTO = ITEM_PHOTOS | {"rewrite": ITEM_PHOTOS["rewrite"] | {"format": "auto"}}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    """Not the session's server: other tests' bucket has no versions."""
    with embedded_servers(tmp_path_factory.mktemp("s3"), BUCKET) as running:
        client = client_of(running)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        blocked = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        client.put_public_access_block(
            Bucket=BUCKET, PublicAccessBlockConfiguration=dict.fromkeys(blocked, True)
        )
        yield running


@pytest.fixture
def healthy(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A site that lacks nothing."""
    quick: urllib3.Retry = cdn_module._RETRIES.new(backoff_factor=0)
    monkeypatch.setattr(cdn_module, "_RETRIES", quick)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return make_site(photos=1, sources=[AUTO])
