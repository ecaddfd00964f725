"""Which contents the application's rows name at this moment, whatever the catalog knows of them.

Our keys hold the SHA-256 of the content, so a row that names any of a photo's objects (by URL, key, in a text
or a document) holds that text. Reads the mapped tables, every column that can hold text. Names of frameworks
that do not hold it (`key_template`) are not found here; photos that need such an object are in the catalog.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.sources.mapping import Source

_PAGE = 2_000
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
# Types of columns that hold no text, where the database knows its columns' types (SQLite does not).
_NO_TEXT = (sa.Integer, sa.Numeric, sa.Boolean, sa.Date, sa.DateTime, sa.Time, sa.Interval, sa.Uuid)

Cell = tuple[str, str, str | None]
"""A source's name, a row's key as `catalog.raw.encode_key` has it, and a column; None: all of the row."""


def mentioned_contents(
    database: Database, config: PipelineConfig, contents: Collection[str], *, but: Collection[Cell] = ()
) -> dict[str, str]:
    """Return, of the contents (SHA-256, hex), those that a row names now, and where (for people).

    Args:
        database: The application's database.
        config: With the mapped tables.
        contents: What to look for.
        but: Cells that do not count.
    """
    found: dict[str, str] = {}
    if not contents:
        return found
    tables: dict[tuple[str | None, str], Source] = {}
    for source in config.sources:
        tables.setdefault((source.schema_name, source.table), source)
    left_out = {(config.source(name).table, row_key, column) for name, row_key, column in but}
    for source in tables.values():
        for row_key, values in _rows(database, source):
            if (source.table, row_key, None) in left_out:
                continue
            for name, value in values.items():
                if (source.table, row_key, name) in left_out:
                    continue
                for digest in _digests(value):
                    if digest in contents:
                        found.setdefault(digest, f"{source.table} {row_key} {name}")
    return found


def _digests(value: Any) -> Iterator[str]:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str) and len(value) >= 64:
        yield from _DIGEST.findall(value.lower())


def _rows(database: Database, source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    table = database.table(source.table, source.schema_name)
    columns = [
        column for column in table.columns if column.name not in source.key and not _is_textless(column)
    ]
    wanted = [*(table.columns[name] for name in source.key), *columns]
    expressions = [
        raw.read_expression(column, is_sqlite=database.is_sqlite).label(f"c{number}")
        for number, column in enumerate(wanted)
    ]
    # One statement, so one state of the table: a URL that moves from row to row is not missed in both.
    with database.read() as connection:
        for row in _streamed(connection, sa.select(*expressions).select_from(table)):
            key = raw.encode_key(list(row[: len(source.key)]))
            values = zip(columns, row[len(source.key) :], strict=True)
            yield key, {column.name: value for column, value in values}


def _streamed(connection: Connection, query: sa.Select[Any]) -> Iterator[Any]:
    yield from connection.execute(query, execution_options={"yield_per": _PAGE})


def _is_textless(column: sa.Column[Any]) -> bool:
    return isinstance(column.type, _NO_TEXT)
