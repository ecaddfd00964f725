"""The demo web application: its SQLite database, and the configuration that maps it for the pipeline.

Its rows spell paths in every way that real applications do, and some are wrong. The files they name are made
in `photos`; what the pipeline makes of either is no business of this module.
"""

import os
import sqlite3
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import yaml

from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.demo.photos import DemoPhoto, DemoPhotos

_HOST: Final = "https://shop.example"
_UPDATED_AT: Final = "2025-03-01 12:00:00"
_PHOTOS_PER_ITEM: Final = 3
_IDS: Final = uuid.UUID("6f0d0f8e-5b0a-4d0e-9a53-3c6f5d7c2a10")

_SCHEMA: Final = """
CREATE TABLE items (
    id INTEGER PRIMARY KEY, title TEXT NOT NULL, price NUMERIC(10, 2), created_at TEXT NOT NULL
);
CREATE TABLE item_photos (
    id TEXT PRIMARY KEY, item_id INTEGER NOT NULL REFERENCES items (id), original_url TEXT,
    thumbnail_url TEXT,
    display_order INTEGER NOT NULL, is_primary INTEGER NOT NULL, file_size INTEGER, mime_type TEXT,
    width INTEGER, height INTEGER, alt TEXT, updated_at TEXT NOT NULL
);
"""
_MORE_TABLES: Final = """
CREATE TABLE property_images (
    property_id INTEGER NOT NULL, slot INTEGER NOT NULL, path TEXT NOT NULL, PRIMARY KEY (property_id, slot)
);
CREATE TABLE users (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, avatar_url VARCHAR(255), "updatedAt" TEXT NOT NULL
);
"""

_MAPPING: Final = """
sources:
  - name: item_photos
    table: item_photos
    key: [id]
    entity: {type: item, id: item_id}
    position: display_order
    where: [{column: original_url, op: not_null}]
    preset: default
    fields:
      - {kind: url, column: original_url, root: uploads, role: primary, variant: full}
      - {kind: url, column: thumbnail_url, root: uploads, role: variant, variant: thumb}
    rewrite:
      mode: url
      format: jpeg
      write_back: {file_size: bytes, mime_type: mime, width: width, height: height}
      touch: [updated_at]
  - name: property_images
    table: property_images
    key: [property_id, slot]
    entity: {type: property, id: property_id}
    position: slot
    preset: default
    fields:
      - {kind: path, column: path, root: uploads, role: primary, variant: full}
    rewrite: {mode: key, format: webp}
  - name: users
    table: users
    key: [id]
    entity: {type: user, id: id}
    preset: default
    fields:
      - {kind: url, column: avatar_url, root: uploads, role: primary, variant: thumb}
    rewrite: {mode: url, format: auto, touch: [updatedAt]}
variants:
  default:
    full: {fit: inside, width: 1200, height: 1200, max_bytes: 100 KB}
    thumb: {fit: cover, width: 150, height: 150}
"""


@dataclass(frozen=True)
class ItemPhotoRow:
    """One row of `item_photos`, and what it means.

    Attributes:
        id: Primary key, a UUID in text form.
        item_id: The item it shows.
        original_url: As the application spells it; None for NULL.
        thumbnail_url: As the application spells it; None for NULL.
        display_order: Position among the item's photos, from 0.
        photo: What the application recorded of the file; None where it recorded nothing.
        spelling: How `original_url` is spelt, or what is wrong with it, in a few words.
        points_to: The file it names, relative to the uploads folder and exactly as on disk (the missing
            file included); None where it names none of ours.
    """

    id: str
    item_id: int
    original_url: str | None
    thumbnail_url: str | None
    display_order: int
    photo: DemoPhoto | None
    spelling: str
    points_to: str | None


def _other_unicode_form(uploads: Path, path: str) -> str:
    other: Literal["NFC", "NFD"] = "NFC" if unicodedata.is_normalized("NFD", path) else "NFD"
    return f"/uploads/{unicodedata.normalize(other, path)}"


# A label and what makes the URL of (uploads folder, path). The items' photos take turns.
_Spelling = tuple[str, Callable[[Path, str], str]]
_TURNS: Final[tuple[_Spelling, ...]] = (
    ("from the root", lambda uploads, path: f"/uploads/{path}"),
    ("relative", lambda uploads, path: f"uploads/{path}"),
    ("URL of the old host", lambda uploads, path: f"{_HOST}/uploads/{quote(path)}"),
    ("backslashes", lambda uploads, path: "\\uploads\\" + path.replace("/", "\\")),
    ("absolute path", lambda uploads, path: str(uploads / path)),
    ("with a query", lambda uploads, path: f"/uploads/{quote(path)}?v=3"),
)
# Files whose names are the reason for one spelling; the names here are in NFC.
_BY_NAME: Final[dict[str, _Spelling]] = {
    "sunset sea.jpg": ("percent-encoded", lambda uploads, path: f"/uploads/{quote(path)}"),
    "café table.jpg": ("NFD, on disk NFC", _other_unicode_form),
    "rosé vase.jpg": ("NFC, on disk NFD", _other_unicode_form),
    "100% wool scarf.jpg": ("a bare percent sign", lambda uploads, path: f"/uploads/{path}"),
    "sale%20flower.jpg": ("percent-encoded percent sign", lambda uploads, path: f"/uploads/{quote(path)}"),
}
_TITLES: Final = ("Lakeside print", "Ceramics and wool", "Garden flowers", "City posters", "Sky studies",
                  "Stoneware", "Evening lights", "Odds and ends", "Clearance", "Returned goods")  # fmt: skip


def item_photo_rows(photos: DemoPhotos) -> tuple[ItemPhotoRow, ...]:
    """The rows of `item_photos`, good ones first, with what each of them means."""
    named = [(*_spelt(photos, photo, number), photo) for number, photo in enumerate(photos.items)]
    rows: list[tuple[str, str | None, str | None, DemoPhoto | None]] = list(named)
    rows += [("copy of another file", f"/uploads/{copy}", copy, None) for copy, _ in photos.duplicates]
    rows += [(spelling, url, path, None) for spelling, url, path in _wrong(photos)]
    return tuple(
        ItemPhotoRow(
            id=str(uuid.uuid5(_IDS, f"item_photos/{number}")),
            item_id=number // _PHOTOS_PER_ITEM + 1,
            original_url=url,
            thumbnail_url=f"/uploads/{quote(photo.thumbnail)}" if photo and photo.thumbnail else None,
            display_order=number % _PHOTOS_PER_ITEM,
            photo=photo,
            spelling=spelling,
            points_to=points_to,
        )
        for number, (spelling, url, points_to, photo) in enumerate(rows)
    )


def _spelt(photos: DemoPhotos, photo: DemoPhoto, number: int) -> tuple[str, str, str]:
    name = unicodedata.normalize("NFC", Path(photo.path).name)
    label, spell = _BY_NAME.get(name, _TURNS[number % len(_TURNS)])
    return label, spell(photos.uploads, photo.path), photo.path


def _wrong(photos: DemoPhotos) -> list[tuple[str, str | None, str | None]]:
    """Spelling, URL and file of the rows that are trouble, each for its own reason."""
    files = {
        "PNG called .jpg": photos.mislabelled,
        "corrupt": photos.corrupt,
        "not an image": photos.not_an_image,
        "empty file": photos.empty,
        "missing file": photos.missing,
    }
    return [
        *((what, f"/uploads/{path}", path) for what, path in files.items()),
        ("outside the root", "/uploads/../../etc/passwd", None),
        ("foreign URL", "https://elsewhere.example/pic.jpg", None),
        ("empty string", "", None),
        ("NULL", None, None),
    ]


def make_application(database: Path, photos: DemoPhotos) -> None:
    """Creates the demo shop's database: items, their photos, properties and users.

    The contents depend on `photos` alone.

    Args:
        database: SQLite file to create.
        photos: The files that the rows name.

    Raises:
        GuardRefusedError: `database` exists and is not empty.
    """
    rows = item_photo_rows(photos)
    with _new_database(database) as connection:
        connection.executescript(_SCHEMA + _MORE_TABLES)
        titles = {row.item_id: _TITLES[(row.item_id - 1) % len(_TITLES)] for row in rows}
        _insert_items(connection, titles)
        _insert_item_photos(connection, rows)
        slots = [_property_slot(photos, photo) for photo in photos.properties]
        connection.executemany("INSERT INTO property_images VALUES (?, ?, ?)", slots)
        connection.executemany("INSERT INTO users VALUES (?, ?, ?, ?)", _users(photos))


def _property_slot(photos: DemoPhotos, photo: DemoPhoto) -> tuple[int, int, str]:
    # "properties/12-front.jpg" shows property 12.
    property_id = int(Path(photo.path).name.split("-")[0])
    before = [p for p in photos.properties if p.path.startswith(f"properties/{property_id}-")]
    return property_id, before.index(photo) + 1, photo.path


def _users(photos: DemoPhotos) -> list[tuple[int, str, str | None, str]]:
    anna, ben, default = (f"/uploads/{photo.path}" for photo in photos.avatars)
    # Two share the default picture; one never chose any.
    avatars = {"Anna": anna, "Ben": f"{_HOST}{ben}", "Chloé": default, "Dimitri": default, "Eve": None}
    return [(number, name, url, _UPDATED_AT) for number, (name, url) in enumerate(avatars.items(), start=1)]


def make_application_from_folder(database: Path, folder: Path) -> int:
    """Creates a shop database whose item photos are the files of a folder, which is only read.

    Every file but the hidden ones gets a row, whatever its type: that some are no photos is for the
    pipeline to find out.

    Args:
        database: SQLite file to create; outside `folder`.
        folder: Folder of the user's photos, walked recursively in sorted order.

    Returns:
        How many rows `item_photos` has.

    Raises:
        GuardRefusedError: `database` exists and is not empty, or lies in `folder`.
    """
    if database.resolve().is_relative_to(folder.resolve()):
        raise GuardRefusedError(
            str(database), cause=f"it lies in {folder}, which is only read", fix="Choose another place for it"
        )
    paths = sorted(_files(folder), key=os.fsencode)
    rows = [
        ItemPhotoRow(
            id=str(uuid.uuid5(_IDS, f"folder/{number}")),
            item_id=number,
            # Bytes, because a name on disk need not be valid UTF-8.
            original_url="/uploads/" + quote(os.fsencode(path)),
            thumbnail_url=None,
            display_order=0,
            photo=None,
            spelling="percent-encoded",
            points_to=path,
        )
        for number, path in enumerate(paths, start=1)
    ]
    with _new_database(database) as connection:
        connection.executescript(_SCHEMA)
        titles = {row.item_id: os.fsencode(Path(path).stem).decode(errors="replace")
                  for row, path in zip(rows, paths, strict=True)}  # fmt: skip
        _insert_items(connection, titles)
        _insert_item_photos(connection, rows)
    return len(rows)


def _files(folder: Path) -> Iterator[str]:
    # A folder that cannot be read has no rows; the pipeline's own walk is what reports it.
    for current, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield (Path(current) / name).relative_to(folder).as_posix()


@contextmanager
def _new_database(database: Path) -> Iterator[sqlite3.Connection]:
    if database.exists() and database.stat().st_size:
        raise GuardRefusedError(
            str(database), cause="there is a database already", fix="Remove it or choose another place"
        )
    database.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(database)) as connection, connection:
        yield connection


def _insert_items(connection: sqlite3.Connection, titles: dict[int, str]) -> None:
    rows = [(item_id, title, 9.5 + 10 * (item_id % 7), _UPDATED_AT) for item_id, title in titles.items()]
    connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows)


def _insert_item_photos(connection: sqlite3.Connection, rows: Sequence[ItemPhotoRow]) -> None:
    connection.executemany(
        "INSERT INTO item_photos VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_values, rows)
    )


def _values(row: ItemPhotoRow) -> tuple[str | int | None, ...]:
    photo = row.photo
    recorded = (photo.size_bytes, photo.mime_type, photo.width, photo.height) if photo else (None,) * 4
    alt = photo.scene.capitalize() if photo else None
    order = (row.display_order, int(row.display_order == 0))
    return (row.id, row.item_id, row.original_url, row.thumbnail_url, *order, *recorded, alt, _UPDATED_AT)


def demo_configuration(
    *,
    uploads: Path,
    store_endpoint: str,
    bucket: str,
    cdn_base_url: str,
    staging_dir: Path,
    batch_size: int,
    from_folder: bool = False,
) -> dict[str, Any]:
    """The demo's configuration, ready for `yaml.safe_dump`.

    Args:
        uploads: The folder that "/uploads/" stands for: the demo's, or the user's own photos.
        store_endpoint: URL of the S3 endpoint.
        bucket: Bucket's name.
        cdn_base_url: Base of the URLs that rows are rewritten to.
        staging_dir: Where variants wait for their upload.
        batch_size: Photos per batch.
        from_folder: Whether the database was made by `make_application_from_folder`.
    """
    mapping = yaml.safe_load(_MAPPING)
    sources = [s for s in mapping["sources"] if s["name"] == "item_photos" or not from_folder]
    root = {
        "name": "uploads",
        "dir": str(uploads.resolve()),
        "url_prefixes": ["/uploads/", f"{_HOST}/uploads/"],
    }
    store = {
        "bucket": bucket,
        "region": "us-east-1",
        "endpoint_url": store_endpoint,
        "prefix": "photos",
        "originals": "keep",
        "encryption": None,
    }
    return {
        "version": 1,
        "database": {"env": "APP_DATABASE_URL"},
        "roots": [root],
        "sources": sources,
        "store": store,
        "cdn": {"base_url": cdn_base_url},
        "variants": mapping["variants"],
        "batches": {"size": batch_size},
        "state": {"staging_dir": str(staging_dir)},
    }
