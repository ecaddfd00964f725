"""The bucket as the clean-up sees it: listing, looking, deleting so that it can be undone, and its clock."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.cleanup.listing import Prefixes
from photo_pipeline.core.storage import deletion
from photo_pipeline.core.storage.faults import store_errors
from photo_pipeline.core.storage.listing import list_objects, list_versions
from photo_pipeline.core.storage.objects import Deleted, ListedObject, StoredObject
from photo_pipeline.core.storage.probe import StoreProbe, probe_store
from photo_pipeline.core.storage.proof import is_proven
from photo_pipeline.core.storage.store import PhotoStore


class Bucket(Protocol):
    """What the clean-up needs of a store; every method may raise StoreError."""

    @property
    def name(self) -> str:
        """The bucket's name."""

    @property
    def prefixes(self) -> Prefixes:
        """The key prefixes that are ours."""

    def now(self) -> datetime:
        """Return the store's time (UTC): ages are told by one clock, and not by each machine's own."""

    def objects(self) -> Iterator[ListedObject]:
        """Yield every object under our prefixes, in constant memory."""

    def look(self, key: str) -> StoredObject | None:
        """Return what is there now, or None."""

    def delete(self, expected: StoredObject) -> Deleted:
        """Delete the object if it is still that one."""

    def undelete(self, deleted: Deleted) -> bool:
        """Take a delete back; return whether that object is there again."""

    def marker_over(self, key: str, version_id: str) -> str | None:
        """Return the id of the delete marker that hides that version, if it is the newest one and hidden."""

    def keeps_versions(self) -> bool:
        """Return whether what is deleted now can be brought back."""

    def holds(self, key: str, checksum: str, size: int) -> bool:
        """Return whether the key has exactly the bytes with that SHA-256 (hex); `size` in bytes."""


class StoreBucket:
    """The real one."""

    def __init__(self, database: Database, store: PhotoStore) -> None:
        self._database = database
        self._store = store
        self._probe: StoreProbe | None = None
        self.name = store.bucket
        self.meter = store.meter
        self.prefixes = Prefixes(store.settings.prefix, store.settings.originals_prefix)

    def now(self) -> datetime:
        """Return the time that the store gives with its answers; the machine's own if it gives none."""
        with store_errors(f"s3://{self.name}"):
            answer = self._store.control(lambda: self._store.s3.head_bucket(Bucket=self.name))
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(date).astimezone(UTC) if date else utc_now()

    def objects(self) -> Iterator[ListedObject]:
        """Yield every object under our prefixes."""
        for prefix in (self.prefixes.originals, self.prefixes.photos):
            yield from list_objects(self._store, f"{prefix}/")

    def look(self, key: str) -> StoredObject | None:
        """Return what is there now."""
        return self._store.head(key)

    def delete(self, expected: StoredObject) -> Deleted:
        """Delete the object if it is still that one."""
        return deletion.delete_object(self._store, expected)

    def undelete(self, deleted: Deleted) -> bool:
        """Take a delete back."""
        return deletion.undelete(self._store, deleted)

    def marker_over(self, key: str, version_id: str) -> str | None:
        """Return the delete marker over the version."""
        history = [each for each in list_versions(self._store, key) if each.key == key]
        latest = next((each for each in history if each.is_latest), None)
        newest = next((each for each in history if not each.is_marker), None)
        if latest is None or not latest.is_marker or newest is None or newest.version_id != version_id:
            return None
        return latest.version_id

    def keeps_versions(self) -> bool:
        """Return whether the bucket's versioning is on."""
        return deletion.keeps_versions(self._store)

    def holds(self, key: str, checksum: str, size: int) -> bool:
        """Return whether the key has exactly those bytes."""
        if self._probe is None:
            self._probe = probe_store(self._database, self._store)
        return is_proven(self._store, self._probe, key, checksum, size=size)


class LiveListing:
    """The bucket's own listing, asked for now."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.made_at = bucket.now()
        self.origin = f"the bucket {bucket.name}"

    def objects(self) -> Iterator[ListedObject]:
        """Yield the objects."""
        return self._bucket.objects()
