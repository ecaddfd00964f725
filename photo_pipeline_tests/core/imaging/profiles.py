"""Minimal ICC profiles, since no licence-free Display P3, Adobe RGB or CMYK profile ships with Pillow."""

import struct
from itertools import product

# Colorants adapted to D50, from the profiles' published specifications.
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
_D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(name: str, colorants: tuple[tuple[float, ...], ...], gamma: float = 2.2) -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"desc": _description(name), b"wtpt": _xyz(_D50)}
    tags |= {key: _xyz(value) for key, value in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def red_cyan_press() -> bytes:
    """A CMYK profile of a press whose cyan ink is red, so that its use cannot be missed."""
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 if at % 4 == 0 else 0 for at in range(9)))
    clut = b"".join(bytes(_lab(*corner)) for corner in product((0, 1), repeat=4))
    head = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0))
    table = head + matrix + identity * 4 + clut + identity * 3
    tags = {b"desc": _description("Red cyan"), b"wtpt": _xyz(_D50), b"A2B0": table}
    return _profile(b"prtr", b"CMYK", b"Lab ", tags)


def _lab(cyan: int, magenta: int, yellow: int, black: int) -> tuple[int, int, int]:
    if black or (cyan and magenta and yellow):
        return (0, 128, 128)
    return (128, 188, 168) if cyan else (255 - 60 * (magenta + yellow), 128, 128)


def _description(name: str) -> bytes:
    text = name.encode("ascii") + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for key, value in tags.items():
        padded = value + bytes(-len(value) % 4)
        table += key + struct.pack(">II", at + len(data), len(value))
        data += padded
    size = at + len(data)
    head = struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x02400000, kind, space, pcs)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", *(round(value * 65536) for value in _D50))
    return head.ljust(128, b"\0") + table + data
