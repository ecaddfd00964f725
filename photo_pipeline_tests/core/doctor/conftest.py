"""An embedded S3 and CDN whose bucket is as the doctor wants it, and a site on it that lacks nothing."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import urllib3

from photo_pipeline.core.delivery import cdn as cdn_module
from photo_pipeline.demo.servers import EmbeddedServers, RunningServers
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY, MakeSite
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site

BUCKET = "healthy-photos"
AUTO = ITEM_PHOTOS | {"rewrite": ITEM_PHOTOS["rewrite"] | {"format": "auto"}}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    """Not the session's server: other tests' bucket has no versions."""
    running = EmbeddedServers.start(
        tmp_path_factory.mktemp("s3"),
        bucket=BUCKET,
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        idle_stop_s=900,
    )
    client = boto3.client(
        "s3",
        endpoint_url=running.s3_url,
        region_name=running.region,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    blocked = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    client.put_public_access_block(
        Bucket=BUCKET,
        PublicAccessBlockConfiguration=dict.fromkeys(blocked, True),  # type: ignore[arg-type]
    )
    yield running
    running.stop()


@pytest.fixture
def healthy(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A site that lacks nothing."""
    quick: urllib3.Retry = cdn_module._RETRIES.new(backoff_factor=0)
    monkeypatch.setattr(cdn_module, "_RETRIES", quick)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return make_site(photos=1, sources=[AUTO])
