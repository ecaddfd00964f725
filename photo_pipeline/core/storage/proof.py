"""When the bytes under a key count as proven: by the checksum that the store reports, or by reading them.

Asks and reads only. Which objects a photo needs is `core.migration.proof`.
"""

from collections.abc import Callable

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
    count: Callable[[str], None] | None = None,
) -> bool:
    """Return whether the store holds exactly the bytes with that SHA-256 (hex) under the key.

    `size` (bytes) sets the time limit where the object has to be read back.

    Raises:
        StoreError: the store cannot be asked.
    """
    for _ in range(_ASKED):
        found = _found_checksum(store, probe, key, checksum, size=size, count=count or _uncounted)
        if found in (checksum, None):
            break
    return found == checksum


def _found_checksum(
    store: PhotoStore,
    probe: StoreProbe,
    key: str,
    expected: str,
    *,
    size: int,
    count: Callable[[str], None],
) -> str | None:
    """Return the SHA-256 (hex) of what is under the key, or None if nothing is."""
    if probe.verification == "checksum":
        count("HEAD")
        stored = store.head(key)
        if stored is None or stored.sha256 is not None:
            return stored.sha256 if stored else None
    count("GET")
    data = store.read(key, size=size, sha256=expected)
    return None if data is None else sha256_hex(data)


def _uncounted(_kind: str) -> None: ...
