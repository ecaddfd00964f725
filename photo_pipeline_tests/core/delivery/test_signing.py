"""Signed URLs, looked at as CloudFront would: with the public key, the policy, a clock and an address.

CloudFront itself is not here: `admits` is written after its developer guide.
"""

import base64
import fnmatch
import ipaddress
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from typer.testing import CliRunner

from photo_pipeline.cli import app
from photo_pipeline.core.delivery.signing import Grant, UrlSigner
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError
from photo_pipeline_tests.core.catalog.small_site import small_site

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SCHEME = UrlScheme("https://cdn.example", "photos", "originals")
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
IN_AN_HOUR = Grant(NOW + HOUR)


def pem(key: Any = KEY) -> bytes:
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.fixture(scope="module")
def signer() -> UrlSigner:
    return UrlSigner(SCHEME, key_id="K1", private_key_pem=pem())


def decoded(text: str) -> bytes:
    return base64.b64decode(text.translate(str.maketrans("-_~", "+=/")))


def policy_of(url: str, fields: Mapping[str, str]) -> bytes:
    """The policy that the signature must be over; the canned one is made of the URL and its expiry."""
    if "Policy" in fields:
        return decoded(fields["Policy"])
    resource = re.sub(r"[?&](Expires|Signature|Key-Pair-Id)=.*", "", url)
    return (
        f'{{"Statement":[{{"Resource":"{resource}","Condition":{{"DateLessThan":'
        f'{{"AWS:EpochTime":{fields["Expires"]}}}}}}}]}}'
    ).encode()


def admits(url: str, fields: Mapping[str, str], *, at: datetime = NOW, ip: str = "198.51.100.7") -> bool:
    policy = policy_of(url, fields)
    try:
        KEY.public_key().verify(decoded(fields["Signature"]), policy, padding.PKCS1v15(), hashes.SHA1())
    except InvalidSignature:
        return False
    (statement,) = json.loads(policy)["Statement"]
    conditions = statement["Condition"]
    begin = conditions.get("DateGreaterThan", {}).get("AWS:EpochTime", 0)
    network = conditions.get("IpAddress", {}).get("AWS:SourceIp", "0.0.0.0/0")
    return (
        fnmatch.fnmatchcase(url.partition("?")[0], statement["Resource"])
        and begin < at.timestamp() < conditions["DateLessThan"]["AWS:EpochTime"]
        and ipaddress.ip_address(ip) in ipaddress.ip_network(network)
        and fields["Key-Pair-Id"] == "K1"
    )


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def opens(url: str, **situation: Any) -> bool:
    return admits(url, query(url), **situation)


def test_a_url_with_a_canned_policy_opens_until_it_expires(signer: UrlSigner) -> None:
    url = signer.url("documents/17.jpg", IN_AN_HOUR)
    assert url.startswith("https://cdn.example/documents/17.jpg?Expires=")
    assert "Policy" not in query(url)
    assert opens(url)
    assert not opens(url, at=NOW + HOUR)
    assert not opens(url.replace("/17.jpg", "/18.jpg"))
    later = int((NOW + 2 * HOUR).timestamp())
    assert not opens(re.sub(r"Expires=\d+", f"Expires={later}", url), at=NOW + HOUR)


def test_a_custom_policy_limits_address_and_beginning(signer: UrlSigner) -> None:
    url = signer.url("d/1.jpg", Grant(NOW + HOUR, NOW, "203.0.113.0/24"))
    assert opens(url, at=NOW + HOUR / 2, ip="203.0.113.200")
    assert not opens(url, at=NOW + HOUR / 2, ip="203.0.114.1")
    assert not opens(url, at=NOW - HOUR, ip="203.0.113.200")
    assert not opens(url, at=NOW + HOUR, ip="203.0.113.200")


def test_a_signature_over_a_pattern_opens_what_it_covers_and_nothing_else(signer: UrlSigner) -> None:
    url = signer.url_for_any("documents/17/*", "documents/17/a.jpg", IN_AN_HOUR)
    assert opens(url)
    assert opens(url.replace("/a.jpg", "/b/c.pdf"))
    assert not opens(url.replace("/17/", "/18/"))
    single = signer.url_for_any("documents/1?/a.jpg", "documents/17/a.jpg", IN_AN_HOUR)
    assert opens(single)
    assert not opens(single.replace("/17/", "/177/"))


def test_cookies_open_what_the_pattern_covers(signer: UrlSigner) -> None:
    cookies = signer.cookies("documents/17/*", IN_AN_HOUR)
    fields = {name.removeprefix("CloudFront-"): value for name, value in cookies.items()}
    assert set(fields) == {"Policy", "Signature", "Key-Pair-Id"}
    assert admits("https://cdn.example/documents/17/a.jpg", fields)
    assert not admits("https://cdn.example/documents/18/a.jpg", fields)
    assert not admits("https://cdn.example/documents/17/a.jpg", fields, at=NOW + HOUR)
    # Cookies and URLs take no other characters.
    assert all(re.fullmatch(r"[A-Za-z0-9_~-]+", value) for value in cookies.values())


def test_odd_keys_are_signed_as_browsers_spell_them(signer: UrlSigner) -> None:
    url = signer.url("documents/ä b%?#*.jpg", IN_AN_HOUR)
    assert url.startswith("https://cdn.example/documents/%C3%A4%20b%25%3F%23%2A.jpg?")
    assert opens(url)


@pytest.mark.parametrize("pattern", ["originals/a.jpg", "originals/*", "orig*", "orig?nals/*", "*"])
def test_originals_are_never_signed(signer: UrlSigner, pattern: str) -> None:
    with pytest.raises(GuardRefusedError, match="the CDN must never serve"):
        signer.cookies(pattern, IN_AN_HOUR)
    if pattern.startswith("originals/"):
        with pytest.raises(GuardRefusedError, match="the CDN must never serve"):
            signer.url(pattern, IN_AN_HOUR)


@pytest.mark.parametrize(
    ("grant", "says"),
    [
        ({"expires_at": datetime(2026, 11, 27)}, "no time zone"),
        ({"expires_at": NOW, "starts_at": NOW}, "ends before it begins"),
        ({"expires_at": NOW, "ip": "::1"}, "203.0.113.7"),
        ({"expires_at": NOW, "ip": "203.0.113.7/24"}, "host bits"),
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(grant: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Grant(**grant)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "no unencrypted private key"),
        (b"secret words", "no unencrypted private key"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "no RSA key"),
        (pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "no RSA key"),
    ],
    ids=["damaged", "no PEM", "elliptic", "short"],
)
def test_a_key_that_cannot_sign_is_refused_without_being_shown(key: bytes, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        UrlSigner(SCHEME, key_id="K1", private_key_pem=key)
    assert "secret" not in str(refused.value)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["sign", *arguments], prog_name="photo-pipeline")
    return result.exit_code, result.output


def test_the_command_takes_the_key_from_the_environment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = small_site(tmp_path / "site")
    monkeypatch.setenv("PHOTO_PIPELINE_CONFIG", str(site.config_path))
    for name in ("CLOUDFRONT_PRIVATE_KEY", "CLOUDFRONT_PRIVATE_KEY_FILE", "CLOUDFRONT_KEY_PAIR_ID"):
        monkeypatch.delenv(name, raising=False)
    code, shown = run("documents/1.jpg")
    assert (code, "$CLOUDFRONT_KEY_PAIR_ID" in shown) == (2, True)
    monkeypatch.setenv("CLOUDFRONT_KEY_PAIR_ID", "K1")
    code, shown = run("documents/1.jpg")
    assert (code, "$CLOUDFRONT_PRIVATE_KEY_FILE" in shown) == (2, True)
    monkeypatch.setenv("CLOUDFRONT_PRIVATE_KEY_FILE", str(tmp_path / "none.pem"))
    assert run("documents/1.jpg")[0] == 2
    (tmp_path / "key.pem").write_bytes(pem())
    monkeypatch.setenv("CLOUDFRONT_PRIVATE_KEY_FILE", str(tmp_path / "key.pem"))
    from_file = run("documents/1.jpg", "--from", "2026-11-27T12:00:00Z", "--ip", "203.0.113.7")[1].strip()
    assert opens(from_file, at=NOW + HOUR / 2, ip="203.0.113.7")
    monkeypatch.delenv("CLOUDFRONT_PRIVATE_KEY_FILE")
    monkeypatch.setenv("CLOUDFRONT_PRIVATE_KEY", pem().decode().replace("\n", "\\n"))
    code, shown = run("documents/*", "--cookies", "--json", "--expires-in", "90s")
    document = json.loads(shown)
    assert (code, len(document["cookies"])) == (0, 3)
    assert run("documents/1.jpg", "--expires-in", "soon")[0] == 2
    assert run("originals/small/1.jpg")[0] == 3
