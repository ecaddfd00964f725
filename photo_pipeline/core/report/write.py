"""Writes the report's three files, each replaced as a whole so that nobody ever reads half of one.

What the report says is `data`; how it looks is `html`.
"""

import csv
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema, schema_exists
from photo_pipeline.core.catalog.tables import photo_table
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.errors import InfrastructureError
from photo_pipeline.core.report.data import ReportData, collect, to_json
from photo_pipeline.core.report.html import render
from photo_pipeline.core.report.pictures import Comparison, compare_sample
from photo_pipeline.core.report.quality_pictures import worst_pairs

HTML_NAME, JSON_NAME, CSV_NAME = "migration_report.html", "migration_report.json", "photos.csv"

CSV_COLUMNS = (
    *("id", "source", "row_key", "field", "path", "class", "state", "batch", "size", "sha256", "format"),
    *("width", "height", "value", "new_value", "error_type", "error_detail"),
)

# Rows in memory at a time: a million photos then cost as little as a thousand.
_CHUNK = 2_000
# What spreadsheets take for the beginning of a formula (OWASP, "CSV injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True)
class ReportFiles:
    """Where the report is."""

    html: Path
    json: Path
    csv: Path


def write_report(database: Database, config: PipelineConfig, cdn: Cdn) -> ReportFiles:
    """Write the report into `config.state.report_dir`, over an earlier one.

    Reads the state tables, up to 18 local photos, and as many files from the CDN (which may be down).

    Raises:
        InfrastructureError: the folder cannot be written.
    """
    if schema_exists(database):
        ensure_schema(database)  # an earlier version's tables lack what is read here
    folder = config.state.report_dir
    files = ReportFiles(folder / HTML_NAME, folder / JSON_NAME, folder / CSV_NAME)
    data = collect(database, config)
    page = render(
        data,
        config,
        _pictures(data, database, config, cdn),
        worst_pairs(database, config, cdn, data.quality.worst) if data.quality.worst else (),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(files.html, page)
        _replace(files.json, to_json(data) + "\n")
        with _replaced(files.csv) as target:
            _write_photos(database, target)
    except OSError as error:
        raise InfrastructureError(
            str(folder),
            cause=f"the report cannot be written there ({error.strerror})",
            fix="make room or change its permissions, or set state.report_dir",
        ) from error
    return files


def _pictures(
    data: ReportData, database: Database, config: PipelineConfig, cdn: Cdn
) -> tuple[Comparison, ...]:
    return compare_sample(database, config, cdn) if data.migrated else ()


def _replace(path: Path, text: str) -> None:
    with _replaced(path) as target:
        target.write(text)


@contextmanager
def _replaced(path: Path) -> Iterator[TextIO]:
    """Give a file that takes the place of `path` when the body ends well, and leaves no trace otherwise."""
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with fresh.open("x", encoding="utf-8", newline="") as target:
            yield target
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _write_photos(database: Database, target: TextIO) -> None:
    """Write one line per row of `pp_photo`, streamed."""
    writer = csv.writer(target)
    writer.writerow(CSV_COLUMNS)
    if not schema_exists(database):
        return
    query = sa.select(*(photo_table.c[name] for name in CSV_COLUMNS)).order_by(photo_table.c.id)
    with database.read() as connection:
        streaming = connection.execution_options(yield_per=_CHUNK)
        for chunk in streaming.execute(query).partitions():
            writer.writerows([_guarded(cell) for cell in row] for row in chunk)


def _guarded(cell: object) -> object:
    """Return the cell so that no spreadsheet runs it as a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell
