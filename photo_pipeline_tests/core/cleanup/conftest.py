"""An embedded server whose bucket keeps versions, for the tests of the clean-up."""

from collections.abc import Iterator

import boto3
import pytest

from photo_pipeline.demo.servers import EmbeddedServers, RunningServers
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    """The embedded S3 server and CDN edge, with versioning switched on."""
    running = EmbeddedServers.start(
        tmp_path_factory.mktemp("s3-versioned"),
        bucket="test-photos",
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        idle_stop_s=900,
    )
    client = boto3.client(
        "s3",
        endpoint_url=running.s3_url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
    )
    client.put_bucket_versioning(Bucket=running.bucket, VersioningConfiguration={"Status": "Enabled"})
    yield running
    running.stop()
