"""Signed URLs and cookies for private prefixes: CloudFront's canned and custom policies.

botocore builds the policies, cryptography signs. The private key comes from the environment, or from a file
that it names, never from the configuration. Which prefixes ask for a signature is up to the distribution's
behaviours (their key group).
"""

import base64
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botocore.signers import CloudFrontSigner

from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError

KEY_ID_ENV = "CLOUDFRONT_KEY_PAIR_ID"
PRIVATE_KEY_ENV = "CLOUDFRONT_PRIVATE_KEY"
PRIVATE_KEY_FILE_ENV = "CLOUDFRONT_PRIVATE_KEY_FILE"
# Also the only one that CloudFront takes beside ECDSA P-256 (which botocore's signer does not know).
_MIN_BITS = 2048


@dataclass(frozen=True)
class Grant:
    """Who may fetch what, and when.

    Attributes:
        expires_at: The end, aware.
        starts_at: The beginning, aware; None: at once.
        ip: An address or a network (203.0.113.0/24) that it is good for, IPv4; None: any.
    """

    expires_at: datetime
    starts_at: datetime | None = None
    ip: str | None = None

    def __post_init__(self) -> None:
        for name, instant in (("expires_at", self.expires_at), ("starts_at", self.starts_at)):
            if instant is not None and instant.tzinfo is None:
                raise ConfigurationError(name, cause="it has no time zone", fix="give an aware datetime")
        if self.starts_at is not None and self.starts_at >= self.expires_at:
            raise ConfigurationError("the grant", cause="it ends before it begins", fix="let it end later")
        if self.ip is not None:
            try:
                ipaddress.IPv4Network(self.ip)
            except ValueError as error:
                raise ConfigurationError(
                    f"address {self.ip!r}", cause=str(error), fix="write 203.0.113.7 or 203.0.113.0/24"
                ) from error

    @property
    def is_canned(self) -> bool:
        """Whether the short form of a policy says it all."""
        return self.starts_at is None and self.ip is None


class UrlSigner:
    """Signs URLs of one CDN with one key pair. Thread-safe; 3,700 signatures a second (facts/backends.md)."""

    def __init__(self, scheme: UrlScheme, *, key_id: str, private_key_pem: bytes) -> None:
        self._scheme = scheme
        self._key_id = key_id
        self._signer = CloudFrontSigner(key_id, _rsa_sha1(private_key_pem))

    @classmethod
    def from_environment(cls, scheme: UrlScheme) -> "UrlSigner":
        """Return the signer whose key pair the environment names.

        Raises:
            ConfigurationError: a variable is missing, the file cannot be read, or the key is no RSA key.
        """
        key_id = os.environ.get(KEY_ID_ENV)
        if not key_id:
            raise ConfigurationError(
                f"${KEY_ID_ENV}",
                cause="it is not set",
                fix="set it to the id of the public key in CloudFront's key group, as in K2EXAMPLE123",
            )
        return cls(scheme, key_id=key_id, private_key_pem=_private_key_pem())

    def url(self, key: str, grant: Grant) -> str:
        """Return a signed URL of one object.

        Raises:
            GuardRefusedError: it is an original, which the CDN never serves.
        """
        address = self._address(key)
        if grant.is_canned:
            return str(self._signer.generate_presigned_url(address, date_less_than=grant.expires_at))
        policy = self._policy(address, grant)
        return str(self._signer.generate_presigned_url(address, policy=policy))

    def url_for_any(self, pattern: str, key: str, grant: Grant) -> str:
        """Return a signed URL of `key` whose signature is good for all that the pattern covers.

        Args:
            pattern: A key in which * stands for any characters and ? for one, as in `documents/17/*`.
            key: The object that this URL fetches; the part after its ? may be put behind others.
            grant: For how long and whom.

        Raises:
            GuardRefusedError: it covers originals, which the CDN never serves.
        """
        policy = self._policy(self._address(pattern, wildcards="*?"), grant)
        return str(self._signer.generate_presigned_url(self._address(key), policy=policy))

    def cookies(self, pattern: str, grant: Grant) -> Mapping[str, str]:
        """Return cookies that let a browser fetch all that the pattern covers (set them Secure, HttpOnly).

        Raises:
            GuardRefusedError: it covers originals, which the CDN never serves.
        """
        policy = self._policy(self._address(pattern, wildcards="*?"), grant).encode()
        return {
            "CloudFront-Policy": _url_safe(policy),
            "CloudFront-Signature": _url_safe(self._signer.rsa_signer(policy)),
            "CloudFront-Key-Pair-Id": self._key_id,
        }

    def _policy(self, resource: str, grant: Grant) -> str:
        policy: str = self._signer.build_policy(
            resource, grant.expires_at, date_greater_than=grant.starts_at, ip_address=grant.ip
        )
        return policy

    def _address(self, key: str, *, wildcards: str = "") -> str:
        """Return the URL as browsers spell it, which is what is signed; botocore quotes nothing."""
        fixed = re.split(r"[*?]", key, maxsplit=1)[0] if wildcards else key
        originals = f"{self._scheme.originals_prefix}/"
        if fixed.startswith(originals) or (wildcards and originals.startswith(fixed)):
            raise GuardRefusedError(
                key,
                cause="it covers originals, which the CDN must never serve: they hold GPS data",
                fix="sign another prefix, or let people download originals by a presigned URL of the store",
            )
        return self._scheme.url(quote(key, safe="/!$&'()+,-.:;=@_~" + wildcards))


def _private_key_pem() -> bytes:
    pem, path = os.environ.get(PRIVATE_KEY_ENV), os.environ.get(PRIVATE_KEY_FILE_ENV)
    if pem:
        # Many a place that holds secrets cannot hold line ends.
        return pem.replace("\\n", "\n").encode()
    if not path:
        raise ConfigurationError(
            f"${PRIVATE_KEY_FILE_ENV}",
            cause="there is no private key to sign with",
            fix=f"set it to the key's PEM file, or ${PRIVATE_KEY_ENV} to the key itself",
        )
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            path, cause=f"the private key cannot be read ({error.strerror})", fix="let this account read it"
        ) from error


def _rsa_sha1(pem: bytes) -> Any:
    """Return a function that signs as CloudFront wants it: RSA, PKCS #1 v1.5, SHA-1."""
    try:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
    except ImportError as error:
        raise ConfigurationError(
            "signed URLs",
            cause="the package cryptography is not installed",
            fix="pip install 'photo-pipeline[signing]'",
        ) from error
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        # Without its text: it may quote the key.
        raise ConfigurationError(
            "the private key",
            cause="it is no unencrypted private key in PEM form",
            fix="give it as `openssl genrsa 2048` writes it",
        ) from None if isinstance(error, ValueError) else error
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < _MIN_BITS:
        raise ConfigurationError(
            "the private key",
            cause=f"it is no RSA key of {_MIN_BITS} bits",
            fix="make one: openssl genrsa 2048",
        )
    # SHA-1 is what CloudFront verifies; it guards a policy of ours, which nobody else can choose.
    return lambda message: key.sign(message, padding.PKCS1v15(), hashes.SHA1())


def _url_safe(data: bytes) -> str:
    """Return base64 with the three characters that CloudFront puts for those that URLs do not take."""
    return base64.b64encode(data).decode().translate(str.maketrans("+=/", "-_~"))


def at(text: str) -> datetime:
    """Return the instant that an ISO 8601 text names; one without a zone is UTC.

    Raises:
        ConfigurationError: it is no such text.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"time {text!r}", cause="it is not ISO 8601", fix="write 2026-12-24T18:00:00+01:00"
        ) from error
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
