"""The embedded CDN serves what CloudFront would serve of the bucket, and nothing else."""

import http.client
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import obstore
import pytest
from botocore.exceptions import EndpointConnectionError
from obstore.store import S3Store
from werkzeug.test import Client

from photo_pipeline.demo.edge import CdnEdge
from photo_pipeline.demo.servers import EmbeddedServers, RunningServers

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
SAFARI_15 = "image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"
CURL = "*/*"
PHOTO = "photos/ab/abc/r1/full"
TYPES = {"avif": "image/avif", "webp": "image/webp", "jpg": "image/jpeg"}


@pytest.fixture(scope="module")
def cdn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    running = EmbeddedServers.start(
        tmp_path_factory.mktemp("cdn"),
        bucket="photos",
        access_key="KEY",
        secret_key="SECRET",
        idle_stop_s=300,
        private_prefixes=("originals/", "quarantine/"),
    )
    store = S3Store(
        "photos",
        endpoint=running.s3_url,
        access_key_id="KEY",
        secret_access_key="SECRET",
        region=running.region,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    for extension, content_type in TYPES.items():
        attributes = {"Content-Type": content_type, "Cache-Control": "public, max-age=31536000, immutable"}
        obstore.put(store, f"{PHOTO}.{extension}", f"the {extension} bytes".encode(), attributes=attributes)
    for key in ("originals/a.jpg", "quarantine/b.jpg", "photos/späß & co.jpg"):
        obstore.put(store, key, f"content of {key}".encode())
    yield running
    running.stop()


def fetch(cdn: RunningServers, path: str, *, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    """Request a raw path, which no client library has normalised."""
    connection = http.client.HTTPConnection(urlsplit(cdn.cdn_url).netloc, timeout=10)
    try:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=fields)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_a_public_photo_is_served_with_its_headers(cdn: RunningServers) -> None:
    status, headers, body = fetch(cdn, f"/{PHOTO}.webp")

    assert (status, body) == (200, b"the webp bytes")
    assert headers["Content-Type"] == "image/webp"
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert headers["Content-Length"] == str(len(body))
    assert headers["ETag"].startswith('"')
    assert headers["X-Cache"] == "Miss from edge"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert len(headers.get_all("Date")) == 1


def test_head_gives_the_headers_of_get_without_a_body(cdn: RunningServers) -> None:
    _, of_get, _ = fetch(cdn, f"/{PHOTO}.avif")
    status, of_head, body = fetch(cdn, f"/{PHOTO}.avif", method="HEAD")

    assert (status, body) == (200, b"")
    for name in ("Content-Type", "Cache-Control", "Content-Length", "ETag", "Last-Modified"):
        assert of_head[name] == of_get[name]


@pytest.mark.parametrize("etag_form", ["{}", "W/{}", '"other", {}', "*"])
def test_an_unchanged_photo_is_a_304(cdn: RunningServers, etag_form: str) -> None:
    _, headers, _ = fetch(cdn, f"/{PHOTO}.jpg")

    status, _, body = fetch(cdn, f"/{PHOTO}.jpg", If_None_Match=etag_form.format(headers["ETag"]))

    assert (status, body) == (304, b"")
    assert fetch(cdn, f"/{PHOTO}.jpg", If_None_Match='"another"')[0] == 200
    assert fetch(cdn, f"/{PHOTO}.jpg", If_Modified_Since=headers["Last-Modified"])[0] == 304


def test_a_range_is_served_as_partial_content(cdn: RunningServers) -> None:
    status, headers, body = fetch(cdn, f"/{PHOTO}.jpg", Range="bytes=4-6")

    assert (status, body, headers["Content-Range"]) == (206, b"jpg", "bytes 4-6/13")


@pytest.mark.parametrize(("accept", "extension"), [(CHROME, "avif"), (SAFARI_15, "webp"), (CURL, "jpg")])
def test_an_auto_url_serves_what_the_browser_can_show(
    cdn: RunningServers, accept: str, extension: str
) -> None:
    status, headers, body = fetch(cdn, f"/{PHOTO}.auto", Accept=accept)

    assert (status, body) == (200, f"the {extension} bytes".encode())
    assert headers["Content-Type"] == TYPES[extension]
    assert headers["Vary"] == "Accept"


def test_an_auto_url_of_nothing_is_denied_and_varies_too(cdn: RunningServers) -> None:
    status, headers, _ = fetch(cdn, "/photos/nothing.auto", Accept=CHROME)

    assert (status, headers["Vary"]) == (403, "Accept")


def test_a_missing_key_is_denied_like_cloudfront_without_list_permission(cdn: RunningServers) -> None:
    status, headers, body = fetch(cdn, "/photos/missing.jpg")

    assert status == 403
    assert b"<Code>AccessDenied</Code>" in body
    assert headers["X-Cache"] == "Error from edge"


@pytest.mark.parametrize(
    "path",
    [
        "/originals/a.jpg",
        "/%6friginals/a.jpg",
        "/originals%2Fa.jpg",
        "/%6F%72iginals%2fa%2ejpg",
        "//originals/a.jpg",
        "///originals//a.jpg",
        "/./originals/a.jpg",
        "/x/../originals/a.jpg",
        "/x/%2e%2e/originals/a.jpg",
        "/x/..%2foriginals/a.jpg",
        "/%2foriginals/a.jpg",
        "/originals/a.auto",
        "/%256friginals/a.jpg",
        "/photos/..\\originals\\a.jpg",
        "/originals/a.jpg?x=/photos/b.jpg",
        "/originals/a.jpg#x",
        "/quarantine/b.jpg",
        "http://elsewhere/originals/a.jpg",
        "/",
        "/?list-type=2",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_private_objects_and_listings_are_never_served(cdn: RunningServers, method: str, path: str) -> None:
    status, _, body = fetch(cdn, path, method=method)

    assert status in {400, 403}
    assert b"content of" not in body


def test_the_key_is_the_percent_decoded_path(cdn: RunningServers) -> None:
    path = "/photos/sp%C3%A4%C3%9F%20%26%20co.jpg?version=2"

    assert fetch(cdn, path)[2] == "content of photos/späß & co.jpg".encode()


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "TRACE"])
def test_only_reading_is_allowed(cdn: RunningServers, method: str) -> None:
    status, headers, _ = fetch(cdn, f"/{PHOTO}.jpg", method=method)

    assert status == 405
    assert headers["Allow"] == "GET, HEAD, OPTIONS"
    assert fetch(cdn, f"/{PHOTO}.jpg")[0] == 200


def test_a_preflight_is_answered(cdn: RunningServers) -> None:
    status, headers, _ = fetch(cdn, f"/{PHOTO}.jpg", method="OPTIONS", Origin="https://shop.example")

    assert (status, headers["Access-Control-Allow-Origin"]) == (204, "*")


class DeadOrigin:
    """An S3 server that is not there."""

    def send(self, method: str, key: str = "") -> Any:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")


def test_an_origin_that_is_down_is_a_bad_gateway() -> None:
    answer = Client(CdnEdge(DeadOrigin(), private_prefixes=())).get("/photos/a.jpg")

    assert (answer.status_code, answer.headers["Cache-Control"]) == (502, "no-store")
