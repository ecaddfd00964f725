"""Rewrites a chunk of plain rows by a handful of statements, with the same outcomes as row by row.

Only rows about which nothing is unusual: whole-value cells, found by their key, unedited, their photos
proven and their files unchanged (`plain_rows`). Every other row goes through `row_rewrite`. Where the
database answers anything but what was asked of it, the rows are tried in halves, until only a few around the
cause are left over.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from photo_pipeline.core.catalog.bulk import Row
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.faults import Fault, fault_of
from photo_pipeline.core.catalog.tables import PhotoState, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.chunk_cells import ChunkWriter, UnusualError
from photo_pipeline.core.migration.ledger_audit import WrittenEntries, last_ledger_id
from photo_pipeline.core.migration.many_rows import ManyRows, can_do_many, findable_keys
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import LocalFiles, Photo
from photo_pipeline.core.migration.plain_rows import PlainRow, PlainRows
from photo_pipeline.core.migration.postgres_chunk import PostgresChunks
from photo_pipeline.core.migration.row_rewrite import RowChange, RowCounts, RowRewriter
from photo_pipeline.core.migration.sqlite_chunk import SqliteChunks
from photo_pipeline.core.migration.values import RowValues

Rows = Sequence[list[Photo]]
"""Photos by application row."""

# Where a chunk meets something unusual, so few rows around it are rewritten one by one.
_FEW = 16
_SAMPLES = 10


@dataclass
class RewrittenChunk:
    """What became of a chunk, and what it wrote to the ledger.

    Attributes:
        counts: What became of the rows.
        written: The ledger entries of its plain rows.
        others_above: Above this id are the entries of rows that were rewritten by themselves, if any were.
    """

    counts: RowCounts = field(default_factory=RowCounts)
    written: WrittenEntries = field(default_factory=WrittenEntries)
    others_above: int | None = None


@dataclass(frozen=True)
class _Source:
    """What the chunks of one source have in common."""

    name: str
    plain: PlainRows
    many: ManyRows


class ChunkRewriter:
    """Rewrites chunks of rows of one batch on the strength of the proven `objects` (as `RowRewriter`)."""

    def __init__(
        self,
        database: Database,
        config: PipelineConfig,
        naming: ObjectNaming,
        objects: Mapping[str, Any],
        *,
        batch: str,
        run: str,
        expected_state: PhotoState = PhotoState.UPLOADED,
        gone: frozenset[str] = frozenset(),
    ) -> None:
        self._database = database
        self._config = config
        self._naming = naming
        self._objects = objects
        self._batch = batch
        self._run = run
        self._expected = expected_state
        self._files = LocalFiles(config)
        self._gone = gone
        self._single = RowRewriter(
            database, config, naming, objects, batch=batch, run=run, expected_state=expected_state, gone=gone
        )
        self._sources: dict[str, _Source] = {}
        kind = SqliteChunks if database.is_sqlite else PostgresChunks
        self._writer: ChunkWriter = kind(batch=batch, run=run, expected=expected_state)

    def rewrite(
        self,
        connection: Connection,
        chunk: Rows,
        leading: Mapping[str, Photo],
        *,
        stopped: Callable[[], object | None] = lambda: None,
    ) -> RewrittenChunk:
        """Rewrite the rows, and return what became of them.

        Args:
            connection: In the chunk's write transaction, whose lease was proven.
            chunk: The photos that are ready, by row.
            leading: By row, the photo that its resized copies are copies of.
            stopped: Asked before each row that is rewritten by itself; anything but None ends the work.
        """
        outcome = RewrittenChunk()
        done: set[str] = set()
        if can_do_many(connection):
            by_source: dict[str, list[list[Photo]]] = {}
            for photos in (each for each in chunk if each[0].row_id not in self._gone):
                by_source.setdefault(photos[0].source, []).append(photos)
            for rows in by_source.values():
                done |= self._rewrite_together(connection, rows, leading, outcome)
        for photos in chunk:
            if photos[0].row_id not in done:
                if stopped() is not None:
                    break
                if outcome.others_above is None:
                    outcome.others_above = last_ledger_id(connection)
                outcome.counts.add(self._single.rewrite(connection, photos, leading.get(photos[0].row_id)))
        return outcome

    def _rewrite_together(
        self, connection: Connection, rows: Rows, leading: Mapping[str, Photo], outcome: RewrittenChunk
    ) -> set[str]:
        """Rewrite the plain ones among rows of one source; return the ids of the rows that are done."""
        written = WrittenEntries()
        try:
            with connection.begin_nested():
                plain = self._rewrite_plain(connection, rows, leading, written)
        except (UnusualError, DBAPIError) as error:
            fault = fault_of(error) if isinstance(error, DBAPIError) else Fault.ROW
            if fault in (Fault.AGAIN, Fault.DATABASE):
                raise
            # Behind a lock on the whole table every half would wait as long as the whole.
            if len(rows) <= _FEW or fault is Fault.LOCKED:
                return set()
            middle = len(rows) // 2
            return self._rewrite_together(connection, rows[:middle], leading, outcome) | (
                self._rewrite_together(connection, rows[middle:], leading, outcome)
            )
        outcome.written.add(written)
        counts = outcome.counts
        counts.rows += len(plain)
        counts.rewritten += sum(len(row.photos) for row in plain)
        counts.samples += map(_sample, plain[: max(0, _SAMPLES - len(counts.samples))])
        return {row.photos[0].row_id for row in plain}

    def _rewrite_plain(
        self, connection: Connection, rows: Rows, leading: Mapping[str, Photo], written: WrittenEntries
    ) -> list[PlainRow]:
        """Rewrite those rows of one source that are plain and unedited; return them."""
        source, now = self._source(rows[0][0].source), utc_now()
        by_key = {photos[0].row_key: photos for photos in rows if not self._lost_file(photos)}
        keys = findable_keys(list(by_key), is_sqlite=self._database.is_sqlite)
        cells = self._cells(
            connection, source, {key: by_key[row_key] for row_key, key in keys.items()}, leading
        )
        plain = []
        for row_key, key in keys.items():
            if key in cells:
                photos = by_key[row_key]
                primary = leading.get(photos[0].row_id)
                row = source.plain.plan(connection, photos, primary, key, cells[key], now)
                if row is not None:
                    plain.append(row)
        done = self._writer.write(connection, source.name, source.many, plain, now)
        written.add(done.entries)
        return done.rows

    def _cells(
        self,
        connection: Connection,
        source: _Source,
        rows: Mapping[Row, list[Photo]],
        leading: Mapping[str, Photo],
    ) -> dict[Row, Row | None]:
        """Return what the rows hold by key, None for what is not read; left out are those that cannot be set.

        PostgreSQL's compare-and-swap leaves out by itself what is locked, edited or gone; there a row is read
        only where it takes more to tell what becomes of it.
        """
        is_sqlite, needs = self._database.is_sqlite, source.plain.needs_cells
        read = [
            key for key, photos in rows.items() if is_sqlite or needs(photos, leading.get(photos[0].row_id))
        ]
        cells: dict[Row, Row | None] = {} if len(read) == len(rows) else dict.fromkeys(rows)
        for key in read if cells else ():
            del cells[key]
        if read:
            cells.update(source.many.read(connection, source.plain.columns, read))
        return cells

    def _source(self, name: str) -> _Source:
        if name not in self._sources:
            source, is_sqlite = self._config.source(name), self._database.is_sqlite
            table = self._database.table(source.table, source.schema_name)
            values = RowValues(self._naming, source, self._config.store.bucket)
            self._sources[name] = _Source(
                name,
                PlainRows(source, table, values, self._objects, is_sqlite=is_sqlite),
                ManyRows(table, source.key, is_sqlite=is_sqlite),
            )
        return self._sources[name]

    def _lost_file(self, photos: list[Photo]) -> bool:
        """Return whether another file is there now for one of the row's photos."""
        # Once a row shows the store its file may go: the objects are those of the file that it had.
        return self._expected is not PhotoState.MIGRATED and any(map(self._files.changed, photos))


def _sample(row: PlainRow) -> RowChange:
    first = row.photos[0]
    column = str(first.column)
    before = str(row.before[column])
    return RowChange(first.source, first.row_key, first.field, before, str(row.changed.get(column, before)))
