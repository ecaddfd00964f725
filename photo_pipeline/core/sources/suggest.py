"""Proposes a source mapping: looks at a database's tables, and whether their values name files of the roots.

Reads only. What is found is `suggestion`'s to write down.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.engine import Inspector

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import STATE_TABLES
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.sources.fields.path import PathField
from photo_pipeline.core.sources.fields.url import UrlField
from photo_pipeline.core.sources.spelling import RootSpelling, Spelled
from photo_pipeline.core.sources.suggestion import (
    ColumnFinding,
    Suggestion,
    TableSuggestion,
    as_yaml,
)

_BOOKKEEPING = re.compile(
    r"^(sqlite_|alembic_version|schema_migrations|ar_internal_metadata|django_migrations)"
)
_POSITIONS = ("position", "sort_order", "display_order", "order_column", "order", "sort", "rank", "slot")
_TOUCHED = ("updated_at", "updatedAt", "modified_at", "modified", "updated")
_FACTS = {
    "width": ("width", "image_width"),
    "height": ("height", "image_height"),
    "bytes": ("file_size", "size_bytes", "bytes"),
    "mime": ("mime_type", "mime", "content_type"),
}
# What a JSONPath takes without brackets and quotes.
_PLAIN_STEP = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
# A URL inside a text ends at white space, a quote, a bracket or a comma.
_URL_END = r"[^\s\"'<>()\[\]{},\\]+"


def suggest_mapping(database: Database, config: PipelineConfig, *, sample: int = 200) -> Suggestion:
    """Return a proposed mapping of the database's tables.

    Args:
        database: The application's database; it is only read.
        config: Its roots, CDN and prefix; its sources are not looked at.
        sample: Values looked at per column: half from the first rows by key, half from the last.

    Raises:
        DatabaseError: the database fails.
    """
    suggestion = Suggestion()
    judge = _Judge(config)
    with database.read() as connection:
        inspector = sa.inspect(connection)
        for schema, table in _tables(inspector, is_sqlite=database.is_sqlite):
            suggestion.tables_looked_at += 1
            found = _TableLook(inspector, connection, schema, table).look(judge, sample, suggestion)
            if found is not None:
                suggestion.tables.append(found)
    suggestion.text = as_yaml(suggestion, config, sample)
    return suggestion


def _tables(inspector: Inspector, *, is_sqlite: bool) -> Iterator[tuple[str | None, str]]:
    default = inspector.default_schema_name
    schemas = [None] if is_sqlite else [s for s in inspector.get_schema_names() if s != "information_schema"]
    for schema in schemas:
        shown = None if schema == default else schema
        for table in sorted(inspector.get_table_names(schema=shown)):
            if table not in STATE_TABLES and not _BOOKKEEPING.match(table):
                yield shown, table


class _Judge:
    """Says what a value means under the roots."""

    def __init__(self, config: PipelineConfig) -> None:
        self._roots = [RootSpelling(r.name, r.dir, r.url_prefixes) for r in config.roots]
        self._urls = UrlScheme.of(config)

    def root_of(self, kind: str, value: str) -> str | None:
        """Return the root in which the value, read as that kind, names a file."""
        for root in self._roots:
            reader: UrlField | PathField
            if kind == "url":
                reader = UrlField(kind="url", column="_", root=root.name)
            else:
                reader = PathField(kind="path", column="_", root=root.name)
            meaning = reader.interpret(value, root)
            if isinstance(meaning, Spelled) and any(
                _is_file(root, candidate) for candidate in meaning.candidates
            ):
                return root.name
        return None

    def is_migrated(self, value: str) -> bool:
        """Return whether the value is a URL or key of ours."""
        return self._urls.is_migrated(value)

    def root_of_text(self, value: str) -> str | None:
        """Return the root of the first URL in the text that names a file."""
        for root in self._roots:
            for prefix in root.url_prefixes:
                for match in re.finditer(re.escape(prefix) + _URL_END, value):
                    if self.root_of("url", match.group()) == root.name:
                        return root.name
        return None


def _is_file(root: RootSpelling, candidate: str) -> bool:
    try:
        return (root.directory / candidate).is_file()
    except (OSError, ValueError):
        return False  # Longer than a name may be: no file.


class _TableLook:
    """Looks at one table."""

    def __init__(self, inspector: Inspector, connection: Connection, schema: str | None, table: str) -> None:
        self._inspector = inspector
        self._connection = connection
        self._schema = schema
        self._table = table
        self._columns = {each["name"]: each for each in inspector.get_columns(table, schema=schema)}
        self._key = self._find_key()

    def look(self, judge: _Judge, sample: int, suggestion: Suggestion) -> TableSuggestion | None:
        findings = []
        for name, column in self._columns.items():
            if not _holds_text(column["type"]):
                continue
            suggestion.columns_looked_at += 1
            found = _judge_column(judge, name, self._values(name, sample))
            if found is not None:
                found.length = getattr(column["type"], "length", None)
                found.nullable = bool(column["nullable"])
                findings.append(found)
        if not findings:
            return None
        return TableSuggestion(
            schema=self._schema,
            table=self._table,
            key=self._key,
            entity=self._entity(),
            position=self._named(_POSITIONS),
            touch=self._named(_TOUCHED),
            write_back=self._write_back(),
            findings=tuple(findings),
        )

    def _values(self, name: str, sample: int) -> list[str]:
        """Return values from both ends of the table: old rows and new ones often spell differently."""
        table = sa.table(self._table, *(sa.column(each) for each in self._columns), schema=self._schema)
        text = sa.cast(table.c[name], sa.Text)
        order = [table.c[each] for each in self._key] or [table.c[name]]
        query = sa.select(text).where(table.c[name].is_not(None), text != "").limit(max(1, sample // 2))
        first = self._connection.execute(query.order_by(*order)).scalars().all()
        last = self._connection.execute(query.order_by(*(each.desc() for each in order))).scalars().all()
        few = len(first) < max(1, sample // 2)  # Both ends are all there is, twice.
        return [str(value) for value in (first if few else [*first, *last]) if isinstance(value, str)]

    def _find_key(self) -> tuple[str, ...]:
        primary = self._inspector.get_pk_constraint(self._table, schema=self._schema)["constrained_columns"]
        if primary:
            return tuple(primary)
        unique: list[list[str | None]] = [
            list(each["column_names"])
            for each in self._inspector.get_unique_constraints(self._table, schema=self._schema)
        ]
        unique += [
            each["column_names"]
            for each in self._inspector.get_indexes(self._table, schema=self._schema)
            if each["unique"]
        ]
        whole = [
            names
            for names in unique
            if all(n is not None and not self._columns[n]["nullable"] for n in names)
        ]
        return tuple(str(name) for name in min(whole, key=len)) if whole else ()

    def _entity(self) -> tuple[str, str] | None:
        for each in self._inspector.get_foreign_keys(self._table, schema=self._schema):
            if len(each["constrained_columns"]) == 1:
                return _singular(each["referred_table"]), each["constrained_columns"][0]
        for name in self._columns:
            match = re.fullmatch(r"(.+?)(?:_id|Id)", name)
            if match:
                return match.group(1).lower(), name
        return (_singular(self._table), self._key[0]) if len(self._key) == 1 else None

    def _named(self, names: Iterable[str]) -> str | None:
        return next((name for name in names if name in self._columns), None)

    def _write_back(self) -> dict[str, str]:
        found = {quantity: self._named(names) for quantity, names in _FACTS.items()}
        return {name: quantity for quantity, name in found.items() if name is not None}


def _holds_text(kind: Any) -> bool:
    if isinstance(kind, sa.Enum | sa.Uuid):
        return False
    return isinstance(kind, sa.String | sa.JSON | sa.types.NullType)


def _singular(table: str) -> str:
    return table[:-3] + "y" if table.endswith("ies") else table.removesuffix("s")


def _judge_column(judge: _Judge, name: str, values: Sequence[str]) -> ColumnFinding | None:
    """Return what the values are, or None if none of them names a file."""
    if not values:
        return None
    migrated = sum(judge.is_migrated(value) for value in values)
    kind = "url" if any(re.match(r"[a-z]+://|/", value, re.IGNORECASE) for value in values) else "path"
    roots = Counter(root for value in values if (root := judge.root_of(kind, value)))
    if roots or migrated:
        root = roots.most_common(1)[0][0] if roots else ""
        return ColumnFinding(name, kind, root, len(values), roots.total(), migrated)
    return _judge_json(judge, name, values) or _judge_text(judge, name, values)


def _judge_json(judge: _Judge, name: str, values: Sequence[str]) -> ColumnFinding | None:
    paths: Counter[str] = Counter()
    roots: Counter[str] = Counter()
    documents = hits = 0
    for value in values:
        try:
            document = json.loads(value)
        except ValueError:
            continue
        if not isinstance(document, dict | list):
            continue
        documents += 1
        found = [(path, root) for path, text in _strings(document) if (root := judge.root_of("url", text))]
        hits += bool(found)
        paths.update({path for path, _ in found})
        roots.update(root for _, root in found)
    if not hits:
        return None
    root = roots.most_common(1)[0][0]
    return ColumnFinding(name, "json", root, documents, hits, paths=tuple(sorted(paths)))


def _strings(node: Any, path: str = "$") -> Iterator[tuple[str, str]]:
    """Yield every string of a JSON document with its path; elements of arrays share one."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict):
        for name, child in node.items():
            step = f".{name}" if _PLAIN_STEP.match(name) else f"[{json.dumps(name)}]"
            yield from _strings(child, path + step)
    elif isinstance(node, list):
        for child in node:
            yield from _strings(child, f"{path}[*]")


def _judge_text(judge: _Judge, name: str, values: Sequence[str]) -> ColumnFinding | None:
    roots = Counter(root for value in values if (root := judge.root_of_text(value)))
    if not roots:
        return None
    text = "\n".join(values)
    syntax = "html" if re.search(r"<[a-z]+[\s>]", text) else "bbcode" if "[img" in text else "markdown"
    return ColumnFinding(name, "text", roots.most_common(1)[0][0], len(values), roots.total(), syntax=syntax)
