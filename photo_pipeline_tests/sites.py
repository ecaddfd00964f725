"""Small applications with photos, built for one test each."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
import yaml
from PIL import Image

from photo_pipeline.core.catalog.batches import Batches, assign_batches
from photo_pipeline.core.catalog.checksums import hash_matched_files
from photo_pipeline.core.catalog.inventory import Inventory, take_inventory
from photo_pipeline.core.migration.rollback import RolledBack
from photo_pipeline.core.migration.run import MigratedBatch, migrate_batch, new_run_id, roll_back_batch
from photo_pipeline.core.migration.selection import batches_to_migrate, batches_to_roll_back
from photo_pipeline.core.project import Project
from photo_pipeline.demo.servers import RunningServers

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

ITEM_PHOTOS: dict[str, Any] = {
    "name": "item_photos",
    "table": "item_photos",
    "key": ["id"],
    "entity": {"type": "item", "id": "item_id"},
    "position": "display_order",
    "fields": [
        {"kind": "url", "column": "original_url", "root": "uploads", "role": "primary", "variant": "full"},
        {"kind": "url", "column": "thumbnail_url", "root": "uploads", "role": "variant", "variant": "thumb"},
    ],
    "rewrite": {
        "mode": "url",
        "format": "jpeg",
        "write_back": {"file_size": "bytes", "mime_type": "mime", "width": "width", "height": "height"},
        "touch": ["updated_at"],
    },
}


# Most of a small migration's time goes into encoding: just large enough for a thumbnail of 150 px.
WIDTH, HEIGHT = 208, 156

# For photos that must be larger, where nobody looks at what is made of them.
TINY_VARIANTS: dict[str, Any] = {
    "default": {
        "full": {"fit": "inside", "width": 64, "height": 64},
        "thumb": {"fit": "cover", "width": 32, "height": 32},
    }
}


def photo(path: Path, *, width: int = WIDTH, height: int = HEIGHT, seed: int = 0, **save: Any) -> Path:
    """Write a small picture that compresses like a photograph (gradient plus grain)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    ramp = np.linspace(30, 220, width)[None, :, None] + np.linspace(-20, 20, height)[:, None, None]
    tint = np.array([1.0, 0.8 + 0.02 * (seed % 10), 0.6])
    pixels = np.clip(ramp * tint + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, **save)
    return path


@dataclass
class Site:
    """An application: folder of uploads, database, configuration."""

    home: Path
    url: str
    uploads: Path
    config_path: Path
    settings: dict[str, Any]
    name: str
    application: sa.Table = field(repr=False)

    def project(self) -> Project:
        """Open the project; use it as a context manager."""
        return Project.load(self.config_path)

    def configure(self, **changes: Any) -> None:
        """Replace top-level settings and write the configuration file anew."""
        self.settings |= changes
        text = yaml.dump(self.settings, Dumper=_DUMPER, sort_keys=False)
        self.config_path.write_text(text, encoding="utf-8")

    def engine(self) -> sa.Engine:
        """A plain engine, as the application itself would use."""
        return sa.create_engine(self.url)

    def execute(self, statement: str, **parameters: Any) -> list[Any]:
        """Run SQL as the application would; return the rows, if there are any."""
        engine = self.engine()
        with engine.begin() as connection:
            result = connection.execute(sa.text(statement), parameters)
            rows = list(result) if result.returns_rows else []
        engine.dispose()
        return rows

    def dump(self) -> list[str]:
        """Every application row with every value and its exact form, as text; no pp_ tables."""
        engine = self.engine()
        inspector = sa.inspect(engine)
        lines: list[str] = []
        with engine.connect() as connection:
            for table in sorted(inspector.get_table_names()):
                if not table.startswith("pp_"):
                    rows = connection.execute(sa.text(f'SELECT * FROM "{table}"'))
                    lines += sorted(f"{table} {tuple(row)!r}" for row in rows)
        engine.dispose()
        return lines

    def inventory(self, project: Project) -> tuple[Inventory, Batches]:
        """Inventory, checksums and batches, as `migrate` does them first."""
        inventory = take_inventory(project.database, project.config)
        hash_matched_files(project.database, project.config)
        return inventory, assign_batches(project.database, project.config)

    def migrate(self, **options: Any) -> list[MigratedBatch]:
        """The whole migration: inventory and every open batch."""
        with self.project() as project:
            self.inventory(project)
            keys = batches_to_migrate(project.database, retry_failed=options.get("retry_failed", False))
            return [migrate_batch(project, key, run=new_run_id(), **options) for key in keys]

    def roll_back(self) -> list[RolledBack]:
        """Take everything back."""
        with self.project() as project:
            keys = batches_to_roll_back(project.database)
            return [roll_back_batch(project, key, run=new_run_id()) for key in keys]

    def states(self) -> dict[str, int]:
        """Photos by state."""
        rows = self.execute("SELECT state, COUNT(*) FROM pp_photo WHERE source IS NOT NULL GROUP BY state")
        return {row[0]: row[1] for row in rows}

    def puts(self, access_log: Path) -> list[str]:
        """Keys of this site's photos that were stored by successful PUTs, from the server's own log."""
        lines = [json.loads(line) for line in access_log.read_text(encoding="utf-8").splitlines()]
        return [
            line["path"]
            for line in lines
            if line["method"] == "PUT"
            and line["status"] == 200
            and f"/{self.name}/" in line["path"]
            and "/.probe/" not in line["path"]
        ]


def build_site(
    home: Path,
    *,
    url: str,
    servers: RunningServers,
    name: str,
    photos: int = 4,
    rows: Sequence[dict[str, Any]] | None = None,
    sources: Sequence[dict[str, Any]] = (ITEM_PHOTOS,),
    batch_size: int = 100,
    **settings: Any,
) -> Site:
    """Build a site with `photos` small photos and a row for each, or with exactly `rows`."""
    uploads = home / "uploads"
    uploads.mkdir(parents=True, exist_ok=True)
    for number in range(photos):
        photo(uploads / f"items/{number}.jpg", seed=number)
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).touch()
    table = _application_table()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        table.metadata.create_all(connection)
        filled = (
            rows if rows is not None else [item_photo(n, f"/uploads/items/{n}.jpg") for n in range(photos)]
        )
        if filled:
            connection.execute(sa.insert(table), list(filled))
    engine.dispose()
    document = {
        "version": 1,
        "database": {"env": "APP_DATABASE_URL"},
        "roots": [
            {
                "name": "uploads",
                "dir": str(uploads),
                "url_prefixes": ["/uploads/", "https://shop.example/uploads/"],
            }
        ],
        "sources": copy.deepcopy(list(sources)),
        "store": {
            "bucket": servers.bucket,
            "region": "us-east-1",
            "endpoint_url": servers.s3_url,
            "prefix": f"{name}/photos",
            "originals_prefix": f"originals/{name}",
            "encryption": None,
        },
        "cdn": {"base_url": servers.cdn_url},
        "batches": {"size": batch_size},
        "workers": {"processes": 2},
        # Measuring takes 2 s of CPU per batch; the tests of it switch it on.
        "quality": {"sample": 0},
        "state": {
            "staging_dir": str(home / "staging"),
            "report_dir": str(home / "reports"),
            "backup_dir": str(home / "backups"),
        },
    } | settings
    site = Site(home, url, uploads, home / "photo_pipeline.yaml", document, name, table)
    site.configure()
    return site


def item_photo(number: int, original_url: str | None, thumbnail_url: str | None = None) -> dict[str, Any]:
    """One row of the application's table."""
    return {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "item_id": number // 2,
        "original_url": original_url,
        "thumbnail_url": thumbnail_url,
        "display_order": number % 2,
        "file_size": None,
        "mime_type": None,
        "width": None,
        "height": None,
        "alt": f"photo {number}",
        "updated_at": "2024-05-01 10:00:00",
    }


def _application_table() -> sa.Table:
    return sa.Table(
        "item_photos",
        sa.MetaData(),
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("item_id", sa.Integer),
        sa.Column("original_url", sa.Text),
        sa.Column("thumbnail_url", sa.Text),
        sa.Column("display_order", sa.Integer),
        sa.Column("file_size", sa.Integer),
        sa.Column("mime_type", sa.String(64)),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("alt", sa.Text),
        sa.Column("updated_at", sa.String(40)),
    )
