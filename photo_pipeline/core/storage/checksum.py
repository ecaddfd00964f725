"""SHA-256 in the two spellings in use: hex in our tables and keys, base64 in S3 headers."""

import base64
import binascii
import hashlib


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def md5_hex(data: bytes) -> str:
    """Return the MD5 of `data` as 32 hex digits, as many servers give it as a single-part object's ETag."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def checksum_from_base64(value: str | None) -> str | None:
    """Return an `x-amz-checksum-sha256` header's value as hex; None if absent or not a SHA-256."""
    if not value:
        return None
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == hashlib.sha256().digest_size else None
