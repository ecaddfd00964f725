"""A store and a CDN in this process's memory, for tests that need thousands of uploads a minute.

They keep what a real store promises (no overwriting, checksums, nothing served that is not there) and
nothing else; that the pipeline gets along with a real one is shown elsewhere.
"""

from dataclasses import dataclass, field
from typing import Any, cast

import sqlalchemy as sa

from photo_pipeline.core.catalog.tables import store_table, utc_now
from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.cost.meter import UNCOUNTED, RequestMeter
from photo_pipeline.core.delivery.cdn import Cdn, Delivered
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.objects import StoredObject
from photo_pipeline.core.storage.store import PhotoStore


@dataclass
class PretendStore:
    """Objects by key, as (bytes, attributes)."""

    settings: StoreSettings
    objects: dict[str, tuple[bytes, dict[str, Any]]] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    meter: RequestMeter = UNCOUNTED

    @property
    def bucket(self) -> str:
        return self.settings.bucket

    @property
    def endpoint(self) -> str:
        return str(self.settings.endpoint_url)

    def put_new(self, key: str, data: bytes, **attributes: Any) -> bool:
        self.sent.append(key)
        if key in self.objects:
            return False
        self.objects[key] = (data, attributes)
        return True

    def head(self, key: str) -> StoredObject | None:
        if key not in self.objects:
            return None
        data, attributes = self.objects[key]
        return StoredObject(key, len(data), sha256_hex(data), attributes["content_type"], None, {})

    def read(self, key: str, **_options: Any) -> bytes | None:
        return self.objects[key][0] if key in self.objects else None

    def is_answering(self) -> bool:
        return True


class PretendCdn(Cdn):
    """Delivers what the store holds."""

    def __init__(self, base_url: str, store: PretendStore) -> None:
        super().__init__(base_url)
        self._store = store

    def fetch(self, url: str, **_options: Any) -> Delivered:
        key = url.removeprefix(self.base_url).lstrip("/")
        if key not in self._store.objects:
            return Delivered(url, 403, b"", "", "")
        data, attributes = self._store.objects[key]
        return Delivered(url, 200, data, attributes["content_type"], attributes["cache_control"] or "")


def pretend(project: Project, store: PretendStore) -> None:
    """Let the project use the store, whose nature counts as found out already."""
    project.__dict__["store"] = cast(PhotoStore, store)
    project.__dict__["cdn"] = PretendCdn(project.config.cdn.base_url, store)
    with project.database.write() as connection:
        connection.execute(sa.delete(store_table))
        connection.execute(
            sa.insert(store_table).values(
                endpoint=store.endpoint,
                bucket=store.bucket,
                rejects_wrong_checksum=True,
                reports_checksum=True,
                honours_if_none_match=True,
                probed_at=utc_now(),
            )
        )
