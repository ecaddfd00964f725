"""Writes the report's four files, each replaced as a whole so that nobody ever reads half of one.

What the report says is `data`; how it looks is `html`.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema, schema_exists
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.errors import InfrastructureError
from photo_pipeline.core.report.data import ReportData, collect, to_json
from photo_pipeline.core.report.html import render
from photo_pipeline.core.report.photo_rows import write_photo_rows
from photo_pipeline.core.report.pictures import Comparison, compare_sample
from photo_pipeline.core.report.quality_pictures import worst_pairs

HTML_NAME, JSON_NAME = "migration_report.html", "migration_report.json"
CSV_NAME, PARQUET_NAME = "photos.csv", "photos.parquet"


@dataclass(frozen=True)
class ReportFiles:
    """Where the report is, and what it says."""

    html: Path
    json: Path
    csv: Path
    parquet: Path
    data: ReportData = field(compare=False, repr=False)


def write_report(database: Database, config: PipelineConfig, cdn: Cdn) -> ReportFiles:
    """Write the report into `config.state.report_dir`, over an earlier one.

    Reads the state tables, up to 18 local photos, and as many files from the CDN (which may be down).

    Raises:
        InfrastructureError: the folder cannot be written.
    """
    if schema_exists(database):
        ensure_schema(database)  # an earlier version's tables lack what is read here
    folder = config.state.report_dir
    data = collect(database, config)
    files = ReportFiles(
        html=folder / HTML_NAME,
        json=folder / JSON_NAME,
        csv=folder / CSV_NAME,
        parquet=folder / PARQUET_NAME,
        data=data,
    )
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
        with _replaced(files.csv) as as_csv, _replaced(files.parquet) as as_parquet:
            write_photo_rows(database, as_csv, as_parquet)
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
    with _replaced(path) as fresh:
        fresh.write_text(text, encoding="utf-8", newline="")


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Give the name of a file that takes the place of `path` when the body ends well, and goes otherwise."""
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield fresh
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
