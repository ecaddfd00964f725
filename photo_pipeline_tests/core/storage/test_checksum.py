"""SHA-256 in our spelling (hex) and in S3's (base64)."""

import base64
import hashlib

import pytest

from photo_pipeline.core.storage.checksum import checksum_from_base64, sha256_hex

DIGEST = hashlib.sha256(b"a photo").digest()


def test_the_spelling_of_our_tables_is_64_hex_digits() -> None:
    # The published test vector of FIPS 180-2 for "abc".
    assert sha256_hex(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_header_value_is_read_back_as_hex() -> None:
    assert checksum_from_base64(base64.b64encode(DIGEST).decode()) == sha256_hex(b"a photo")


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "not base64!",
        "ü" * 44,
        base64.b64encode(DIGEST[:16]).decode(),  # the length of an MD5
        base64.b64encode(DIGEST).decode() + "-3",  # the composite checksum of a multipart upload
        base64.b64encode(DIGEST).decode()[:-1],  # the padding was lost
        DIGEST.hex(),
    ],
)
def test_what_is_not_a_sha256_proves_nothing(value: str | None) -> None:
    assert checksum_from_base64(value) is None
