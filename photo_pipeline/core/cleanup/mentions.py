"""Which contents the application's rows name at this moment, whatever the catalog knows of them.

Our keys hold the SHA-256 of the content, so a row that names any of a photo's objects (by URL, key, in a text
or a document) holds that text. Reads the mapped tables, every column that can hold text. Names of frameworks
that do not hold it (`key_template`) are not found here; photos that need such an object are in the catalog.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
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
        left_out.add((source.schema_name, source.table, source.key, row_key, column))
    tables: dict[tuple[str | None, str], list[Source]] = defaultdict(list)
    for source in config.sources:
        tables[source.schema_name, source.table].append(source)
    for place, sources in tables.items():
        for row_keys, values in _rows(database, sources):
            named = [(*place, key, row_key) for key, row_key in row_keys.items()]
            if any((*each, None) in left_out for each in named):
                continue
            for name, value in values.items():
                text = as_text(value)
                if text is not None and not any((*each, name) in left_out for each in named):
                    yield f"{sources[0].table} {row_keys[sources[0].key]} {name}", text


def _rows(
    database: Database, sources: Sequence[Source]
) -> Iterator[tuple[dict[tuple[str, ...], str], dict[str, Any]]]:
    """Yield of each row of the sources' one table its keys, by the columns of each key, and its texts.

    Sources may tell the rows of a table by different keys.
    """
    table = database.table(sources[0].table, sources[0].schema_name)
    keys = list(dict.fromkeys(source.key for source in sources))
    names = list(dict.fromkeys(name for key in keys for name in key))
    in_every_key = set(names).intersection(*keys)
    columns = [column for column in text_columns(database, table) if column.name not in in_every_key]
    expressions: list[sa.ColumnElement[Any]] = [
        raw.read_expression(table.columns[name], is_sqlite=database.is_sqlite).label(f"key{number}")
        for number, name in enumerate(names)
    ]
    expressions += [
        text_expression(database, column).label(f"cell{number}") for number, column in enumerate(columns)
    ]
    # One statement, so one state of the table: a URL that moves from row to row is not missed in both.
    with database.read() as connection:
        for row in streamed(connection, sa.select(*expressions).select_from(table)):
            parts = dict(zip(names, row[: len(names)], strict=True))
            values = zip(columns, row[len(names) :], strict=True)
            row_keys = {key: raw.encode_key([parts[name] for name in key]) for key in keys}
            yield row_keys, {column.name: value for column, value in values}
