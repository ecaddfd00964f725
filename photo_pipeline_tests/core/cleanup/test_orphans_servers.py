"""The clean-up on servers that lack something: rclone's (no versions, no conditions), and Ceph RGW."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY
from photo_pipeline_tests.core.cleanup.scene import opened
from photo_pipeline_tests.core.migration.quick import migrated
from photo_pipeline_tests.rclone_server import RcloneServer
from photo_pipeline_tests.sites import build_site

DAYS = 25
# A Ceph RGW that somebody has started: its URL; credentials as the embedded server's.
RGW = "PHOTO_PIPELINE_TEST_RGW_URL"


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneServer]:
    server = RcloneServer.start(
        tmp_path_factory.mktemp("rclone") / "data",
        bucket="photos",
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
    )
    yield server
    server.stop()


def test_without_versions_nothing_is_deleted_unless_that_is_said(
    rclone: RcloneServer, tmp_path: Path, aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'app.db'}"
    monkeypatch.setenv("APP_DATABASE_URL", url)
    site = build_site(tmp_path, url=url, servers=rclone.servers, name=uuid.uuid4().hex[:8], photos=2)
    migrated(site)
    with opened(site) as scene:
        needed = scene.stored()
        key = scene.put(scene.key_of_nobody())
        missing = sorted(needed)[0]
        scene.later(hours=DAYS)
        assert scene.orphans() == {key}
        assert scene.drift().total == 0
        scene.mark()
        scene.later(hours=DAYS)
        with pytest.raises(GuardRefusedError, match="keeps no versions"):
            scene.delete()
        assert scene.delete(unversioned=True).keys == [key]
        assert scene.stored() == needed
        assert "kept no versions" in scene.undo().lost[0]
        scene.project.store.delete(missing)
        assert [(each.kind, each.key) for each in scene.drift().findings] == [("missing", missing)]


def test_on_ceph_rgw_an_orphan_goes_and_comes_back(
    make_site: object, servers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.environ.get(RGW):
        pytest.skip(f"no Ceph RGW: ${RGW} is not set (docs/s3-servers.md says how one is unpacked)")
    site = make_site(photos=1)  # type: ignore[operator]
    migrated(site)
    client = boto3.client("s3", endpoint_url=os.environ[RGW], region_name="us-east-1")
    bucket = f"orphans-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    site.configure(store=site.settings["store"] | {"endpoint_url": os.environ[RGW], "bucket": bucket})
    site.execute("UPDATE pp_object SET bucket = :bucket", bucket=bucket)
    with opened(site) as scene:
        key = scene.put(scene.key_of_nobody())
        scene.later(hours=DAYS)
        scene.mark()
        scene.later(hours=DAYS)
        assert scene.delete().keys == [key]
        assert scene.stored() == set()
        assert scene.undo().restored == 1
        assert scene.stored() == {key}
