"""Which local files are named by rows that a source's `where` leaves out, and that no inventory catalogues.

All rows of such a table are read once, by the fields' own readers. Rows that `where` selects are the
catalog's to judge (`due`); columns that no field reads are not looked at.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.cells import CellReader, Mention
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.files import lookup_id
from photo_pipeline.core.catalog.rows import row_id
from photo_pipeline.core.catalog.tables import PhotoState, photo_table
from photo_pipeline.core.cleanup.cell_texts import streamed
from photo_pipeline.core.cleanup.due import Candidate, FileClass
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.sources.mapping import Source
from photo_pipeline.core.sources.spelling import Refused

_NOT_LOOKED_FOR = "it became due while this clean-up ran; the next one looks for rows that name it"

_HITS_PER_QUERY = 500

_Name = tuple[str, str, str]
"""What a photo of the catalog is known by: its row (as `catalog.rows.row_id` has it), field, and value."""


class NamedFiles:
    """Files that rows beside the catalog name.

    Args:
        database: The application's database.
        config: The mapping and the roots.
        due: Returns the lookup ids of the files that may go; called only if there is anything to read.

    Raises:
        DatabaseError: the rows cannot be read.
    """

    def __init__(self, database: Database, config: PipelineConfig, due: Callable[[], set[str]]) -> None:
        self._database = database
        self._config = config
        self._cells = CellReader(config)
        self._urls = UrlScheme.of(config)
        self._sources = [source for source in config.sources if source.where]
        self._wanted = due() if self._sources else set()
        self._places: dict[str, str] = {}
        if self._wanted:
            for source in self._sources:
                self._read(source)

    def place(self, root: str, path: str) -> str | None:
        """Return which row names the file (for people), or None if none does."""
        return self._places.get(lookup_id(root, path))

    def judged(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates; those are due no more that such a row names."""
        return [self._judge(each) if each.outcome is FileClass.DUE else each for each in candidates]

    def knows(self, root: str, path: str) -> bool:
        """Return whether the file was looked for, or need not be."""
        return not self._sources or lookup_id(root, path) in self._wanted

    def _judge(self, due: Candidate) -> Candidate:
        place = self.place(due.root, due.path)
        if place is not None:
            return replace(due, outcome=FileClass.STILL_REFERENCED, reason=f"{place} names it")
        if not self.knows(due.root, due.path):
            return replace(due, outcome=FileClass.WITHIN_RETENTION, reason=_NOT_LOOKED_FOR)
        return due

    def _read(self, source: Source) -> None:
        hits: list[_Hit] = []
        for hit in self._hits(source):
            hits.append(hit)
            if len(hits) >= _HITS_PER_QUERY:
                self._keep(hits)
                hits = []
        self._keep(hits)

    def _hits(self, source: Source) -> Iterator["_Hit"]:
        table = self._database.table(source.table, source.schema_name)
        beside = [each for each in self._config.sources if _table_of(each) == _table_of(source)]
        names = list(dict.fromkeys([*source.read_columns, *(name for each in beside for name in each.key)]))
        expressions = [
            raw.read_expression(table.columns[name], is_sqlite=self._database.is_sqlite).label(f"c{number}")
            for number, name in enumerate(names)
        ]
        # One statement, so one state of the table: a path that moves from row to row is not missed in both.
        with self._database.read() as connection:
            for row in streamed(connection, sa.select(*expressions).select_from(table)):
                values = dict(zip(names, row, strict=True))
                for mention in self._cells.read(source, values)[0]:
                    files = self._files_of(mention)
                    if files:
                        key = raw.encode_key([values[name] for name in source.key])
                        place = f"{source.table} {key} {mention.field.label}"
                        yield _Hit(files, place, _known_as(mention, values, beside))

    def _files_of(self, mention: Mention) -> list[str]:
        """Return the wanted files that the place may mean and that no row is known to name yet."""
        if self._urls.is_migrated(mention.span.url):
            return []
        field = mention.field
        meaning = field.interpret(mention.span.url, self._cells.roots[field.root])
        if isinstance(meaning, Refused):
            return []
        files = (lookup_id(field.root, path) for path in meaning.candidates)
        return [each for each in files if each in self._wanted and each not in self._places]

    def _keep(self, hits: Sequence["_Hit"]) -> None:
        """Remember them, but for places that a rewrite leaves as they are and that are migrated photos."""
        if not hits:
            return
        columns = photo_table.c
        rows = {name[0] for hit in hits for name in hit.known_as}
        query = sa.select(columns.row_id, columns.field, columns.value, columns.new_value).where(
            columns.row_id.in_(rows), columns.state == PhotoState.MIGRATED
        )
        migrated: set[_Name] = set()
        if rows:
            with self._database.read() as connection:
                for row, field, *shown in connection.execute(query):
                    migrated.update((row, field, value) for value in shown if value is not None)
        for hit in hits:
            if migrated.isdisjoint(hit.known_as):
                for file in hit.files:
                    self._places.setdefault(file, hit.place)


@dataclass(frozen=True)
class _Hit:
    """A place of a row that may name wanted files; `known_as`: as which photos the catalog may have it."""

    files: Sequence[str]
    place: str
    known_as: Sequence[_Name]


def _table_of(source: Source) -> tuple[str | None, str]:
    return source.schema_name, source.table


def _known_as(mention: Mention, values: Mapping[str, Any], sources: Sequence[Source]) -> list[_Name]:
    """Return the names of the photo that this place is, if it goes on naming its file when it is migrated.

    Sources of one table (with another `where` each) may read the same cell.
    """
    return [
        (
            row_id(source.name, raw.encode_key([values[name] for name in source.key])),
            field.label,
            mention.span.spelled,
        )
        for source in sources
        for field in source.fields
        if field.reads == mention.field.reads and not (field.written and source.rewrite.names_photos)
    ]
