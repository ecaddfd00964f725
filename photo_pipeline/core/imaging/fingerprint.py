"""Which pictures look alike: a 64-bit hash of a picture's coarse shapes, and groups of near hashes.

For reports only: near duplicates are never merged or deleted. Exact ones are found by their SHA-256.

The hash is a DCT hash ("pHash"): the picture is averaged to 32x32 grey levels, and each of the 64 lowest
cosine coefficients but the mean gives one bit. Hamming distances over 58 photos of shared/photos/real at
1200 px, in bits:

| copy of the same photo                | mean | largest                                              |
|---------------------------------------|------|------------------------------------------------------|
| JPEG at quality 60                    | 0.1  | 1                                                    |
| half the size, JPEG at quality 30     | 0.3  | 2                                                    |
| a quarter of the size                 | 0.4  | 3                                                    |
| 10 % brighter                         | 0.5  | 2                                                    |
| 25 % brighter                         | 1.7  | 7                                                    |
| cropped by 1 % on each side           | 2.1  | 7                                                    |
| cropped by 2 % on the left and top    | 4.1  | 10 (5 photos of 58 are above 7)                      |
| another photo                         | 31.5 | 18 is the smallest; 4 pairs that show the same are 0 |

A gradient hash ("dHash") on the same copies has 9 where this one has 2 (brighter), and 15 between different
photos. Bits by the median instead of the sign are no better, and change in pairs.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_BITS = 64

# Every small crop and re-encoding of the table, and less than half of the way to the nearest other photo.
MAX_DISTANCE = 7

# The hash of a picture with too few shapes to be told from others (flat, a gradient, stripes, noise).
FEATURELESS = "0" * (HASH_BITS // 4)

_SIDE = 32
# In grey levels, as the transform is orthonormal: rounding to 8 bits gives each coefficient a noise of 0.3.
# At or below it a bit is 0, so that the exact zeros of symmetric pictures are no coin tosses.
_NOISE_FLOOR = 2.0
# Photos have 58-64 coefficients above the floor. Bits below it are equal in all pictures: with n above it,
# two unrelated pictures are within 7 bits with a chance of 2e-5 at n = 40, but of 40 % at n = 16.
_MIN_FEATURES = 40


def perceptual_hash(image: Image.Image) -> str:
    """Hashes what a picture looks like.

    Args:
        image: Any mode and size; transparent parts count as white, which the default recipe shows them on.

    Returns:
        16 hex digits; FEATURELESS when there is too little to see.
    """
    coefficients = (_COSINES @ _grey(image) @ _COSINES.T)[_LOWEST]
    if np.count_nonzero(np.abs(coefficients) > _NOISE_FLOOR) < _MIN_FEATURES:
        return FEATURELESS
    return np.packbits(coefficients > _NOISE_FLOOR).tobytes().hex()


def hash_distance(one: str, other: str) -> int:
    """Counts the bits in which two hashes differ.

    Args:
        one: What `perceptual_hash` returned.
        other: Likewise.

    Returns:
        0 (look the same) to 64; around 32 for unrelated pictures. Says nothing if one is FEATURELESS.
    """
    return (int(one, 16) ^ int(other, 16)).bit_count()


def near_duplicates(hashes: Mapping[str, str], *, max_distance: int = MAX_DISTANCE) -> list[tuple[str, ...]]:
    """Groups pictures that look alike.

    Two hashes within d bits agree in at least one of d + 1 bands of their bits, so only pictures that share
    a band are compared: 100,000 random hashes take 5 s of one core, as many within 12 bits of one another
    8 s. Far above the default the bands get short and the time quadratic.

    Args:
        hashes: A picture's name to its `perceptual_hash`. FEATURELESS ones are in no group: they would
            all be in one, whatever they show.
        max_distance: Number of differing bits up to which two pictures are near, 0 to 64.

    Returns:
        Groups of two or more names, each sorted, in the order of their first names. Groups are chains:
        each member is near some other member, not near all.

    Raises:
        ValueError: `max_distance` is out of range, or a hash is not hexadecimal.
    """
    if not 0 <= max_distance <= HASH_BITS:
        raise ValueError(f"no two hashes of {HASH_BITS} bits differ in {max_distance}")
    names: defaultdict[int, list[str]] = defaultdict(list)
    for name, digits in sorted(hashes.items()):
        if digits != FEATURELESS:
            names[int(digits, 16)].append(name)
    groups = _Groups(len(names))
    values = np.fromiter(names, dtype=np.uint64, count=len(names))
    for bucket in _buckets(values, bands=max_distance + 1):
        for chain in _chains(values[bucket], max_distance):
            groups.join(bucket[chain].tolist())
    found: defaultdict[int, list[str]] = defaultdict(list)
    for at, same in enumerate(names.values()):
        found[groups.leader(at)].extend(same)
    return sorted(tuple(sorted(group)) for group in found.values() if len(group) > 1)


def _grey(image: Image.Image) -> NDArray[np.float64]:
    """The picture as _SIDE x _SIDE grey levels; colours that hide under transparency do not count."""
    if image.has_transparency_data:
        small = image.convert("RGBA").resize((_SIDE, _SIDE), Image.Resampling.BOX)
        white = Image.new("RGBA", small.size, "white")
        small = Image.alpha_composite(white, small).convert("L")
    else:
        small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


def _buckets(values: NDArray[np.uint64], *, bands: int) -> Iterator[NDArray[np.intp]]:
    """Positions of the values that agree in a band of bits, for each band and each content of it."""
    edges = [HASH_BITS * band // bands for band in range(bands + 1)]
    for low, high in pairwise(edges):
        band = (values >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order])) + 1
        yield from (bucket for bucket in np.split(order, starts) if len(bucket) > 1)


def _chains(values: NDArray[np.uint64], max_distance: int) -> Iterator[list[int]]:
    """Positions of the values that hang together by near neighbours, for each chain of two or more.

    What is found near is compared no more with what is left, so that a crowd of look-alikes costs its size
    and not its square.
    """
    left, rest = np.arange(len(values)), values
    while len(left):
        chain = [int(left[0])]
        left, rest = left[1:], rest[1:]
        # The list grows while it is walked.
        for member in chain:
            near = np.bitwise_count(rest ^ values[member]) <= max_distance
            if near.any():
                chain += left[near].tolist()
                left, rest = left[~near], rest[~near]
        if len(chain) > 1:
            yield chain


class _Groups:
    """Disjoint sets of positions, each known by its smallest one."""

    def __init__(self, count: int) -> None:
        self.parents = list(range(count))

    def leader(self, at: int) -> int:
        while self.parents[at] != at:
            # Halves the path for the next one who asks.
            self.parents[at] = self.parents[self.parents[at]]
            at = self.parents[at]
        return at

    def join(self, members: list[int]) -> None:
        leaders = {self.leader(member) for member in members}
        first = min(leaders)
        for leader in leaders:
            self.parents[leader] = first


def _cosine_matrix(side: int) -> NDArray[np.float64]:
    """The orthonormal DCT-II: scipy.fft has it too, but its import costs each worker 0.3 s."""
    rows, columns = np.arange(side)[:, None], np.arange(side)[None, :]
    matrix: NDArray[np.float64] = np.cos(np.pi * rows * (2 * columns + 1) / (2 * side)) * np.sqrt(2 / side)
    matrix[0] /= np.sqrt(2)
    return matrix


def _lowest_frequencies() -> tuple[list[int], list[int]]:
    """Rows and columns of the lowest coefficients without the mean, in diagonals as JPEG orders them."""
    pairs = sorted(((u, v) for u in range(_SIDE) for v in range(_SIDE)), key=lambda pair: (sum(pair), pair))
    rows, columns = zip(*pairs[1 : HASH_BITS + 1], strict=True)
    return list(rows), list(columns)


_COSINES = _cosine_matrix(_SIDE)
_LOWEST = _lowest_frequencies()
