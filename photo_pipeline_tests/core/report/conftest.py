"""A small application, really migrated: eight photos with every kind of trouble, through the embedded S3."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from photo_pipeline.core.catalog.batches import assign_batches
from photo_pipeline.core.catalog.checksums import hash_matched_files
from photo_pipeline.core.catalog.inventory import take_inventory
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.run import migrate_batch, new_run_id, roll_back_batch
from photo_pipeline.core.project import Project
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import embedded_credentials

HOSTILE_NAME = "<script>alert('1')<\\script>\"&.jpg"
HOSTILE_VALUE = '/uploads/"><img src=x onerror=alert(2)>.jpg'
FORMULA_VALUE = '=HYPERLINK("http://evil.example")'

_CONFIGURATION = """
version: 1
database: {env: REPORT_TEST_DATABASE_URL}
sources:
  - name: photos
    table: photos
    key: [id]
    fields:
      - {kind: url, column: url, root: uploads, role: primary, variant: full}
      - {kind: url, column: thumb, root: uploads, role: variant, variant: thumb}
    rewrite: {mode: url, format: jpeg}
  - name: avatars
    table: avatars
    key: [id]
    fields: [{kind: path, column: path, root: uploads, role: primary, variant: thumb}]
    rewrite: {mode: key, format: webp}
variants:
  default:
    full: {fit: inside, width: 160, height: 160, max_bytes: 8 KB}
    thumb: {fit: cover, width: 64, height: 64}
batches: {size: 4}
workers: {processes: 2}
quality: {sample: 1.0}
"""


@dataclass(frozen=True)
class Application:
    """A folder with an application that can be opened as a project."""

    folder: Path

    def open(self) -> Project:
        return Project.load(self.folder / "photo_pipeline.yaml")

    def copy(self, folder: Path) -> "Application":
        """Return a copy whose configuration still names the original folder's photos and servers."""
        folder.mkdir()
        for name in ("app.db", "photo_pipeline.yaml"):
            shutil.copy(self.folder / name, folder / name)
        return Application(folder)


def inventory(project: Project) -> tuple[str, ...]:
    take_inventory(project.database, project.config)
    hash_matched_files(project.database, project.config)
    return assign_batches(project.database, project.config).keys


def migrate(project: Project) -> None:
    for batch in inventory(project):
        migrate_batch(project, batch, run=new_run_id())


def roll_back(project: Project) -> None:
    for batch in assign_batches(project.database, project.config).keys:
        roll_back_batch(project, batch, run=new_run_id())


def moved(config: PipelineConfig, *, cdn: str | None = None, uploads: Path | None = None) -> PipelineConfig:
    """Return the configuration with another CDN URL or uploads folder."""
    changes: dict[str, Any] = {}
    if cdn:
        changes["cdn"] = config.cdn.model_copy(update={"base_url": cdn})
    if uploads:
        changes["roots"] = (config.roots[0].model_copy(update={"dir": uploads}),)
    return config.model_copy(update=changes)


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory, servers: RunningServers) -> Application:
    """The application before anything happened."""
    folder = tmp_path_factory.mktemp("report-app")
    _make_photos(folder / "uploads")
    _make_database(folder / "app.db")
    document = yaml.safe_load(_CONFIGURATION) | {
        "roots": [{"name": "uploads", "dir": str(folder / "uploads"), "url_prefixes": ["/uploads/"]}],
        "store": {
            "bucket": servers.bucket,
            "endpoint_url": servers.s3_url,
            "prefix": "report/photos",
            "originals_prefix": "originals/report",
            "encryption": None,
        },
        "cdn": {"base_url": servers.cdn_url},
    }
    (folder / "photo_pipeline.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return Application(folder)


@pytest.fixture(scope="session")
def migrated_once(untouched: Application, tmp_path_factory: pytest.TempPathFactory) -> Application:
    application = untouched.copy(tmp_path_factory.mktemp("report-migrated") / "app")
    with pytest.MonkeyPatch.context() as patch, _environment(application, patch).open() as project:
        migrate(project)
    return application


@pytest.fixture
def fresh(untouched: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """An application of which no inventory was taken."""
    with _environment(untouched.copy(tmp_path / "app"), monkeypatch).open() as project:
        yield project


@pytest.fixture
def migrated(
    migrated_once: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """The migrated application; a copy, so that a test may change its rows."""
    with _environment(migrated_once.copy(tmp_path / "app"), monkeypatch).open() as project:
        yield project


def _environment(application: Application, patch: pytest.MonkeyPatch) -> Application:
    patch.setenv("REPORT_TEST_DATABASE_URL", f"sqlite:///{application.folder / 'app.db'}")
    embedded_credentials(patch)
    return application


def _make_photos(uploads: Path) -> None:
    uploads.mkdir()
    for number in range(4):
        picture = Image.effect_noise((320, 240), 60 + number).convert("RGB")
        picture.save(uploads / f"{number}.jpg", quality=92)
    Image.linear_gradient("L").resize((250, 350)).convert("RGB").save(uploads / HOSTILE_NAME, "JPEG")
    Image.new("RGB", (90, 90), "teal").save(uploads / "thumb-0.jpg")
    shutil.copy(uploads / "1.jpg", uploads / "copy-of-1.jpg")
    whole = (uploads / "2.jpg").read_bytes()
    (uploads / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (uploads / "empty.jpg").touch()
    (uploads / "note.jpg").write_text("no photo")
    (uploads / "forgotten.jpg").write_bytes(whole)


def _make_database(path: Path) -> None:
    photos = [
        ("/uploads/0.jpg", "/uploads/thumb-0.jpg"),
        *((f"/uploads/{name}", None) for name in ("1.jpg", "copy-of-1.jpg", "2.jpg", "cut.jpg", "empty.jpg")),
        *((value, None) for value in ("/uploads/note.jpg", "/uploads/../../x.jpg", HOSTILE_VALUE)),
        (FORMULA_VALUE, None),
        (None, ""),
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE photos (id INTEGER PRIMARY KEY, url TEXT, thumb TEXT)")
        connection.execute("CREATE TABLE avatars (id TEXT PRIMARY KEY, path TEXT)")
        connection.executemany("INSERT INTO photos (url, thumb) VALUES (?, ?)", photos)
        avatars = [("<b>anna", "3.jpg"), ("ben", HOSTILE_NAME)]
        connection.executemany("INSERT INTO avatars VALUES (?, ?)", avatars)
