"""The clean-up on servers that lack something: rclone's (no versions, no conditions), and Ceph RGW."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from botocore.credentials import Credentials

from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.demo.edge import CdnEdge
from photo_pipeline.demo.http_serving import serve_in_background
from photo_pipeline.demo.s3_signature import SignedS3Client
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.ceph_server import ROOT_VARIABLE, CephServer, ceph_root
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY
from photo_pipeline_tests.core.cleanup.scene import opened
from photo_pipeline_tests.core.migration.quick import migrated
from photo_pipeline_tests.rclone_server import RcloneServer
from photo_pipeline_tests.sites import build_site
from photo_pipeline_tests.sockets import listening_socket

DAYS = 25


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


@pytest.fixture
def ceph(tmp_path: Path, aws_environment: None) -> Iterator[RunningServers]:
    """Its gateway, with a bucket that keeps versions, and the demo's CDN edge in front of it."""
    root = ceph_root()
    if root is None:
        pytest.skip(f"Ceph is not unpacked: ${ROOT_VARIABLE} names no folder with usr/bin/radosgw")
    folder = tmp_path / "ceph"
    folder.mkdir()
    server = CephServer.start(root, folder, bucket="photos", access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    try:
        s3 = boto3.client("s3", endpoint_url=server.servers.s3_url, region_name=server.servers.region)
        s3.create_bucket(Bucket="photos")
        s3.put_bucket_versioning(Bucket="photos", VersioningConfiguration={"Status": "Enabled"})
        keys = Credentials(ACCESS_KEY, SECRET_KEY)
        origin = SignedS3Client(server.servers.s3_url, bucket="photos", credentials=keys)
        listener = listening_socket()
        cdn_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        edge = serve_in_background(CdnEdge(origin, private_prefixes=("originals/",)), listener)
        yield replace(server.servers, cdn_url=cdn_url)
        edge.shutdown()
    finally:
        server.stop()


@pytest.mark.slow
def test_on_ceph_rgw_an_orphan_goes_and_comes_back_and_what_is_lost_is_told(
    ceph: RunningServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'app.db'}"
    monkeypatch.setenv("APP_DATABASE_URL", url)
    site = build_site(tmp_path, url=url, servers=ceph, name=uuid.uuid4().hex[:8], photos=2)
    migrated(site)
    with opened(site) as scene:
        needed = scene.stored()
        key = scene.put(scene.key_of_nobody())
        scene.later(hours=DAYS)
        assert scene.orphans() == {key}
        assert scene.drift().total == 0
        scene.mark()
        scene.later(hours=DAYS)
        assert scene.delete().keys == [key]
        assert scene.stored() == needed
        assert scene.undo().restored == 1
        assert scene.stored() == needed | {key}
        missing = sorted(needed)[0]
        scene.project.store.delete(missing)
        assert [(each.kind, each.key) for each in scene.drift().findings] == [("missing", missing)]
