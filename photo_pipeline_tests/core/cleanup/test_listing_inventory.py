"""S3 Inventory files as the listing. The reports are made here, as AWS documents them: none was at hand."""

import csv
import gzip
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from photo_pipeline.core.cleanup.listing_inventory import InventoryListing
from photo_pipeline.core.cleanup.orphans_scan import scan
from photo_pipeline.core.cleanup.orphans_workspace import Workspace
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.cleanup.scene import opened
from photo_pipeline_tests.core.migration.quick import migrated

MADE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEYS = ("photos/a b+c%.jpg", "photos/ü/é.jpg", "photos/plain.jpg")
SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag"


def report(folder: Path, rows: list[dict[str, Any]], *, kind: str = "CSV", made: datetime = MADE) -> Path:
    """Write a report of the bucket `b` as AWS lays it out; return its manifest."""
    (folder / "data").mkdir(parents=True)
    day = folder / f"{made:%Y-%m-%dT%H-%MZ}"
    day.mkdir()
    data = folder / "data" / ("1.csv.gz" if kind == "CSV" else "1.parquet")
    if kind == "CSV":
        with gzip.open(data, "wt", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
            for row in rows:
                written = [
                    "b",
                    quote_plus(row["key"], safe="/"),
                    "v1",
                    str(row.get("latest", True)).lower(),
                    str(row.get("marker", False)).lower(),
                ]
                writer.writerow([*written, row["size"], f"{row['at']:%Y-%m-%dT%H:%M:%S.000Z}", row["etag"]])
    else:
        columns = {
            "bucket": ["b"] * len(rows),
            "key": [row["key"] for row in rows],
            "is_latest": [row.get("latest", True) for row in rows],
            "is_delete_marker": [row.get("marker", False) for row in rows],
            "size": [row["size"] for row in rows],
            "last_modified_date": pa.array([row["at"] for row in rows], pa.timestamp("ms")),
            "e_tag": [row["etag"] for row in rows],
        }
        pq.write_table(pa.table(columns), data)
    digest = hashlib.md5(data.read_bytes(), usedforsecurity=False).hexdigest()
    manifest = day / "manifest.json"
    manifest.write_text(
        json.dumps(
            {
                "sourceBucket": "b",
                "creationTimestamp": str(int(made.timestamp() * 1000)),
                "fileFormat": kind.title() if kind != "CSV" else kind,
                "fileSchema": SCHEMA if kind == "CSV" else "message s3.inventory { }",
                "files": [{"key": f"inv/b/all/data/{data.name}", "MD5checksum": digest}],
            }
        ),
        encoding="utf-8",
    )
    return manifest


ROWS = [{"key": key, "size": 5, "at": MADE - timedelta(days=2), "etag": "e" * 32} for key in KEYS]


@pytest.mark.parametrize("kind", ["CSV", "PARQUET"])
def test_every_object_is_read_and_old_versions_and_markers_are_not(tmp_path: Path, kind: str) -> None:
    hidden = [ROWS[0] | {"key": "photos/old", "latest": False}, ROWS[0] | {"key": "photos/m", "marker": True}]
    listing = InventoryListing(report(tmp_path, [*ROWS, *hidden], kind=kind), bucket="b")
    found = list(listing.objects())
    assert tuple(each.key for each in found) == KEYS
    assert {(each.size, each.last_modified, each.etag) for each in found} == {
        (5, MADE - timedelta(days=2), "e" * 32)
    }
    assert listing.made_at == MADE


def damaged(manifest: Path) -> None:
    data = next((manifest.parent.parent / "data").iterdir())
    data.write_bytes(data.read_bytes()[:-9])


def without_a_file(manifest: Path) -> None:
    next((manifest.parent.parent / "data").iterdir()).unlink()


def changed(**values: Any) -> Callable[[Path], None]:
    def change(manifest: Path) -> None:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | values), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damaged, "damaged"),
        (without_a_file, "is not there"),
        (changed(sourceBucket="c"), "of the bucket 'c'"),
        (changed(fileFormat="ORC"), "ORC"),
        (changed(fileSchema="Bucket, Key, Size"), "lacks LastModifiedDate, ETag"),
        (changed(creationTimestamp="soon"), "no manifest"),
        (lambda manifest: manifest.with_suffix(".checksum").write_text("0" * 32), "manifest.checksum"),
    ],
)
def test_half_a_report_is_refused(tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    manifest = report(tmp_path, ROWS)
    spoil(manifest)
    with pytest.raises(ConfigurationError, match=words):
        InventoryListing(manifest, bucket="b")


def test_ages_are_told_by_the_time_of_the_report(make_site: MakeSite, tmp_path: Path) -> None:
    """An object of an hour before the report was fresh in it, however old the report is by now."""
    site = make_site(photos=1)
    migrated(site)
    with opened(site) as scene:
        now = scene.bucket.now()
        made = now - timedelta(days=5)
        old, fresh = scene.key_of_nobody("old"), scene.key_of_nobody("fresh")
        rows = [
            {"key": old, "size": 5, "at": made - timedelta(days=2), "etag": "e"},
            {"key": fresh, "size": 5, "at": made - timedelta(hours=1), "etag": "e"},
        ]
        manifest = report(tmp_path / "inventory", rows, made=made)
        changed(sourceBucket=scene.bucket.name)(manifest)
        listing = InventoryListing(manifest, bucket=scene.bucket.name)
        with Workspace() as workspace:
            found = scan(workspace, scene.project.database, scene.project.config, scene.bucket, listing)
        assert [each.key for each in found.orphans] == [old]
        assert (found.census.listed, found.census.fresh) == (2, 1)
