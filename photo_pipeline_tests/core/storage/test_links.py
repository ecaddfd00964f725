"""Presigned requests, sent by a plain HTTP client: they allow one thing, and end."""

import hashlib

import pytest
import urllib3

from photo_pipeline.core.errors import ConfigurationError, ObjectKeyError
from photo_pipeline.core.storage.links import PresignedRequest, presign_get, presign_put
from photo_pipeline_tests.core.storage.two_servers import Served, embedded, rclone, served

__all__ = ["embedded", "rclone", "served"]
BODY = b"a browser's photo"
DIGEST = hashlib.sha256(BODY).hexdigest()


def send(request: PresignedRequest, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
    return urllib3.request(request.method, request.url, body=body, headers=dict(request.headers))


def test_anybody_with_the_link_reads_the_object_under_its_name(served: Served) -> None:
    key = served.key("käse & brot+1.jpg")
    served.store.put_new(key, BODY, content_type="image/jpeg")
    answer = send(presign_get(served.store, key, expires_s=60))
    assert (answer.status, answer.data) == (200, BODY)


def test_a_link_can_ask_browsers_to_save_the_file(embedded: Served) -> None:
    key = embedded.key()
    embedded.store.put_new(key, BODY, content_type="image/jpeg")
    answer = send(presign_get(embedded.store, key, download_as='my "best"\r\nphoto.jpg'))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="my _best___photo.jpg"'


def test_a_presigned_put_stores_the_bytes_that_it_names(served: Served) -> None:
    key = served.key()
    answer = send(presign_put(served.store, key, sha256=DIGEST, content_type="image/jpeg"), BODY)
    assert answer.status == 200
    assert (served.store.read(key), served.store.head(key).content_type) == (BODY, "image/jpeg")


def test_a_presigned_put_takes_no_other_bytes_and_overwrites_nothing(embedded: Served) -> None:
    """Embedded only: rclone serve s3 checks neither (docs/s3-servers.md)."""
    key = embedded.key()
    request = presign_put(embedded.store, key, sha256=DIGEST, content_type="image/jpeg")
    assert send(request, b"something else").status == 400
    assert embedded.store.head(key) is None
    assert [send(request, BODY).status for _ in range(2)] == [200, 412]


@pytest.mark.parametrize("header", ["Content-Type", "x-amz-checksum-sha256"])
def test_what_was_signed_must_be_sent(embedded: Served, header: str) -> None:
    request = presign_put(embedded.store, embedded.key(), sha256=DIGEST, content_type="image/jpeg")
    request.headers.pop(header)  # type: ignore[attr-defined]
    assert send(request, BODY).status == 403


def test_a_link_for_one_object_opens_no_other(served: Served) -> None:
    one, other = served.key(), served.key()
    served.store.put_new(other, b"secret", content_type="image/jpeg")
    request = presign_get(served.store, one)
    assert urllib3.request("GET", request.url.replace(one, other)).status == 403


@pytest.mark.parametrize("expires_s", [0, -5, 7 * 24 * 3600 + 1])
def test_a_time_that_cannot_be_signed_is_refused(embedded: Served, expires_s: int) -> None:
    with pytest.raises(ConfigurationError, match="7 days"):
        presign_get(embedded.store, embedded.key(), expires_s=expires_s)


def test_what_cannot_be_meant_is_refused(embedded: Served) -> None:
    with pytest.raises(ConfigurationError, match="64 hex digits"):
        presign_put(embedded.store, embedded.key(), sha256="nonsense", content_type="image/jpeg")
    with pytest.raises(ObjectKeyError):
        presign_get(embedded.store, "a/../b")


def test_the_signature_is_not_shown(embedded: Served) -> None:
    request = presign_get(embedded.store, "a.jpg")
    assert "Signature" in request.url
    assert "Signature" not in repr(request)
    assert "a.jpg until 2" in repr(request)
