"""Presigned requests: who holds one may do that one thing with that one object, until it expires.

The presigned POST of direct uploads, which can limit sizes, is not here. A presigned PUT can be used again
until it expires, but only with the bytes whose SHA-256 it names, and only while the key is free.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.storage.faults import store_errors
from photo_pipeline.core.storage.keys import checked_key
from photo_pipeline.core.storage.store import PhotoStore

# S3's limit for signature version 4; temporary credentials end earlier.
_LONGEST_S = 7 * 24 * 3600


@dataclass(frozen=True, repr=False)
class PresignedRequest:
    """A request that anybody may send until it expires.

    Its URL is a secret for that long, so that `repr` leaves its signature out.

    Attributes:
        method: `GET` or `PUT`.
        url: Where to send it.
        headers: To be sent with it, exactly.
        expires_at: UTC.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    expires_at: datetime

    def __repr__(self) -> str:
        return (
            f"PresignedRequest({self.method} {self.url.partition('?')[0]} until {self.expires_at:%F %T} UTC)"
        )


def presign_get(
    store: PhotoStore, key: str, *, expires_s: int = 900, download_as: str | None = None
) -> PresignedRequest:
    """Return a request that reads the object.

    Args:
        store: The bucket.
        key: The object's key; whether it exists is not asked.
        expires_s: From now, 1 second to 7 days.
        download_as: A file name that browsers shall save it under, instead of showing it.

    Raises:
        ConfigurationError: `expires_s` is out of range.
        ObjectKeyError: the key cannot mean the same object to every request.
    """
    params: dict[str, Any] = {}
    if download_as is not None:
        name = "".join(
            each if each.isascii() and each.isprintable() and each not in '"\\' else "_"
            for each in download_as
        )
        params["ResponseContentDisposition"] = f'attachment; filename="{name}"'
    return _presigned(store, "get_object", "GET", key, params, {}, expires_s)


def presign_put(
    store: PhotoStore, key: str, *, sha256: str, content_type: str, expires_s: int = 900
) -> PresignedRequest:
    """Return a request that stores exactly the bytes with that SHA-256 (hex), while the key is free.

    On servers that check neither (docs/s3-servers.md) it stores whatever it is sent.

    Args:
        store: The bucket.
        key: The object's key.
        sha256: Of the bytes, hex.
        content_type: As it will be delivered.
        expires_s: From now, 1 second to 7 days.

    Raises:
        ConfigurationError: `expires_s` is out of range, or `sha256` is none.
        ObjectKeyError: the key cannot mean the same object to every request.
    """
    try:
        raw = bytes.fromhex(sha256)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ConfigurationError("sha256", cause=f"{sha256[:80]!r} is not 64 hex digits", fix="correct it")
    checksum = base64.b64encode(raw).decode()
    params = {"ContentType": content_type, "ChecksumSHA256": checksum, "IfNoneMatch": "*"}
    headers = {"Content-Type": content_type, "x-amz-checksum-sha256": checksum, "If-None-Match": "*"}
    if store.settings.encryption:
        params["ServerSideEncryption"] = store.settings.encryption
        headers["x-amz-server-side-encryption"] = store.settings.encryption
    return _presigned(store, "put_object", "PUT", key, params, headers, expires_s)


def _presigned(
    store: PhotoStore,
    operation: str,
    method: str,
    key: str,
    params: Mapping[str, Any],
    headers: Mapping[str, str],
    expires_s: int,
) -> PresignedRequest:
    checked_key(key)
    if not 1 <= expires_s <= _LONGEST_S:
        raise ConfigurationError(
            "expires_s", cause=f"{expires_s} seconds cannot be signed", fix=f"use 1 to {_LONGEST_S} (7 days)"
        )
    expires_at = datetime.now(UTC) + timedelta(seconds=expires_s)
    with store_errors(f"s3://{store.bucket}/{key}"):
        url = store.s3.generate_presigned_url(
            operation,
            Params={"Bucket": store.bucket, "Key": key, **params},
            ExpiresIn=expires_s,
            HttpMethod=method,
        )
    return PresignedRequest(method, url, headers, expires_at)
