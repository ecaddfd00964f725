"""Which contents the application's rows name at this moment, whatever the catalog knows of them.

Our keys hold the SHA-256 of the content, so a row that names any of a photo's objects (by URL, key, in a text
or a document) holds that text. Reads the mapped tables, every column that can hold text. Names of frameworks
that do not hold it (`key_template`) are not found here; photos that need such an object are in the catalog.
"""

from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cleanup.cell_texts import as_text, streamed, text_columns, text_expression
from photo_pipeline.core.cleanup.orphans_keys import mentions
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.sources.mapping import Source

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
    if contents:
        for place, text in _cells(database, config, but):
            for mention in mentions(text):
                if mention.sha256 in contents:
                    found.setdefault(mention.sha256, place)
    return found


def _cells(database: Database, config: PipelineConfig, but: Collection[Cell]) -> Iterator[tuple[str, str]]:
    """Yield where each text stands (for people), and the text."""
    left_out = set()
    for name, row_key, column in but:
        source = config.source(name)
        left_out.add((source.schema_name, source.table, row_key, column))
    tables: dict[tuple[str | None, str], Source] = {}
    for source in config.sources:
        tables.setdefault((source.schema_name, source.table), source)
    for place, source in tables.items():
        for row_key, values in _rows(database, source):
            if (*place, row_key, None) in left_out:
                continue
            for name, value in values.items():
                text = as_text(value)
                if text is not None and (*place, row_key, name) not in left_out:
                    yield f"{source.table} {row_key} {name}", text


def _rows(database: Database, source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    table = database.table(source.table, source.schema_name)
    keys = [table.columns[name] for name in source.key]
    columns = [column for column in text_columns(database, table) if column.name not in source.key]
    expressions: list[sa.ColumnElement[Any]] = [
        raw.read_expression(column, is_sqlite=database.is_sqlite).label(f"key{number}")
        for number, column in enumerate(keys)
    ]
    expressions += [
        text_expression(database, column).label(f"cell{number}") for number, column in enumerate(columns)
    ]
    # One statement, so one state of the table: a URL that moves from row to row is not missed in both.
    with database.read() as connection:
        for row in streamed(connection, sa.select(*expressions).select_from(table)):
            key = raw.encode_key(list(row[: len(keys)]))
            values = zip(columns, row[len(keys) :], strict=True)
            yield key, {column.name: value for column, value in values}
