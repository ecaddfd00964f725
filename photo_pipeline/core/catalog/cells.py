"""Which photos the cells of a row name, and the same cells with some of those names replaced.

A cell may hold one URL or a document with many. What stands where is the field kinds' knowledge; here it is
decided which of it is ours, and that no two fields claim the same characters.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.sources.fields.base import Accepts, Found
from photo_pipeline.core.sources.mapping import AnyField, Source
from photo_pipeline.core.sources.spelling import RootSpelling
from photo_pipeline.core.sources.text.document import replace_spans
from photo_pipeline.core.sources.text.urls import whole_url
from photo_pipeline.core.sources.text.views import Span, View

Name = tuple[str, str]
"""A field's label, and a URL as its cell spells it: what `pp_photo` calls field and value (or new_value)."""


@dataclass(frozen=True)
class Mention:
    """One place of a row that names a photo."""

    field: AnyField
    span: Span

    @property
    def name(self) -> Name:
        """The field, and the URL as it is spelled there."""
        return self.field.label, self.span.spelled


@dataclass(frozen=True)
class Problem:
    """A cell that cannot be read as what its field says it is, and why; it is never touched."""

    field: AnyField
    cell: str
    reason: str


@dataclass(frozen=True)
class EditedCell:
    """A cell with URLs replaced, and how each new URL is spelled in it."""

    text: str
    spelled: dict[Name, str]


class CellReader:
    """Reads cells under one configuration."""

    def __init__(self, config: PipelineConfig) -> None:
        self.roots = {
            root.name: RootSpelling(root.name, root.dir, root.url_prefixes) for root in config.roots
        }
        self._urls = UrlScheme.of(config)

    def read(self, source: Source, values: Mapping[str, RawValue]) -> tuple[list[Mention], list[Problem]]:
        """Return every photo that a row names, and the cells that cannot be understood.

        Args:
            source: The row's source.
            values: Its raw values, with each of `source.read_columns`.
        """
        mentions: list[Mention] = []
        problems: list[Problem] = []
        taken: dict[str | None, list[Span]] = {}
        for field in source.fields:
            found = field.find(values, self._accepts(field, ()))
            if found.problem is not None:
                problems.append(Problem(field, str(values[field.reads[0]]), found.problem))
            mentions += _unclaimed(field, found, taken)
        return mentions, problems

    def mentions(self, source: Source, column: str, cell: RawValue, names: Collection[Name]) -> list[Mention]:
        """Return where the cell has those names now; a cell that is no text any more has none.

        Args:
            source: The row's source.
            column: The cell's column.
            cell: Its raw value.
            names: Fields on that column with spellings. They need not be under the present CDN address.
        """
        if not isinstance(cell, str):
            return []
        taken: dict[str | None, list[Span]] = {}
        found: list[Mention] = []
        for field in source.fields_on(column):
            spelled = {name[1] for name in names if name[0] == field.label}
            # The neighbours are looked for, too: a name inside of another URL is not ours to change.
            found += _unclaimed(field, field.find({column: cell}, self._accepts(field, spelled)), taken)
        return [mention for mention in found if mention.name in names]

    def shows(self, source: Source, column: str, cell: RawValue, name: Name) -> bool:
        """Return whether the cell has that name."""
        return bool(self.mentions(source, column, cell, {name}))

    def replaced(self, source: Source, column: str, cell: str, urls: Mapping[Name, str]) -> EditedCell:
        """Return the cell with each of these names replaced by its new URL, spelled as the place needs it.

        Args:
            source: The row's source.
            column: The cell's column.
            cell: Its text.
            urls: The new URL (or key) for each name; names that the cell does not have change nothing.
        """
        new: dict[Span, str] = {}
        spelled: dict[Name, str] = {}
        for mention in self.mentions(source, column, cell, urls):
            new[mention.span] = mention.span.spell(urls[mention.name])
            spelled.setdefault(mention.name, new[mention.span])
        return EditedCell(replace_spans(cell, new), spelled)

    def respelled(self, source: Source, column: str, cell: str, spellings: Mapping[Name, str]) -> str:
        """Return the cell with each of these names replaced by a spelling that once stood there.

        Args:
            source: The row's source.
            column: The cell's column.
            cell: Its text.
            spellings: What to put in place of each name, escapes and all.
        """
        found = self.mentions(source, column, cell, spellings)
        return replace_spans(cell, {each.span: spellings[each.name] for each in found})

    def _accepts(self, field: AnyField, spelled: Collection[str]) -> Accepts:
        root = self.roots[field.root]

        def accepts(span: Span) -> bool:
            return span.spelled in spelled or root.covers(span.url) or self._urls.is_migrated(span.url)

        return accepts


def our_url(spelled: str) -> str:
    """Return the URL (or key) that one of our values means, however the text around it made it be spelled."""
    view = View.of(spelled).without_entities().without_json_escapes()
    return next(whole_url(view), view.span()).url


def row_names(field: AnyField, values: Mapping[str, RawValue], value: str) -> bool:
    """Return whether a row names a photo in that field as `value` spells it.

    Args:
        field: The field; also one that computes what it names.
        values: The row's raw values, by column; it names nothing by columns that are not among them.
        value: What `pp_photo` calls value.
    """
    if not all(name in values for name in field.reads):
        return False
    found = field.find(values, lambda span: span.spelled == value)
    return any(span.spelled == value for span in found.spans)


def _unclaimed(field: AnyField, found: Found, taken: dict[str | None, list[Span]]) -> list[Mention]:
    """Return what no earlier field of the same column has claimed, and claim it."""
    earlier = taken.setdefault(field.column, [])
    free = [
        span
        for span in found.spans
        if not any(span.start < other.end and other.start < span.end for other in earlier)
    ]
    earlier += free
    return [Mention(field, span) for span in free]
