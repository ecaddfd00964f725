"""A proposed source mapping, as data and as commented YAML for a person to check."""

import json
import re
from dataclasses import dataclass, field
from typing import get_args

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.sources.mapping import FieldSpec

_THUMB = re.compile(r"thumb|small|preview|mini|icon", re.IGNORECASE)
# Below this share of values that name a file, a column is shown but commented out.
_ENOUGH = 0.5
# WordPress tells its feeds' readers by it what they have seen; it only looks like a URL.
_IDENTIFIERS = {"guid"}
_PLAIN = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
# YAML 1.1 reads these as something else than the word.
_WORDS = {"on", "off", "yes", "no", "y", "n", "true", "false", "null"}


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


def known_kinds() -> set[str]:
    """Return the kinds of field that a mapping can have."""
    union = get_args(FieldSpec)[0]
    return {get_args(model.model_fields["kind"].annotation)[0] for model in get_args(union)}


def as_yaml(suggestion: Suggestion, config: PipelineConfig, sample: int) -> str:
    """Return the mapping with a comment at each field: the share of its values that name a file."""
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
