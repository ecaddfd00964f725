"""The demo's database: what its rows name, in which spelling, and that the same photos give the same rows."""

import os
import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.sources.suggest import suggest_mapping
from photo_pipeline.demo.application import (
    ItemPhotoRow,
    demo_configuration,
    item_photo_rows,
    make_application,
    make_application_from_folder,
)
from photo_pipeline.demo.photos import DemoPhoto, DemoPhotos

# The database reads names, never pixels, so nothing has to be painted here.
NFC_NAME = unicodedata.normalize("NFC", "items/café table.jpg")
NFD_NAME = unicodedata.normalize("NFD", "items/rosé vase.jpg")


def _photo(path: str, thumbnail: str | None = None) -> DemoPhoto:
    return DemoPhoto(
        path=path,
        scene="alps",
        mime_type="image/jpeg",
        width=1200,
        height=800,
        size_bytes=1000 + len(path),
        orientation=1,
        has_exif=True,
        has_gps=True,
        thumbnail=thumbnail,
    )


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> DemoPhotos:
    items = [
        _photo("items/sunset sea.jpg", "items/thumbs/sunset sea.jpg"),
        _photo(NFC_NAME),
        _photo(NFD_NAME),
    ]
    items += [_photo("items/100% wool scarf.jpg"), _photo("items/sale%20flower.jpg")]
    items += [_photo(f"items/plain-{number}.jpg") for number in range(6)]
    made = DemoPhotos(
        uploads=tmp_path_factory.mktemp("app") / "uploads",
        items=tuple(items),
        properties=tuple(_photo(f"properties/{name}.jpg") for name in ("12-front", "12-hall", "14-front")),
        avatars=tuple(_photo(f"avatars/{name}.jpg") for name in ("anna", "ben", "default")),
        duplicates=(("items/IMG_0001 (1).jpg", "items/sunset sea.jpg"),),
        mislabelled="items/screenshot.jpg",
        corrupt="items/cut-off.jpg",
        not_an_image="items/logo.jpg",
        empty="items/empty.jpg",
        missing="items/deleted-last-year.jpg",
        unreferenced=("items/forgotten draft.jpg",),
    )
    for path in made.on_disk:
        (made.uploads / path).parent.mkdir(parents=True, exist_ok=True)
        (made.uploads / path).write_bytes(path.encode())
    return made


@pytest.fixture
def application(photos: DemoPhotos, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    make_application(tmp_path / "shop.db", photos)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        yield connection


def _resolved(row: ItemPhotoRow, photos: DemoPhotos) -> str | None:
    """A second opinion on what a spelling means, written from PRODUCT A2 alone."""
    url = (row.original_url or "").replace("\\", "/").replace("https://shop.example", "")
    if not url or urlsplit(url).netloc:
        return None
    url = url.removeprefix(str(photos.uploads)).split("?")[0]
    path = url.removeprefix("/").removeprefix("uploads/")
    files = {*photos.on_disk, photos.missing}
    by_form = {unicodedata.normalize("NFC", name): name for name in files}
    candidates = [path, unquote(path)]
    return next((by_form[n] for c in candidates if (n := unicodedata.normalize("NFC", c)) in by_form), None)


def _row(photos: DemoPhotos, spelling: str) -> ItemPhotoRow:
    (row,) = [row for row in item_photo_rows(photos) if row.spelling == spelling]
    return row


def test_every_row_points_where_it_says(photos: DemoPhotos) -> None:
    for row in item_photo_rows(photos):
        assert _resolved(row, photos) == row.points_to, row.spelling


def test_every_file_but_the_unreferenced_is_named_by_a_row(photos: DemoPhotos) -> None:
    rows = item_photo_rows(photos)
    named = {row.points_to for row in rows} | {photo.path for photo in photos.properties + photos.avatars}
    thumbnails = {photo.thumbnail for photo in photos.items if photo.thumbnail}
    assert set(photos.on_disk) - named - thumbnails == set(photos.unreferenced)


def test_rows_spell_paths_in_every_way_that_applications_do(photos: DemoPhotos) -> None:
    spellings = {row.spelling for row in item_photo_rows(photos)}
    assert spellings >= {
        "from the root", "relative", "URL of the old host", "backslashes", "absolute path", "with a query",
        "percent-encoded", "NFD, on disk NFC", "NFC, on disk NFD", "a bare percent sign",
    }  # fmt: skip


def test_spellings_look_as_their_labels_say(photos: DemoPhotos) -> None:
    assert _row(photos, "percent-encoded").original_url == "/uploads/items/sunset%20sea.jpg"
    assert _row(photos, "percent-encoded percent sign").original_url == "/uploads/items/sale%2520flower.jpg"
    assert _row(photos, "a bare percent sign").original_url == "/uploads/items/100% wool scarf.jpg"
    assert _row(photos, "absolute path").original_url == str(photos.uploads / "items/plain-5.jpg")
    assert str(_row(photos, "with a query").original_url).endswith(".jpg?v=3")
    assert str(_row(photos, "backslashes").original_url).startswith("\\uploads\\items\\")


@pytest.mark.parametrize(("spelling", "form"), [("NFD, on disk NFC", "NFD"), ("NFC, on disk NFD", "NFC")])
def test_a_url_and_its_file_differ_in_unicode_form(
    photos: DemoPhotos, spelling: str, form: Literal["NFC", "NFD"]
) -> None:
    row = _row(photos, spelling)
    assert row.original_url is not None
    assert unicodedata.normalize(form, row.original_url) == row.original_url
    assert row.original_url != f"/uploads/{row.points_to}"


def test_the_wrong_rows_are_all_there(photos: DemoPhotos) -> None:
    assert _row(photos, "NULL").original_url is None
    assert _row(photos, "empty string").original_url == ""
    assert _row(photos, "foreign URL").original_url == "https://elsewhere.example/pic.jpg"
    assert _row(photos, "outside the root").original_url == "/uploads/../../etc/passwd"
    for spelling, path in [
        ("missing file", photos.missing),
        ("empty file", photos.empty),
        ("corrupt", photos.corrupt),
        ("not an image", photos.not_an_image),
        ("PNG called .jpg", photos.mislabelled),
    ]:
        assert _row(photos, spelling).points_to == path


def test_the_table_holds_the_rows(photos: DemoPhotos, application: sqlite3.Connection) -> None:
    stored = application.execute("SELECT id, original_url, thumbnail_url FROM item_photos ORDER BY rowid")
    expected = [(row.id, row.original_url, row.thumbnail_url) for row in item_photo_rows(photos)]
    assert stored.fetchall() == expected
    assert application.execute("PRAGMA foreign_key_check").fetchall() == []


def test_each_item_has_one_primary_photo(application: sqlite3.Connection) -> None:
    primaries = application.execute("SELECT sum(is_primary) FROM item_photos GROUP BY item_id").fetchall()
    items = application.execute("SELECT count(*) FROM items").fetchone()[0]
    assert primaries == [(1,)] * items


def test_property_images_have_a_composite_key_and_paths_below_the_uploads_folder(
    photos: DemoPhotos, application: sqlite3.Connection
) -> None:
    rows = application.execute("SELECT property_id, slot, path FROM property_images").fetchall()
    assert rows == [
        (12, 1, "properties/12-front.jpg"),
        (12, 2, "properties/12-hall.jpg"),
        (14, 1, "properties/14-front.jpg"),
    ]
    assert all((photos.uploads / path).is_file() for *_, path in rows)


def test_users_have_a_mixed_case_column_and_share_the_default_avatar(application: sqlite3.Connection) -> None:
    columns = [row[1] for row in application.execute("PRAGMA table_info(users)")]
    assert columns == ["id", "name", "avatar_url", "updatedAt"]
    avatars = [url for (url,) in application.execute("SELECT avatar_url FROM users ORDER BY id")]
    assert avatars.count("/uploads/avatars/default.jpg") == 2
    assert avatars[-1] is None


def test_the_same_photos_give_the_same_database(photos: DemoPhotos, tmp_path: Path) -> None:
    dumps = []
    for name in ("first.db", "second.db"):
        make_application(tmp_path / name, photos)
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            dumps.append(list(connection.iterdump()))
    assert dumps[0] == dumps[1]


def test_an_existing_database_is_never_overwritten(photos: DemoPhotos, tmp_path: Path) -> None:
    database = tmp_path / "precious.db"
    database.write_bytes(b"not ours")
    with pytest.raises(GuardRefusedError, match="there is a database already"):
        make_application(database, photos)
    assert database.read_bytes() == b"not ours"


@pytest.fixture
def holiday(tmp_path: Path) -> Path:
    folder = tmp_path / "holiday"
    for path in ("b/é 50%.jpg", "a.txt", "b/c/sea.HEIC", ".hidden/x.jpg", "b/.DS_Store"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    return folder


def test_a_folder_gets_a_row_for_every_file_but_the_hidden_ones(holiday: Path, tmp_path: Path) -> None:
    assert make_application_from_folder(tmp_path / "own.db", holiday) == 3
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        urls = [url for (url,) in connection.execute("SELECT original_url FROM item_photos ORDER BY item_id")]
        titles = [title for (title,) in connection.execute("SELECT title FROM items ORDER BY id")]
    assert urls == ["/uploads/a.txt", "/uploads/b/c/sea.HEIC", "/uploads/b/%C3%A9%2050%25.jpg"]
    assert titles == ["a", "sea", "é 50%"]


def test_a_name_that_is_no_valid_unicode_gets_a_row_too(tmp_path: Path) -> None:
    folder = tmp_path / "old disk"
    folder.mkdir()
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes valid Unicode names only")
    assert make_application_from_folder(tmp_path / "own.db", folder) == 1
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        assert connection.execute("SELECT original_url FROM item_photos").fetchone() == (
            "/uploads/caf%E9.jpg",
        )


def test_the_users_folder_is_never_written_to(holiday: Path, tmp_path: Path) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in [holiday, *holiday.rglob("*")])
    make_application_from_folder(tmp_path / "own.db", holiday)
    with pytest.raises(GuardRefusedError, match="only read"):
        make_application_from_folder(holiday / "own.db", holiday)
    assert sorted((p, p.stat().st_mtime_ns) for p in [holiday, *holiday.rglob("*")]) == before


def _configuration(tmp_path: Path, *, from_folder: bool) -> dict[str, Any]:
    return demo_configuration(
        uploads=tmp_path,
        store_endpoint="http://127.0.0.1:5000",
        bucket="demo",
        cdn_base_url="http://127.0.0.1:5001",
        staging_dir=tmp_path / "staging",
        batch_size=10,
        from_folder=from_folder,
    )


def test_the_configuration_survives_yaml_and_names_columns_that_exist(
    tmp_path: Path, application: sqlite3.Connection
) -> None:
    configuration = yaml.safe_load(yaml.safe_dump(_configuration(tmp_path, from_folder=False)))
    assert configuration == _configuration(tmp_path, from_folder=False)
    for source in configuration["sources"]:
        columns = {row[1] for row in application.execute(f"PRAGMA table_info({source['table']})")}
        rewrite = source["rewrite"]
        named = {*source["key"], source["entity"]["id"], *(field["column"] for field in source["fields"])}
        assert named | {*rewrite.get("write_back", {}), *rewrite.get("touch", [])} <= columns


def test_the_configuration_of_a_folder_has_item_photos_only(tmp_path: Path) -> None:
    full, own = (_configuration(tmp_path, from_folder=flag)["sources"] for flag in (False, True))
    assert [source["name"] for source in full] == ["item_photos", "property_images", "users"]
    assert [source["name"] for source in own] == ["item_photos"]


def test_mapping_suggest_finds_the_columns_that_the_demo_declares(
    application: sqlite3.Connection, photos: DemoPhotos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = demo_configuration(
        uploads=photos.uploads,
        store_endpoint="http://127.0.0.1:1",
        bucket="b",
        cdn_base_url="http://127.0.0.1:2",
        staging_dir=tmp_path / "staging",
        batch_size=10,
    )
    config = PipelineConfig.model_validate(declared)
    with closing(Database.open(f"sqlite:///{tmp_path / 'shop.db'}")) as database:
        proposed = yaml.safe_load(suggest_mapping(database, config).text)["sources"]

    def columns(sources: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
        return {(each["table"], f["column"], f["kind"]) for each in sources for f in each["fields"]}

    def keys(sources: list[dict[str, Any]]) -> dict[str, list[str]]:
        return {each["table"]: each["key"] for each in sources}

    assert columns(proposed) == columns(declared["sources"])
    assert keys(proposed) == keys(declared["sources"])
