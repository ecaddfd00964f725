"""What the store says of its objects, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class StoredObject:
    """What a HEAD says of one object.

    Attributes:
        key: Its key.
        size: In bytes.
        sha256: Hex, of the whole object; None where the server keeps no checksum, or only one of parts.
        content_type: As it will be delivered.
        cache_control: Likewise.
        metadata: User metadata, names in lower case.
        etag: Without quotes; equal as long as the object is.
        version_id: None where the bucket keeps no versions.
        last_modified: When it was stored, UTC.
        parts_sha256: Hex; of a multipart object the SHA-256 of its parts' SHA-256s, if it is known.
    """

    key: str
    size: int
    sha256: str | None
    content_type: str | None
    cache_control: str | None
    metadata: Mapping[str, str]
    etag: str = ""
    version_id: str | None = None
    last_modified: datetime | None = None
    parts_sha256: str | None = None


@dataclass(frozen=True)
class ListedObject:
    """One entry of a listing; size in bytes, time in UTC, ETag without quotes."""

    key: str
    size: int
    last_modified: datetime
    etag: str
    storage_class: str = "STANDARD"


@dataclass(frozen=True)
class ObjectVersion:
    """One version of a key, or a delete marker (size 0, no ETag), which hides the versions below it."""

    key: str
    version_id: str
    is_latest: bool
    is_marker: bool
    size: int
    last_modified: datetime
    etag: str


@dataclass(frozen=True)
class Deleted:
    """What became of a conditional delete, and what is needed to take it back.

    Attributes:
        key: The object's key.
        outcome: `deleted`; `absent`: there was none; `changed`: another object is there, it was left alone.
        version_id: The version that was hidden; None where the bucket keeps no versions.
        marker_id: The delete marker that hides it; None where the object is gone for good.
        found: What was there before, as far as it was looked at.
    """

    key: str
    outcome: str
    version_id: str | None = None
    marker_id: str | None = None
    found: StoredObject | None = field(default=None, compare=False)

    @property
    def can_be_undone(self) -> bool:
        """Whether `undelete` can bring the object back."""
        return self.outcome == "deleted" and self.marker_id is not None
