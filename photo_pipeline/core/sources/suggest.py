"""Proposes a source mapping: looks at a database's tables, and whether their values name files of the roots.

Reads only. What is proposed is for a person to check: it is written as commented YAML, each field with the
share of the sampled values that name a file.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.engine import Inspector

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.sources.fields.path import PathField
from photo_pipeline.core.sources.fields.url import UrlField
from photo_pipeline.core.sources.mapping import FieldSpec
from photo_pipeline.core.sources.spelling import RootSpelling, Spelled

# Below this share of values that name a file, a column is shown but commented out.
_ENOUGH = 0.5
_NOT_OURS = re.compile(
    r"^(pp_|sqlite_|alembic_version|schema_migrations|ar_internal_metadata|django_migrations)"
)
_THUMB = re.compile(r"thumb|small|preview|mini|icon", re.IGNORECASE)
_POSITIONS = ("position", "sort_order", "display_order", "order_column", "order", "sort", "rank", "slot")
_TOUCHED = ("updated_at", "updatedAt", "modified_at", "modified", "updated")
_FACTS = {
    "width": ("width", "image_width"),
    "height": ("height", "image_height"),
    "bytes": ("file_size", "size_bytes", "bytes"),
    "mime": ("mime_type", "mime", "content_type"),
}
# WordPress tells its feeds' readers by it what they have seen; it only looks like a URL.
_IDENTIFIERS = {"guid"}
_PLAIN = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
# YAML 1.1 reads these as something else than the word.
_WORDS = {"on", "off", "yes", "no", "y", "n", "true", "false", "null"}
# A URL inside a text ends at white space, a quote, a bracket or a comma.
_URL_END = r"[^\s\"'<>()\[\]{},\\]+"


@dataclass
class ColumnFinding:
    """What the sampled values of one column are; counts are of values, blank ones aside."""

    column: str
    kind: str
    root: str
    sampled: int
    resolved: int
    migrated: int = 0
    paths: tuple[str, ...] = ()
    syntax: str | None = None
    length: int | None = None
    nullable: bool = True

    @property
    def share(self) -> float:
        """The share of the sampled values that name a file (or are ours already), 0-1."""
        return (self.resolved + self.migrated) / self.sampled

    @property
    def is_whole(self) -> bool:
        """Whether the whole value names one photo."""
        return self.kind in ("url", "path")


@dataclass(frozen=True)
class TableSuggestion:
    """One table that names photos, and what else of it a mapping would use."""

    schema: str | None
    table: str
    key: tuple[str, ...]
    entity: tuple[str, str] | None
    position: str | None
    touch: str | None
    write_back: dict[str, str]
    findings: tuple[ColumnFinding, ...]


@dataclass
class Suggestion:
    """The proposed mapping, as data and as YAML text with comments."""

    tables_looked_at: int = 0
    columns_looked_at: int = 0
    tables: list[TableSuggestion] = field(default_factory=list)
    text: str = ""


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
    inspector = sa.inspect(database.engine)
    judge = _Judge(config)
    with database.read() as connection:
        for schema, table in _tables(inspector, is_sqlite=database.is_sqlite):
            suggestion.tables_looked_at += 1
            found = _TableLook(inspector, connection, schema, table).look(judge, sample, suggestion)
            if found is not None:
                suggestion.tables.append(found)
    suggestion.text = _yaml(suggestion, config, sample)
    return suggestion


def _tables(inspector: Inspector, *, is_sqlite: bool) -> Iterator[tuple[str | None, str]]:
    default = inspector.default_schema_name
    schemas = [None] if is_sqlite else [s for s in inspector.get_schema_names() if s != "information_schema"]
    for schema in schemas:
        shown = None if schema == default else schema
        for table in sorted(inspector.get_table_names(schema=shown)):
            if not _NOT_OURS.match(table):
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
            step = f".{name}" if _PLAIN.match(name) else f"[{json.dumps(name)}]"
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


def known_kinds() -> set[str]:
    """Return the kinds of field that a mapping can have."""
    union = get_args(FieldSpec)[0]
    return {get_args(model.model_fields["kind"].annotation)[0] for model in get_args(union)}


def _yaml(suggestion: Suggestion, config: PipelineConfig, sample: int) -> str:
    lines = [
        f"# Proposed by `photo-pipeline mapping suggest` from {suggestion.tables_looked_at} tables, "
        f"{suggestion.columns_looked_at} text columns,",
        f"# up to {sample} values each (half from the first rows by key, half from the last).",
        "# Check each line, then put it into photo_pipeline.yaml in place of its `sources`.",
        "sources:" if suggestion.tables else "sources: []   # no column names a file of the roots",
    ]
    for table in suggestion.tables:
        lines += ["", *_source_lines(table, config)]
    return "\n".join(lines) + "\n"


def _source_lines(table: TableSuggestion, config: PipelineConfig) -> list[str]:
    active = [each for each in table.findings if _is_active(each)]
    lines = [f"  - name: {_quoted(re.sub(r'[^A-Za-z0-9_-]', '_', table.table))}"]
    lines.append(f"    table: {_quoted(table.table)}")
    if table.schema:
        lines.append(f"    schema: {_quoted(table.schema)}")
    lines.append(f"    key: [{', '.join(_quoted(name) for name in table.key)}]")
    if table.entity:
        lines.append(f"    entity: {{type: {_quoted(table.entity[0])}, id: {_quoted(table.entity[1])}}}")
    if table.position:
        lines.append(f"    position: {_quoted(table.position)}")
    if len(active) == 1 and active[0].nullable:
        lines.append(f"    where: [{{column: {_quoted(active[0].column)}, op: not_null}}]")
    lines.append("    fields:")
    for each in table.findings:
        lines += _field_lines(each, table)
    lines += _rewrite_lines(table, active, config)
    problem = _unusable(table, active)
    if problem is None:
        return lines
    return [f"  # {problem}", *("  #" + line.removeprefix("  ") for line in lines)]


def _is_active(finding: ColumnFinding) -> bool:
    if finding.column in _IDENTIFIERS:
        return False
    return finding.share >= _ENOUGH and finding.kind in known_kinds() and bool(finding.root)


def _unusable(table: TableSuggestion, active: list[ColumnFinding]) -> str | None:
    if not table.key:
        return (
            f"Table {table.table!r} has no primary key and no unique one: a row could not be found again. "
            "Name the columns that identify a row under `key`, or add a primary key."
        )
    if set(table.key) & {each.column for each in active}:
        return f"Table {table.table!r}: a column of its key names photos, and a key is never rewritten."
    return None if active else "Nothing here is ready to be used; see the comments at its fields."


def _field_lines(finding: ColumnFinding, table: TableSuggestion) -> list[str]:
    parts = [f"kind: {finding.kind}", f"column: {_quoted(finding.column)}", f"root: {_quoted(finding.root)}"]
    if finding.paths:
        parts.append(f"paths: [{', '.join(json.dumps(path) for path in finding.paths)}]")
    if finding.syntax:
        parts.append(f"syntaxes: [{finding.syntax}]")
    whole = [each for each in table.findings if each.is_whole and _is_active(each)]
    if (
        finding.is_whole
        and _THUMB.search(finding.column)
        and any(not _THUMB.search(each.column) for each in whole)
    ):
        parts.append("role: variant, variant: thumb")
    told = f"{finding.resolved:,} of {finding.sampled:,} sampled values name a file ({finding.share:.0%})"
    if finding.migrated:
        told += f"; {finding.migrated:,} are migrated already"
    if finding.kind not in known_kinds():
        told += f"; this version has no kind {finding.kind}"
    if finding.column in _IDENTIFIERS:
        told += "; an identifier, not to be rewritten"
    line = f"- {{{', '.join(parts)}}}"
    return [f"      # {told}", f"      {line}" if _is_active(finding) else f"      # {line}"]


def _rewrite_lines(table: TableSuggestion, active: list[ColumnFinding], config: PipelineConfig) -> list[str]:
    urls = UrlScheme.of(config)
    key = urls.variant_key("0" * 64, "0" * 12, "thumb", "jpeg")
    room = min((each.length for each in active if each.length and each.is_whole), default=None)
    mode = "key" if active and all(each.kind == "path" for each in active) else "url"
    comment = ""
    if room is not None and mode == "url" and room < len(urls.url(key)):
        mode = "key"
        comment = f"   # a URL of {len(urls.url(key))} characters does not fit into {room}"
    if room is not None and room < len(key):
        comment = f"   # TOO NARROW: a key has {len(key)} characters and the column {room}; widen it first"
    lines = ["    rewrite:", f"      mode: {mode}{comment}"]
    if table.write_back and any(each.is_whole for each in active):
        back = ", ".join(f"{_quoted(name)}: {quantity}" for name, quantity in table.write_back.items())
        lines.append(f"      write_back: {{{back}}}")
    if table.touch:
        lines.append(f"      touch: [{_quoted(table.touch)}]")
    return lines


def _quoted(name: str) -> str:
    return name if _PLAIN.match(name) and name.lower() not in _WORDS else json.dumps(name, ensure_ascii=False)
