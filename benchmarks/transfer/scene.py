"""What is transferred: files of random bytes, and a batch of photos whose variants they are."""

import hashlib
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from photo_pipeline.core.catalog.batches import assign_batches
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import ScanFence
from photo_pipeline.core.catalog.rows import row_id
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import batch_table, object_table, photo_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.naming import ObjectNaming, staged_path
from photo_pipeline.core.migration.photos import batch_photos

BUCKET = "bench"
# The default preset: two variants in three formats each.
_VARIANTS_OF_A_PHOTO = 6
_SMALLEST, _LARGEST = 50 * 1024, 150 * 1024
_MIMES = {"jpeg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}


@dataclass(frozen=True)
class Files:
    """So many files in one folder, as rclone likes them best: it needs one listing for all."""

    folder: Path
    count: int
    total_bytes: int

    @classmethod
    def make(cls, folder: Path, count: int) -> "Files":
        """Write `count` files of 50 to 150 KB of random bytes, the same ones each time."""
        folder.mkdir(parents=True)
        drawn, total = random.Random(5), 0
        for number in range(count):
            data = drawn.randbytes(drawn.randint(_SMALLEST, _LARGEST))
            (folder / f"{number:05}.bin").write_bytes(data)
            total += len(data)
        return cls(folder, count, total)


def configuration(home: Path, prefix: str, endpoint: str, concurrency: int, batch: int) -> dict[str, Any]:
    """Return the configuration document of one round; `batch`: how many of the files make one batch."""
    field = {"kind": "url", "column": "url", "root": "uploads", "role": "primary", "variant": "full"}
    return {
        "version": 1,
        "database": {"env": "APP_DATABASE_URL"},
        "roots": [{"name": "uploads", "dir": str(home / "uploads"), "url_prefixes": ["/uploads/"]}],
        "sources": [
            {
                "name": "photos",
                "table": "photos",
                "key": ["id"],
                "fields": [field],
                "rewrite": {"mode": "url"},
            }
        ],
        "store": {
            "bucket": BUCKET,
            "region": "us-east-1",
            "endpoint_url": endpoint,
            "prefix": prefix,
            # The files are the variants; with originals there would be more of them than rclone has.
            "originals": "discard",
            "encryption": None,
        },
        "cdn": {"base_url": "https://cdn.example.com"},
        "batches": {"size": -(-batch // _VARIANTS_OF_A_PHOTO)},
        "upload": {"concurrency": concurrency},
        "state": {"staging_dir": str(home / "staging")},
    }


def prepare(database: Database, config: PipelineConfig, files: Files, home: Path) -> None:
    """Let the files be the variants of processed photos, in batches, waiting in staging for their upload."""
    (home / "uploads").mkdir()
    ensure_schema(database)
    ScanFence.begin(database)
    photos = -(-files.count // _VARIANTS_OF_A_PHOTO)
    with database.write() as connection:
        connection.execute(sa.insert(photo_table), [_photo(number) for number in range(photos)])
    assign_batches(database, config)
    with database.write() as connection:
        connection.execute(sa.update(photo_table).values(state="processed"))
    naming = ObjectNaming(config, database)
    wanted = [
        each
        for batch in batches(database)
        for photo in batch_photos(database, batch)
        for each in naming.variants(photo)
    ]
    rows = []
    for number, each in enumerate(wanted):
        # The last photo may have more variants than there are files left; it shares the first ones' bytes.
        source = files.folder / f"{number % files.count:05}.bin"
        staged = staged_path(config, each.key)
        staged.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, staged)
        rows.append(_object(each, source.read_bytes()))
    with database.write() as connection:
        connection.execute(sa.insert(object_table), rows)


def batches(database: Database) -> list[str]:
    """Return the batches in their order."""
    with database.read() as connection:
        return list(connection.scalars(sa.select(batch_table.c.key).order_by(batch_table.c.key)))


def _photo(number: int) -> dict[str, Any]:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return {
        "reference_id": digest,
        "source": "photos",
        "row_id": row_id("photos", f"[{number}]"),
        "row_key": f"[{number}]",
        "field": "url",
        "column": "url",
        "role": "primary",
        "root": "uploads",
        "path": f"{number}.jpg",
        "value": f"/uploads/{number}.jpg",
        "size": 1,
        "mtime_ns": 1,
        "inode": 1,
        "sha256": digest,
        "format": "JPEG",
        "width": 1200,
        "height": 900,
        "class": "matched",
        "state": "pending",
        "scan": "bench",
        "updated_at": utc_now(),
    }


def _object(wanted: Any, data: bytes) -> dict[str, Any]:
    return {
        "bucket": BUCKET,
        "key": wanted.key,
        "source_sha256": wanted.source_sha256,
        "recipe": wanted.recipe,
        "variant": wanted.variant,
        "format": wanted.format,
        "mime": _MIMES[wanted.format],
        "bytes": len(data),
        "width": 1200,
        "height": 900,
        "quality": 60,
        "checksum": hashlib.sha256(data).hexdigest(),
        "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "made_at": utc_now(),
    }
