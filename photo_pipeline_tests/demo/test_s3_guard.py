"""The embedded S3 server refuses what S3 refuses: real child process, real boto3 and obstore clients.

Tampered requests are signed by botocore and changed afterwards, as a broken network or an attacker would.
"""

import base64
import http.client
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
import botocore.auth
import botocore.exceptions
import obstore
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from obstore.exceptions import AlreadyExistsError, PermissionDeniedError
from obstore.store import S3Store

from photo_pipeline.demo.s3_checksums import CHECKSUMS
from photo_pipeline.demo.servers import EmbeddedServers, RunningServers

BUCKET, ACCESS_KEY, SECRET_KEY = "photos", "DEMOKEY", "demo/secret+key="
BODY = b"the bytes of a photo" * 50


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "access.jsonl"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, log_file: Path) -> Iterator[RunningServers]:
    running = EmbeddedServers.start(
        tmp_path_factory.mktemp("s3"),
        bucket=BUCKET,
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        idle_stop_s=300,
        access_log=log_file,
    )
    yield running
    running.stop()


def boto(
    servers: RunningServers, *, secret: str = SECRET_KEY, access_key: str = ACCESS_KEY, **config: Any
) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=servers.s3_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret,
        region_name=servers.region,
        config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}, **config),
    )


def store(servers: RunningServers, *, secret: str = SECRET_KEY) -> S3Store:
    return S3Store(
        BUCKET,
        endpoint=servers.s3_url,
        access_key_id=ACCESS_KEY,
        secret_access_key=secret,
        region=servers.region,
        virtual_hosted_style_request=False,
        checksum_algorithm="SHA256",
        client_options={"allow_http": True},
    )


def signed(
    servers: RunningServers,
    key: str,
    *,
    body: bytes = BODY,
    headers: dict[str, str] | None = None,
    method: str = "PUT",
    service: str = "s3",
) -> Any:
    url = f"{servers.s3_url}/{BUCKET}/{quote(key, safe='/~')}"
    request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
    botocore.auth.S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), service, "us-east-1").add_auth(request)
    return request.prepare()


def send(request: Any, *, body: bytes = BODY, extra: dict[str, str] | None = None) -> tuple[int, str]:
    """Send a prepared request, changed or not, and return status and S3 error code."""
    parts = urlsplit(request.url)
    headers = {
        name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
    }
    headers = {**headers, "Content-Length": str(len(body)), **(extra or {})}
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request(
            request.method, f"{parts.path}?{parts.query}".rstrip("?"), body=body, headers=headers
        )
        return answer_of(connection.getresponse())
    finally:
        connection.close()


def answer_of(response: http.client.HTTPResponse) -> tuple[int, str]:
    code = re.search(r"<Code>(\w+)</Code>", response.read().decode(errors="replace"))
    return response.status, code.group(1) if code else ""


def is_stored(servers: RunningServers, key: str) -> bool:
    return any(entry["path"] == key for page in obstore.list(store(servers)) for entry in page)


def test_a_put_by_boto3_comes_back_with_its_metadata_and_checksum(servers: RunningServers) -> None:
    client = boto(servers)
    digest = base64.b64encode(CHECKSUMS["sha256"](BODY)).decode()

    client.put_object(
        Bucket=BUCKET,
        Key="boto/a.jpg",
        Body=BODY,
        ContentType="image/jpeg",
        CacheControl="public, max-age=86400",
        Metadata={"source-sha256": "abc", "photo_id": "7"},
        ChecksumSHA256=digest,
    )

    head = client.head_object(Bucket=BUCKET, Key="boto/a.jpg", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == digest
    assert head["ContentType"] == "image/jpeg"
    assert head["CacheControl"] == "public, max-age=86400"
    assert head["Metadata"] == {"source-sha256": "abc", "photo_id": "7"}
    assert client.get_object(Bucket=BUCKET, Key="boto/a.jpg")["Body"].read() == BODY


def test_a_put_by_obstore_comes_back_with_its_metadata_and_checksum(servers: RunningServers) -> None:
    attributes = {"Content-Type": "image/avif", "Cache-Control": "immutable", "photo_id": "7"}

    obstore.put(store(servers), "obstore/a b+~é.avif", BODY, attributes=attributes, use_multipart=False)

    found = obstore.get(store(servers), "obstore/a b+~é.avif")
    assert bytes(found.bytes()) == BODY
    assert dict(found.attributes) == attributes
    head = boto(servers).head_object(Bucket=BUCKET, Key="obstore/a b+~é.avif", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == base64.b64encode(CHECKSUMS["sha256"](BODY)).decode()


def test_boto3_defaults_multipart_copy_and_bulk_delete_pass_the_guard(
    servers: RunningServers, tmp_path: Path
) -> None:
    client, large = boto(servers), tmp_path / "large"
    large.write_bytes(BODY * 9_000)

    client.upload_file(str(large), BUCKET, "many/large")
    client.copy_object(Bucket=BUCKET, Key="many/copy", CopySource={"Bucket": BUCKET, "Key": "many/large"})

    assert client.get_object(Bucket=BUCKET, Key="many/copy")["Body"].read() == large.read_bytes()
    keys = [{"Key": "many/large"}, {"Key": "many/copy"}]
    client.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})
    assert not is_stored(servers, "many/copy")


def test_a_wrong_secret_is_refused_and_stores_nothing(servers: RunningServers) -> None:
    with pytest.raises(botocore.exceptions.ClientError) as refusal:
        boto(servers, secret="guess").put_object(Bucket=BUCKET, Key="wrong-secret", Body=BODY)
    with pytest.raises(PermissionDeniedError, match="SignatureDoesNotMatch"):
        obstore.put(store(servers, secret="guess"), "wrong-secret", BODY)

    assert refusal.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert not is_stored(servers, "wrong-secret")


def test_an_unknown_access_key_is_refused(servers: RunningServers) -> None:
    with pytest.raises(botocore.exceptions.ClientError) as refusal:
        boto(servers, access_key="SOMEBODY").list_objects_v2(Bucket=BUCKET)

    assert refusal.value.response["Error"]["Code"] == "InvalidAccessKeyId"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_an_anonymous_request_is_denied(servers: RunningServers, method: str) -> None:
    boto(servers).put_object(Bucket=BUCKET, Key="secret", Body=BODY)
    request = AWSRequest(method=method, url=f"{servers.s3_url}/{BUCKET}/secret").prepare()

    assert send(request, body=b"") == (403, "AccessDenied")
    assert boto(servers).get_object(Bucket=BUCKET, Key="secret")["Body"].read() == BODY


def test_a_bit_flipped_on_the_way_is_refused_and_stores_nothing(servers: RunningServers) -> None:
    flipped = bytes([BODY[0] ^ 1]) + BODY[1:]

    assert send(signed(servers, "flipped"), body=flipped) == (400, "XAmzContentSHA256Mismatch")
    assert not is_stored(servers, "flipped")


@pytest.mark.parametrize("name", sorted(CHECKSUMS))
def test_a_checksum_header_is_checked_against_the_body(servers: RunningServers, name: str) -> None:
    right = base64.b64encode(CHECKSUMS[name](BODY)).decode()
    wrong = base64.b64encode(CHECKSUMS[name](BODY + b"!")).decode()

    refused = send(signed(servers, f"wrong-{name}", headers={f"x-amz-checksum-{name}": wrong}))
    accepted = send(signed(servers, f"right-{name}", headers={f"x-amz-checksum-{name}": right}))

    assert refused == (400, "BadDigest")
    assert accepted == (200, "")
    assert not is_stored(servers, f"wrong-{name}")
    head = boto(servers).head_object(Bucket=BUCKET, Key=f"right-{name}", ChecksumMode="ENABLED")
    assert head[f"Checksum{name.upper()}"] == right


@pytest.mark.parametrize(
    ("name", "expected"),
    [("crc32", "cbf43926"), ("crc32c", "e3069283"), ("crc64nvme", "ae8b14860a799888")],
)
def test_the_crc_checksums_match_their_published_check_values(name: str, expected: str) -> None:
    assert CHECKSUMS[name](b"123456789").hex() == expected


@pytest.mark.parametrize(
    ("content_md5", "code"), [("1B2M2Y8AsgTpgAmY7PhCfg==", "BadDigest"), ("not base64", "InvalidDigest")]
)
def test_a_wrong_content_md5_is_refused_and_stores_nothing(
    servers: RunningServers, content_md5: str, code: str
) -> None:
    assert send(signed(servers, "wrong-md5", headers={"Content-MD5": content_md5})) == (400, code)
    assert not is_stored(servers, "wrong-md5")


def test_an_unsigned_payload_is_accepted_but_its_checksum_still_counts(
    servers: RunningServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(botocore.auth.S3SigV4Auth, "payload", lambda *_: "UNSIGNED-PAYLOAD")
    wrong = {"x-amz-checksum-sha256": base64.b64encode(CHECKSUMS["sha256"](b"other")).decode()}

    assert send(signed(servers, "unsigned-ok")) == (200, "")
    assert send(signed(servers, "unsigned-bad", headers=wrong)) == (400, "BadDigest")


def test_an_aws_chunked_body_is_refused_clearly(
    servers: RunningServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(botocore.auth.S3SigV4Auth, "payload", lambda *_: "STREAMING-UNSIGNED-PAYLOAD-TRAILER")

    assert send(signed(servers, "chunked")) == (501, "NotImplemented")


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_request_signed_at_another_time_is_refused(
    servers: RunningServers, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    then = (datetime.now(UTC) + timedelta(minutes=minutes)).replace(tzinfo=None)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: then)

    assert send(signed(servers, "late")) == (403, "RequestTimeTooSkewed")


def test_a_header_added_after_signing_is_refused(servers: RunningServers) -> None:
    added = {"x-amz-meta-owner": "somebody else"}

    assert send(signed(servers, "added"), extra=added) == (403, "AccessDenied")
    assert not is_stored(servers, "added")


def test_a_signature_for_one_key_does_not_serve_another(servers: RunningServers) -> None:
    request = signed(servers, "mine")
    request.url = request.url.replace("/mine", "/yours")

    assert send(request) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    ("authorization", "answer"),
    [
        ("AWS DEMOKEY:c2lnbmF0dXJl", (400, "InvalidRequest")),
        ("Bearer token", (400, "InvalidRequest")),
        ("AWS4-HMAC-SHA256 nonsense", (400, "AuthorizationHeaderMalformed")),
        (
            "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0",
            (400, "AuthorizationHeaderMalformed"),
        ),
    ],
)
def test_other_or_broken_authorization_schemes_are_refused(
    servers: RunningServers, authorization: str, answer: tuple[int, str]
) -> None:
    assert send(signed(servers, "scheme"), extra={"Authorization": authorization}) == answer


def test_no_other_aws_service_and_no_control_path_is_reachable(servers: RunningServers) -> None:
    boto(servers).put_object(Bucket=BUCKET, Key="survivor", Body=BODY)
    reset = signed(servers, "x", method="POST", body=b"")
    reset.url = f"{servers.s3_url}/moto-api/reset"

    assert send(signed(servers, "x", service="sts")) == (400, "AuthorizationHeaderMalformed")
    assert send(reset, body=b"")[0] == 403
    botocore_signer = botocore.auth.S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "us-east-1")
    request = AWSRequest(method="POST", url=f"{servers.s3_url}/moto-api/reset", data=b"")
    botocore_signer.add_auth(request)
    assert send(request.prepare(), body=b"")[0] >= 400
    assert is_stored(servers, "survivor")


def test_presigned_urls_work_until_they_are_changed_or_expire(
    servers: RunningServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto(servers)
    parameters = {"Bucket": BUCKET, "Key": "presigned/ä.jpg"}

    def presigned(operation: str) -> Any:
        url = client.generate_presigned_url(operation, Params=parameters, ExpiresIn=60)
        return AWSRequest(method="PUT" if operation == "put_object" else "GET", url=url).prepare()

    assert send(presigned("put_object")) == (200, "")
    assert send(presigned("get_object"), body=b"") == (200, "")
    changed = presigned("get_object")
    changed.url = changed.url.replace("presigned/", "other/")
    assert send(changed, body=b"") == (403, "SignatureDoesNotMatch")
    two_minutes_ago = (datetime.now(UTC) - timedelta(minutes=2)).replace(tzinfo=None)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: two_minutes_ago)
    assert send(presigned("get_object"), body=b"") == (403, "AccessDenied")


def test_a_presigned_url_may_not_live_longer_than_a_week(servers: RunningServers) -> None:
    parameters = {"Bucket": BUCKET, "Key": "k"}
    url = boto(servers).generate_presigned_url("get_object", Params=parameters, ExpiresIn=604_801)

    answer = send(AWSRequest(method="GET", url=url).prepare(), body=b"")

    assert answer == (400, "AuthorizationQueryParametersError")


def test_a_browser_form_upload_is_refused_clearly(servers: RunningServers) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    request = AWSRequest(method="POST", url=f"{servers.s3_url}/{BUCKET}", headers=form).prepare()

    assert send(request, body=b"--x--") == (501, "NotImplemented")


def test_a_body_that_breaks_off_is_not_stored(servers: RunningServers) -> None:
    request = signed(servers, "broken-off")
    lines = [f"PUT /{BUCKET}/broken-off HTTP/1.1", f"Host: {urlsplit(servers.s3_url).netloc}"]
    lines += [
        f"{name}: {value.decode() if isinstance(value, bytes) else value}"
        for name, value in request.headers.items()
        if name.lower() not in {"host", "content-length"}
    ]
    lines += [f"Content-Length: {len(BODY)}", "", ""]
    with socket.create_connection(
        ("127.0.0.1", urlsplit(servers.s3_url).port or 0), timeout=10
    ) as connection:
        connection.sendall("\r\n".join(lines).encode() + BODY[:100])
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()

    assert b"IncompleteBody" in answer
    assert not is_stored(servers, "broken-off")


def test_a_chunked_body_is_stored_whole(servers: RunningServers) -> None:
    request = signed(servers, "in-chunks")
    connection = http.client.HTTPConnection(urlsplit(servers.s3_url).netloc, timeout=10)
    headers = {k: v for k, v in request.headers.items() if k.lower() != "content-length"}
    path = f"/{BUCKET}/in-chunks"
    connection.request("PUT", path, body=iter([BODY[:7], BODY[7:]]), headers=headers, encode_chunked=True)

    assert connection.getresponse().status == 200
    connection.close()
    assert boto(servers).get_object(Bucket=BUCKET, Key="in-chunks")["Body"].read() == BODY


def test_one_connection_carries_many_requests_refused_ones_included(servers: RunningServers) -> None:
    connection = http.client.HTTPConnection(urlsplit(servers.s3_url).netloc, timeout=10)
    connection.connect()
    sock = connection.sock
    answers = []
    for key, body in (("kept-1", BODY), ("kept-2", b"tampered"), ("kept-3", BODY)):
        headers = {**signed(servers, key).headers, "Content-Length": str(len(body))}
        connection.request("PUT", f"/{BUCKET}/{key}", body=body, headers=headers)
        answers.append(answer_of(connection.getresponse()))

    assert answers == [(200, ""), (400, "XAmzContentSHA256Mismatch"), (200, "")]
    assert connection.sock is sock
    connection.close()


@pytest.mark.parametrize(
    "key", ["a//b", "../up", "dir/", "a%2Fb", "a=b&c;d,e", "späß \N{CAMERA}", "(x)'!*$@:"]
)
def test_odd_keys_keep_their_signature_valid_and_their_name(servers: RunningServers, key: str) -> None:
    client = boto(servers)

    client.put_object(Bucket=BUCKET, Key=key, Body=key.encode())

    assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode()
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix=key)["Contents"]
    assert [entry["Key"] for entry in listed] == [key]


def test_of_sixteen_racing_conditional_puts_exactly_one_wins(servers: RunningServers) -> None:
    photos = store(servers)

    def create(number: int) -> bool:
        try:
            obstore.put(photos, "race", f"writer {number}".encode(), mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        for _ in range(5):
            winners = [number for number, won in enumerate(pool.map(create, range(16))) if won]
            assert len(winners) == 1
            assert bytes(obstore.get(photos, "race").bytes()) == f"writer {winners[0]}".encode()
            obstore.delete(photos, "race")


def test_the_access_log_has_one_line_per_request_and_no_signatures(
    servers: RunningServers, log_file: Path
) -> None:
    client = boto(servers)
    client.put_object(Bucket=BUCKET, Key="logged", Body=BODY)
    client.get_object(Bucket=BUCKET, Key="logged")["Body"].read()
    url = client.generate_presigned_url("head_object", Params={"Bucket": BUCKET, "Key": "logged"})
    send(AWSRequest(method="HEAD", url=url).prepare(), body=b"")

    text = log_file.read_text(encoding="utf-8")
    lines = [line for line in map(json.loads, text.splitlines()) if line["path"] == f"/{BUCKET}/logged"]
    assert [(line["method"], line["status"]) for line in lines] == [("PUT", 200), ("GET", 200), ("HEAD", 200)]
    assert [line["bytes"] for line in lines] == [0, len(BODY), 0]
    assert lines[0]["bytes_in"] == len(BODY)
    assert "Signature" not in text
