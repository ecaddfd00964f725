"""What is in the bucket, as one listing at one moment: asked for live, or taken from S3 Inventory files."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from photo_pipeline.core.storage.objects import ListedObject


class Listing(Protocol):
    """All objects under our prefixes.

    Attributes:
        made_at: UTC; objects may have come and gone since.
        origin: What it is, for people.
    """

    @property
    def made_at(self) -> datetime:
        """When it was made (UTC): what was stored later is not in it."""

    @property
    def origin(self) -> str:
        """What it is, for people."""

    def objects(self) -> Iterator[ListedObject]:
        """Yield the objects, in any order, in constant memory.

        Raises:
            StoreError: the store failed or refused a request.
        """


@dataclass(frozen=True)
class Prefixes:
    """The key prefixes that are ours, without the slash at their ends."""

    photos: str
    originals: str

    def cover(self, key: str) -> bool:
        """Return whether the key is below one of them."""
        return key.startswith((f"{self.photos}/", f"{self.originals}/"))
