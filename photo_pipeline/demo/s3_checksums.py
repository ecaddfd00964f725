"""The checksums that S3 clients send in ``x-amz-checksum-*`` headers, by the header's last word.

CRC32C and CRC64NVME are in pure Python (about 10 ms per 100 KB): no client of ours sends them, but a server
that cannot check a checksum must not accept it.
"""

import hashlib
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _crc32(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


@cache
def _crc_table(polynomial: int) -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
        table.append(value)
    return tuple(table)


def _reflected_crc(data: bytes, *, polynomial: int, width_bytes: int) -> bytes:
    table = _crc_table(polynomial)
    ones = (1 << (8 * width_bytes)) - 1
    crc = ones
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return (crc ^ ones).to_bytes(width_bytes, "big")


def _crc32c(data: bytes) -> bytes:
    return _reflected_crc(data, polynomial=0x82F63B78, width_bytes=4)


def _crc64nvme(data: bytes) -> bytes:
    return _reflected_crc(data, polynomial=0x9A6C9329AC4BC9B5, width_bytes=8)


CHECKSUMS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "sha256": _sha256,
    "sha1": _sha1,
    "crc32": _crc32,
    "crc32c": _crc32c,
    "crc64nvme": _crc64nvme,
}
