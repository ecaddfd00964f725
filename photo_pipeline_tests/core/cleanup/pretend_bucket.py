"""A store in memory that keeps versions, and the clean-up's view of it, for thousands of operations.

That a real server behaves like this is shown in `test_orphans` and `test_orphans_servers`.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from photo_pipeline.core.cleanup.listing import Prefixes
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.objects import Deleted, ListedObject, StoredObject
from photo_pipeline_tests.faults.pretend_store import PretendStore

PLAIN = {"content_type": "image/jpeg", "cache_control": None}
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Version:
    """One version, or a delete marker where there is no data."""

    id: str
    data: bytes | None
    stored_at: datetime
    attributes: dict[str, Any] = field(default_factory=lambda: dict(PLAIN))


@dataclass
class VersionedStore(PretendStore):
    """`objects` is what is shown; `history` has every version, the newest last."""

    history: dict[str, list[Version]] = field(default_factory=dict)
    clock: datetime = START
    ids: Iterator[int] = field(default_factory=count)

    def put_new(self, key: str, data: bytes, **attributes: Any) -> bool:
        created = super().put_new(key, data, **attributes)
        if created:
            self._push(key, data, attributes=attributes)
        return created

    def overwrite(self, key: str, data: bytes, *, age: timedelta = timedelta(0)) -> None:
        """Store it as anybody may, some time ago."""
        self.objects[key] = (data, dict(PLAIN))
        self._push(key, data, age)

    def remove(self, key: str) -> str:
        """Hide it behind a delete marker; return the marker's id."""
        del self.objects[key]
        return self._push(key, None)

    def show(self, key: str) -> None:
        """Bring what is shown up to the history."""
        versions = self.history.get(key, [])
        if versions and versions[-1].data is not None:
            self.objects[key] = (versions[-1].data, versions[-1].attributes)
        else:
            self.objects.pop(key, None)

    def newest(self, key: str) -> Version | None:
        versions = self.history.get(key, [])
        return versions[-1] if versions and versions[-1].data is not None else None

    def _push(
        self,
        key: str,
        data: bytes | None,
        age: timedelta = timedelta(0),
        attributes: dict[str, Any] | None = None,
    ) -> str:
        name = f"v{next(self.ids)}"
        version = Version(name, data, self.clock - age, attributes or dict(PLAIN))
        self.history.setdefault(key, []).append(version)
        return name


class PretendBucket:
    """The clean-up's view of such a store. `on_call` is told of each request before it happens."""

    def __init__(self, store: VersionedStore, on_call: Callable[[str], object] = lambda _what: None) -> None:
        self.store = store
        self.name = store.bucket
        self.on_call = on_call
        self.versioned = True

    @property
    def prefixes(self) -> Prefixes:
        return Prefixes(self.store.settings.prefix, self.store.settings.originals_prefix)

    def now(self) -> datetime:
        self.on_call("now")
        return self.store.clock

    def objects(self) -> Iterator[ListedObject]:
        self.on_call("list")
        prefixes = self.prefixes
        for key in list(self.store.objects):
            version = self.store.newest(key)
            # As a page of a real listing: it does not know what other prefixes begin like.
            if version and version.data is not None and prefixes.cover(key):
                yield ListedObject(key, len(version.data), version.stored_at, _etag(version.data))

    def look(self, key: str) -> StoredObject | None:
        self.on_call("look")
        version = self.store.newest(key)
        if version is None or version.data is None:
            return None
        return StoredObject(
            key,
            len(version.data),
            sha256_hex(version.data),
            None,
            None,
            {},
            _etag(version.data),
            version.id,
            version.stored_at,
        )

    def delete(self, expected: StoredObject) -> Deleted:
        self.on_call("delete")
        version = self.store.newest(expected.key)
        if version is None or version.data is None:
            return Deleted(expected.key, "absent")
        if _etag(version.data) != expected.etag or expected.version_id not in (None, version.id):
            return Deleted(expected.key, "changed")
        marker = self.store.remove(expected.key)
        if not self.versioned:
            self.store.history.pop(expected.key)
            marker = ""
        self.on_call("deleted")
        return Deleted(expected.key, "deleted", version.id if self.versioned else None, marker or None)

    def undelete(self, deleted: Deleted) -> bool:
        self.on_call("undelete")
        if not deleted.can_be_undone:
            return False
        versions = self.store.history.get(deleted.key, [])
        versions[:] = [each for each in versions if each.id != deleted.marker_id]
        self.store.show(deleted.key)
        self.on_call("undeleted")
        newest = self.store.newest(deleted.key)
        return newest is not None and newest.id == deleted.version_id

    def marker_over(self, key: str, version_id: str) -> str | None:
        self.on_call("look")
        versions = self.store.history.get(key, [])
        if len(versions) < 2 or versions[-1].data is not None:
            return None
        real = [each for each in versions if each.data is not None]
        return versions[-1].id if real and real[-1].id == version_id else None

    def keeps_versions(self) -> bool:
        return self.versioned

    def holds(self, key: str, checksum: str, size: int) -> bool:
        there = self.look(key)
        return there is not None and there.sha256 == checksum


def _etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
