"""What each tested server was seen to do: the table of docs/s3-servers.md, kept true.

Ceph RGW, where it is unpacked, is in `test_ceph`; a whole migration on rclone's server in `e2e`.
"""

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from photo_pipeline.core.errors import StoreError
from photo_pipeline.core.storage.deletion import keeps_versions
from photo_pipeline.core.storage.probe import StoreProbe
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.demo.s3_signature import REGION
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import embedded_credentials
from photo_pipeline_tests.core.storage.two_servers import Served, embedded, rclone, served_by
from photo_pipeline_tests.sockets import listening_socket

__all__ = ["embedded", "rclone"]


@pytest.fixture(scope="module")
def bare_moto() -> Iterator[Served]:
    """moto as it comes, without our guard in front, on 127.0.0.1 (its own default is every interface)."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = DomainDispatcherApplication(create_backend_app)
    with listening_socket() as listener, pytest.MonkeyPatch.context() as environment:
        environment.setenv("S3_IGNORE_SUBDOMAIN_BUCKETNAME", "true")
        embedded_credentials(environment)
        host, port = listener.getsockname()
        server = make_server(host, port, app, threaded=True, fd=listener.fileno())
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=url, region_name=REGION).create_bucket(Bucket="bare")
        yield served_by(
            "bare moto",
            RunningServers(
                s3_url=url,
                cdn_url="",
                bucket="bare",
                access_key="any",
                region=REGION,
                pid=0,
                instance="",
                started_at="",
                data_dir="",
            ),
        )
        server.shutdown()


SEEN = {
    "embedded": StoreProbe(True, True, True, reports_md5=True, honours_if_match=True),
    "bare_moto": StoreProbe(False, False, True, reports_md5=True, honours_if_match=True),
    "rclone": StoreProbe(False, False, False, reports_md5=True, honours_if_match=False),
}


@pytest.fixture(params=list(SEEN))
def one(request: pytest.FixtureRequest) -> tuple[str, Served]:
    return request.param, request.getfixturevalue(request.param)


def status(act: Any, **options: Any) -> int:
    try:
        return int(act(**options)["ResponseMetadata"]["HTTPStatusCode"])
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def test_the_probe_sees_what_the_table_says(one: tuple[str, Served]) -> None:
    name, server = one
    assert server.probe == SEEN[name]


def test_who_checks_signatures(one: tuple[str, Served]) -> None:
    name, server = one
    stranger = boto3.Session(aws_access_key_id="stranger", aws_secret_access_key="wrong").client(
        "s3", endpoint_url=server.url, region_name=REGION
    )
    expected = {"embedded": 403, "bare_moto": 200, "rclone": 403}[name]
    assert status(stranger.list_objects_v2, Bucket=server.store.bucket) == expected


def test_who_knows_versions(one: tuple[str, Served]) -> None:
    name, server = one
    s3, bucket = server.store.s3, f"versions-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    status(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store = PhotoStore.open(server.store.settings.model_copy(update={"bucket": bucket}))
    assert keeps_versions(store) is (name != "rclone")


def test_who_keeps_an_object_beside_a_folder_of_its_name(one: tuple[str, Served]) -> None:
    name, server = one
    key = server.key("dir")
    server.store.put_new(key, b"x", content_type="x/x")
    put = server.store.s3.put_object
    assert (status(put, Bucket=server.store.bucket, Key=f"{key}/child", Body=b"y") == 200) is (
        name != "rclone"
    )


def test_who_keeps_a_segment_of_more_than_255_bytes(one: tuple[str, Served]) -> None:
    name, server = one
    put, key = server.store.s3.put_object, server.key("x" * 256)
    assert (status(put, Bucket=server.store.bucket, Key=key, Body=b"y") == 200) is (name != "rclone")


@pytest.mark.usefixtures("quick_tries")
def test_a_refusal_of_such_a_key_is_an_error_that_names_it(rclone: Served) -> None:
    key = rclone.key("dir")
    rclone.store.put_new(key, b"x", content_type="x/x")
    with pytest.raises(StoreError, match=f"{key}/child"):
        rclone.store.put_new(f"{key}/child", b"y", content_type="x/x")
