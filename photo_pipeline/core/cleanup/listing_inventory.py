"""A listing out of S3 Inventory files, which AWS writes daily or weekly: for buckets too large to be listed.

A report is `manifest.json` with its data files (CSV.gz or Parquet), copied to a local folder. It shows the
bucket as it was when it was made: ages are told by that time, not by today's. The files' MD5 sums are
checked before any of them is believed; half a listing would be a listing.
"""

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.storage.objects import ListedObject

# What the report must have been configured to hold, as CSV calls it and as Parquet does.
_NEEDED = {"Key": "key", "Size": "size", "LastModifiedDate": "last_modified_date", "ETag": "e_tag"}
# Present where all versions are reported: then only the latest counts, unless it is a delete marker.
_LATEST, _MARKER = ("IsLatest", "is_latest"), ("IsDeleteMarker", "is_delete_marker")
_CHUNK = 1024 * 1024
_ROWS_AT_ONCE = 10_000


class InventoryListing:
    """The objects of one S3 Inventory report.

    Args:
        manifest: Path of its manifest.json.
        bucket: The bucket that it must be of.

    Raises:
        ConfigurationError: it is no such report, of another bucket, damaged, or lacks a file or field.
    """

    def __init__(self, manifest: Path, *, bucket: str) -> None:
        self._manifest = manifest
        document = self._read_manifest()
        try:
            source = str(document["sourceBucket"])
            self.made_at = datetime.fromtimestamp(int(document["creationTimestamp"]) / 1000, UTC)
            self._format = str(document["fileFormat"]).upper()
            self._columns = [name.strip() for name in str(document["fileSchema"]).split(",")]
            self._files = [self._checked(dict(each)) for each in document["files"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._refused(f"it is no manifest of S3 Inventory ({error!r})") from error
        if source != bucket:
            raise self._refused(f"it is of the bucket {source!r}, and store.bucket is {bucket!r}")
        if self._format not in ("CSV", "PARQUET"):
            raise self._refused(f"its format is {self._format}; CSV and Parquet can be read here")
        self._require_columns()
        self.origin = f"the S3 Inventory of {self.made_at:%Y-%m-%d %H:%M} UTC"

    def objects(self) -> Iterator[ListedObject]:
        """Yield its objects, in constant memory.

        Raises:
            ConfigurationError: a row cannot be read.
        """
        for path in self._files:
            rows = self._csv_rows(path) if self._format == "CSV" else self._parquet_rows(path)
            try:
                yield from rows
            except (ValueError, KeyError, TypeError, OSError, EOFError, csv.Error) as error:
                raise self._refused(f"{path.name} cannot be read ({error})") from error

    def _read_manifest(self) -> dict[str, Any]:
        try:
            data = self._manifest.read_bytes()
            document = json.loads(data)
        except (OSError, ValueError) as error:
            raise self._refused(f"it cannot be read ({error})") from error
        beside = self._manifest.with_suffix(".checksum")
        if beside.is_file() and beside.read_text(encoding="ascii").strip() != _md5(io.BytesIO(data)):
            raise self._refused("it is not the file that manifest.checksum was made of")
        if not isinstance(document, dict):
            raise self._refused("it is no manifest of S3 Inventory")
        return document

    def _checked(self, file: dict[str, Any]) -> Path:
        """Return where a data file is: beside the manifest, or in `data` of the folder above, as in S3."""
        name = str(file["key"]).rpartition("/")[2]
        folder = self._manifest.parent
        places = [folder / name, folder / "data" / name, folder.parent / "data" / name]
        path = next((each for each in places if each.is_file()), None)
        if path is None:
            raise self._refused(f"its file {name} is not there; looked for: {', '.join(map(str, places))}")
        wanted = file.get("MD5checksum")
        with path.open("rb") as stream:
            if wanted and _md5(stream) != wanted:
                raise self._refused(f"its file {name} is damaged (another MD5)")
        return path

    def _require_columns(self) -> None:
        have = set(self._columns) if self._format == "CSV" else self._parquet_columns()
        missing = [name for name, parquet in _NEEDED.items() if not {name, parquet}.intersection(have)]
        if missing:
            raise self._refused(f"it lacks {', '.join(missing)}; configure the inventory to report them")

    def _parquet_columns(self) -> set[str]:
        # 0.3 s, which every other command, and every load of Dagster's definitions, would pay.
        import pyarrow
        import pyarrow.parquet

        try:
            found = [set(pyarrow.parquet.read_schema(path).names) for path in self._files]
        except (OSError, pyarrow.ArrowException) as error:
            raise self._refused(f"a file of it is no Parquet ({error})") from error
        return set.intersection(*found) if found else set(_NEEDED)

    def _csv_rows(self, path: Path) -> Iterator[ListedObject]:
        index = {name: number for number, name in enumerate(self._columns)}
        latest, marker = index.get(_LATEST[0]), index.get(_MARKER[0])
        key, size = index["Key"], index["Size"]
        stored, etag = index["LastModifiedDate"], index["ETag"]
        with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
            for row in csv.reader(stream):
                if len(row) != len(index):
                    raise ValueError(f"a row has {len(row)} fields instead of {len(index)}")
                if (latest is not None and row[latest] == "false") or (
                    marker is not None and row[marker] == "true"
                ):
                    continue
                # Keys are URL-encoded in CSV, where a plus sign is a space.
                yield ListedObject(
                    unquote_plus(row[key], errors="strict"),
                    int(row[size]),
                    _instant(datetime.fromisoformat(row[stored])),
                    row[etag].strip('"'),
                )

    def _parquet_rows(self, path: Path) -> Iterator[ListedObject]:
        from pyarrow import parquet

        file = parquet.ParquetFile(path)
        wanted = [*_NEEDED.values(), _LATEST[1], _MARKER[1]]
        present = [name for name in wanted if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=present):
            for row in batch.to_pylist():
                if row.get(_LATEST[1]) is False or row.get(_MARKER[1]) is True:
                    continue
                yield ListedObject(
                    row["key"], int(row["size"]), _instant(row["last_modified_date"]), row["e_tag"].strip('"')
                )

    def _refused(self, cause: str) -> ConfigurationError:
        return ConfigurationError(
            f"inventory {self._manifest}",
            cause=cause,
            fix="copy the whole report of this bucket (manifest.json and its data files) anew",
        )


def _instant(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _md5(stream: Any) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
