"""Random buckets and databases that fit together, and faults planted in them.

A world is made of photos, each in some state, with the objects, the rows of catalog and ledger and the cells
of the application that go with it, in one of the many spellings that applications have. What is planted is
noted, so that a scan can be held against it: it must find all of that and nothing else.
"""

import hashlib
import html
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from photo_pipeline.core.catalog.raw import encode_key
from photo_pipeline.core.catalog.rows import row_id
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import (
    PhotoState,
    object_table,
    photo_table,
    recipe_table,
    rewrite_photo_table,
    rewrite_table,
    utc_now,
)
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline_tests.core.catalog.small_site import small_site
from photo_pipeline_tests.core.cleanup.pretend_bucket import PretendBucket
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site

OLD, FRESH = timedelta(days=9), timedelta(hours=3)
EARLIER_RECIPE = "ea71e2ea71e2"
FILES = tuple(f"{variant}.{ext}" for variant in ("full", "thumb") for ext in ("jpg", "webp", "avif"))
SETTLED = (PhotoState.MIGRATED, PhotoState.STORED)
OPEN = (
    *(PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED, PhotoState.CONFLICT),
    *(PhotoState.QUARANTINED, PhotoState.ROLLED_BACK),
)
POSTS: dict[str, Any] = {
    "name": "posts",
    "table": "posts",
    "key": ["id"],
    "fields": [{"kind": "text", "column": "body", "root": "uploads"}],
    "rewrite": {"mode": "url", "format": "jpeg"},
}
# How an application may hold a URL.
SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda url: url,
    lambda url: f'<p><img src="{url}" alt="x"></p>',
    lambda url: html.escape(f'<img src="{url}">').replace("/", "&#x2F;"),
    lambda url: json.dumps({"images": [{"url": url}]}),
    lambda url: json.dumps({"url": url}).replace("/", "\\/"),
    lambda url: json.dumps(json.dumps({"url": url}).replace("/", "\\/")),
    lambda url: f"https://resize.example/?w=3&url={quote(url, safe='')}",
    lambda url: f"https://a.example/?u={quote(quote(url, safe=''), safe='')}",
    lambda url: f"![]({url}) and {url}?v=2#top",
    lambda url: f'a:1:{{s:3:"url";s:{len(url)}:"{url}";}}',
    lambda url: url.replace("/", "\\u002f"),
)


class Template:
    """A site with empty state tables, of which each world gets a copy: making them takes a second."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._site = small_site(home, rows=[], sources=[ITEM_PHOTOS, POSTS])
        self._site.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, body TEXT)")
        self._site.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, raw BLOB)")
        with self._site.project() as project:
            ensure_schema(project.database)
        # What readers left beside the file is not copied.
        self._site.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def copy(self) -> Site:
        """Give the site anew. One at a time."""
        for name in ("work.db", "work.db-wal", "work.db-shm"):
            (self._home / name).unlink(missing_ok=True)
        shutil.copy(self._home / "app.db", self._home / "work.db")
        self._site.url = f"sqlite:///{self._home / 'work.db'}"
        return self._site


@dataclass
class World:
    """A site, its bucket, and what was planted."""

    site: Site
    project: Project
    bucket: PretendBucket
    random: random.Random
    planted: dict[str, str] = field(default_factory=dict)  # orphans: key and kind of the fault
    foreign: set[str] = field(default_factory=set)
    drifted: set[tuple[str, str]] = field(default_factory=set)  # kind and key
    numbers: int = 0

    def __post_init__(self) -> None:
        self.config = self.project.config
        self.store = self.bucket.store
        self.recipe = self._present_recipe()
        self.rows: dict[sa.Table, list[dict[str, Any]]] = {}
        self.cells: list[tuple[str, dict[str, Any]]] = []
        for digest in (self.recipe, EARLIER_RECIPE):
            values = {"variants": ["full", "thumb"], "formats": ["jpeg", "webp", "avif"], "definition": {}}
            self._row(recipe_table, digest=digest, first_used_at=utc_now(), **values)

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def sha(self, seed: object) -> str:
        return hashlib.sha256(f"{self.random.random()} {seed}".encode()).hexdigest()

    def key(self, sha: str, recipe: str, file: str) -> str:
        return f"{self.config.store.prefix}/{sha[:2]}/{sha}/{recipe}/{file}"

    def original(self, sha: str, extension: str = "jpg") -> str:
        return f"{self.config.store.originals_prefix}/{sha[:2]}/{sha}.{extension}"

    def url(self, key: str) -> str:
        return f"{self.config.cdn.base_url}/{key}"

    def put(self, key: str, age: timedelta = OLD) -> bytes:
        data = f"bytes of {key}".encode()
        self.store.overwrite(key, data, age=age)
        return data

    # --- what belongs together

    def object(self, sha: str, recipe: str, file: str, *, there: bool = True, age: timedelta = OLD) -> str:
        """An object that the catalog knows as proven; return its key."""
        key = self.key(sha, recipe, file) if recipe else self.original(sha, file.rpartition(".")[2])
        data = self.put(key, age)
        variant, _, extension = file.partition(".")
        image_format = {"jpg": "jpeg"}.get(extension, extension)
        self._row(
            object_table,
            bucket=self.bucket.name,
            key=key,
            source_sha256=sha,
            recipe=recipe,
            variant=variant if recipe else "original",
            format=image_format,
            mime="image/jpeg",
            bytes=len(data),
            checksum=sha256_hex(data),
            etag=self.random.choice([None, hashlib.md5(data, usedforsecurity=False).hexdigest()]),
            made_at=utc_now(),
            uploaded_at=utc_now(),
            verified_at=utc_now(),
        )
        if not there:
            self.store.remove(key)
        return key

    def photo(self, state: PhotoState, *, recipe: str | None, row_key: str, source: str, sha: str) -> int:
        number = self.number()
        self._row(
            photo_table,
            id=number,
            reference_id=hashlib.sha256(str(number).encode()).hexdigest(),
            source=source,
            row_id=row_id(source, row_key),
            row_key=row_key,
            field="original_url",
            column="original_url",
            role="primary",
            root="uploads",
            path=f"items/{number}.jpg",
            value=f"/uploads/items/{number}.jpg",
            recipe=recipe,
            size=10,
            mtime_ns=1,
            inode=1,
            sha256=sha,
            format="JPEG",
            batch="batch-000001",
            state=state,
            scan="s",
            updated_at=utc_now(),
            **{"class": "matched"},
        )
        return number

    def item(self, url: str | None) -> str:
        """A row of the application; return its key as the catalog has it."""
        identity = f"item-{self.number()}"
        self.cells.append(("item_photos", {"id": identity, "original_url": url, "display_order": 0}))
        return encode_key([identity])

    def post(self, body: str) -> str:
        identity = self.number()
        self.cells.append(("posts", {"id": identity, "body": body}))
        return encode_key([identity])

    def note(self, body: str) -> None:
        column = self.random.choice(["body", "raw"])
        value = body if column == "body" else body.encode()
        self.cells.append(("notes", {"id": self.number(), column: value}))

    def rewritten(
        self, photo: int, row_key: str, before: str, after: str, *, source: str = "item_photos"
    ) -> None:
        number = self.number()
        self._row(
            rewrite_table,
            id=number,
            batch="batch-000001",
            photo_id=photo,
            source=source,
            row_id=row_id(source, row_key),
            row_key=row_key,
            column="original_url",
            before=before,
            before_type="text",
            after=after,
            after_type="text",
            run="r",
            outcome="applied",
        )
        self._row(rewrite_photo_table, rewrite_id=number, photo_id=photo)

    def family(self, sha: str, recipe: str, **options: Any) -> list[str]:
        return [self.object(sha, recipe, file, **options) for file in FILES]

    def migrated(self) -> tuple[str, list[str], str]:
        """A settled photo with all that belongs to it; return its content, its objects and its row."""
        sha, recipe = self.sha("migrated"), self.random.choice([self.recipe, EARLIER_RECIPE])
        keys = [*self.family(sha, recipe), self.object(sha, "", "original.jpg")]
        shown = self.url(self.key(sha, recipe, self.random.choice(["full.jpg", "full.auto"])))
        row = self.item(self.random.choice([shown, shown, None]))
        photo = self.photo(
            self.random.choice(SETTLED), recipe=recipe, row_key=row, source="item_photos", sha=sha
        )
        if self.random.random() < 0.7:
            self.rewritten(photo, row, f"/uploads/items/{photo}.jpg", shown)
        return sha, keys, row

    def write(self) -> None:
        """Bring everything into the database."""
        with self.project.database.write() as connection:
            for table, rows in self.rows.items():
                for row in rows:
                    connection.execute(sa.insert(table).values(**row))
            for name, values in self.cells:
                table = sa.table(name, *(sa.column(column) for column in values))
                connection.execute(sa.insert(table).values(**values))

    def _row(self, table: sa.Table, **values: Any) -> None:
        self.rows.setdefault(table, []).append(values)

    def _present_recipe(self) -> str:
        naming = ObjectNaming(self.config, self.project.database, keep_recipes=False)
        nothing: dict[str, Any] = dict.fromkeys(Photo.__dataclass_fields__)
        return naming.recipe_digest(Photo(**nothing | {"source": "item_photos", "state": "pending"}))

    def rows_of_objects(self) -> dict[str, dict[str, Any]]:
        return {row["key"]: row for row in self.rows.get(object_table, [])}

    def rows_of_photos(self) -> list[dict[str, Any]]:
        return self.rows.get(photo_table, [])

    def rows_of_rewrites(self) -> list[dict[str, Any]]:
        return self.rows.get(rewrite_table, [])

    def family_left(self, sha: str) -> list[str]:
        return [row["key"] for row in self.rows.get(object_table, []) if row["source_sha256"] == sha]
