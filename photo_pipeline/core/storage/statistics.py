"""How much is in the bucket, by prefix and kind, told from the keys alone: one listing, no catalog."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.listing import list_objects
from photo_pipeline.core.storage.store import PhotoStore

# <prefix>/<aa>/<sha256>/<recipe>/<variant>.<ext> and <prefix>/<aa>/<sha256>.<ext> (DESIGN, "State").
_VARIANT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}/[0-9a-f]+/(?P<variant>[^/]+)\.(?P<format>[a-z0-9]+)")
_ORIGINAL = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}\.(?P<format>[a-z0-9]+)")
_REPORT_EVERY = 1_000


@dataclass(frozen=True)
class ObjectKind:
    """What a key tells of its object.

    Attributes:
        prefix: The configured prefix it is under; empty for none of them.
        kind: `variant`, `original` or `other`.
        variant: The variant's name; empty for others.
        format: The extension of variants and originals; empty for others.
    """

    prefix: str
    kind: str
    variant: str = ""
    format: str = ""


@dataclass(frozen=True)
class Amount:
    """So many objects, and their bytes."""

    objects: int = 0
    size: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.objects + other.objects, self.size + other.size)


@dataclass(frozen=True)
class StoreStatistics:
    """Amounts by kind; they add up to `total`."""

    amounts: dict[ObjectKind, Amount]

    @property
    def total(self) -> Amount:
        """Everything."""
        return sum(self.amounts.values(), Amount())

    def by(self, attribute: str) -> dict[str, Amount]:
        """Return the amounts by `prefix`, `kind`, `variant` or `format`."""
        sums: dict[str, Amount] = {}
        for kind, amount in self.amounts.items():
            name = getattr(kind, attribute)
            sums[name] = sums.get(name, Amount()) + amount
        return sums


def store_statistics(
    store: PhotoStore, prefixes: Iterable[str] = ("",), *, progress: Progress = no_progress
) -> StoreStatistics:
    """Return how much is under the prefixes: plain beginnings that do not overlap, "" for the whole bucket.

    One request per 1,000 objects, in constant memory.

    Raises:
        StoreError: the store failed or refused a request after retries.
    """
    ours = (store.settings.prefix, store.settings.originals_prefix)
    counts: dict[ObjectKind, list[int]] = {}
    done = 0
    for prefix in prefixes:
        for each in list_objects(store, prefix):
            sums = counts.setdefault(kind_of(each.key, ours), [0, 0])
            sums[0] += 1
            sums[1] += each.size
            done += 1
            if done % _REPORT_EVERY == 0:
                progress("objects", done, None)
    progress("objects", done, done)
    return StoreStatistics({kind: Amount(*sums) for kind, sums in counts.items()})


def kind_of(key: str, prefixes: Iterable[str]) -> ObjectKind:
    """Return what the key tells, given the configured prefixes."""
    for prefix in prefixes:
        if not key.startswith(f"{prefix}/"):
            continue
        rest = key[len(prefix) + 1 :]
        if found := _VARIANT.fullmatch(rest):
            return ObjectKind(prefix, "variant", found["variant"], found["format"])
        if found := _ORIGINAL.fullmatch(rest):
            return ObjectKind(prefix, "original", "", found["format"])
        return ObjectKind(prefix, "other")
    return ObjectKind("", "other")
