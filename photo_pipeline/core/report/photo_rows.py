"""The report's rows, one per photo reference: as CSV for spreadsheets and as Parquet for everything else."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import schema_exists
from photo_pipeline.core.catalog.tables import photo_table

COLUMNS = (
    *("id", "source", "row_key", "field", "path", "class", "state", "batch", "size", "sha256", "format"),
    *("width", "height", "value", "new_value", "error_type", "error_detail"),
)

# Rows in memory at a time: a million photos then cost as little as a thousand.
_CHUNK = 2_000
# What spreadsheets take for the beginning of a formula (OWASP, "CSV injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_photo_rows(database: Database, as_csv: Path, as_parquet: Path) -> None:
    """Write both files, which must not exist; one line per row of `pp_photo`, streamed.

    The CSV guards its cells against formulas by an apostrophe; the Parquet file has the values as they are.

    Raises:
        OSError: a file cannot be written.
    """
    import pyarrow as pa  # 0.3 s, which every other command would pay
    import pyarrow.parquet as pq

    schema = pa.schema([(name, _arrow_type(pa, name)) for name in COLUMNS])
    with (
        as_csv.open("x", encoding="utf-8", newline="") as text,
        pq.ParquetWriter(as_parquet, schema, compression="zstd") as parquet,
    ):
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        if not schema_exists(database):
            return
        query = sa.select(*(photo_table.c[name] for name in COLUMNS)).order_by(photo_table.c.id)
        with database.read() as connection:
            streaming = connection.execution_options(yield_per=_CHUNK)
            for chunk in streaming.execute(query).partitions():
                writer.writerows([_guarded(cell) for cell in row] for row in chunk)
                parquet.write_batch(_batch(pa, schema, chunk))


def _arrow_type(pa: Any, name: str) -> Any:
    kind = photo_table.c[name].type
    return pa.int64() if isinstance(kind, sa.Integer) else pa.string()


def _batch(pa: Any, schema: Any, rows: Sequence[Any]) -> Any:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _guarded(cell: object) -> object:
    """Return the cell so that no spreadsheet runs it as a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell
