"""When the bytes under a key count as proven: by the checksum that the store reports, or by reading them.

Asks and reads only. Which objects a photo needs is `core.migration.proof`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.probe import StoreProbe
from photo_pipeline.core.storage.store import PhotoStore

# An answer may be damaged on its way; other bytes are believed in only when it says so this often.
_ASKED = 3


def is_proven(
    store: PhotoStore,
    probe: StoreProbe,
    key: str,
    checksum: str,
    *,
    size: int,
    md5: str | None = None,
    count: Callable[[str], None] | None = None,
) -> bool:
    """Return whether the store holds exactly the bytes with that SHA-256 under the key; see `proven_by`."""
    return bool(proven_by(store, probe, key, checksum, size=size, md5=md5, count=count))


def proven_by(
    store: PhotoStore,
    probe: StoreProbe,
    key: str,
    checksum: str,
    *,
    size: int,
    md5: str | None = None,
    parts_sha256: str | None = None,
    count: Callable[[str], None] | None = None,
) -> str:
    """Return how it is proven that the store holds exactly the bytes with that SHA-256 under the key.

    Args:
        store: The bucket.
        probe: What is known of the server; decides how much has to be asked.
        key: The object's key.
        checksum: SHA-256 of its bytes, hex.
        size: In bytes; sets the time limit where the object has to be read back.
        md5: Of the same bytes, hex, where they are at hand; spares the reading where the server tells it.
        parts_sha256: Hex, of an object that was just sent in parts (`multipart.SentInParts`); likewise.
        count: Called with `HEAD` or `GET` before each request.

    Returns:
        `checksum`, `etag` or `read_back`; empty if something else is there, or nothing.

    Raises:
        StoreError: the store cannot be asked.
        ObjectKeyError: no request can mean this key.
    """
    question = _Question(store, probe, key, checksum, size, md5, parts_sha256, count or _uncounted)
    for _ in range(_ASKED):
        how, answer = question.ask()
        if answer is not False:
            break
    return how if answer else ""


@dataclass(frozen=True)
class _Question:
    store: PhotoStore
    probe: StoreProbe
    key: str
    checksum: str
    size: int
    md5: str | None
    parts_sha256: str | None
    count: Callable[[str], None]

    def ask(self) -> tuple[str, bool | None]:
        """Return what was asked for, and whether the right bytes are there; None: nothing is."""
        if self.probe.verification == "checksum":
            self.count("HEAD")
            stored = self.store.head(self.key)
            if stored is None or stored.sha256 is not None:
                return "checksum", None if stored is None else stored.sha256 == self.checksum
            parts = (self.size, self.parts_sha256)
            if self.parts_sha256 is not None and (stored.size, stored.parts_sha256) == parts:
                return "checksum", True
        elif self.probe.verification == "etag" and self.md5 is not None:
            self.count("HEAD")
            seen = self.store.look(self.key)
            if seen is None or (seen.size, seen.etag) == (self.size, self.md5):
                return "etag", None if seen is None else True
            # Another ETag is no proof of other bytes: of parts, or of what the server encrypts, it is no MD5.
        self.count("GET")
        data = self.store.read(self.key, size=self.size, sha256=self.checksum)
        return "read_back", None if data is None else sha256_hex(data) == self.checksum


def _uncounted(_kind: str) -> None: ...
