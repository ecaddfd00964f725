"""Rewrites a batch's rows a chunk at a time: changed rows, ledger, audit entry and photo states, or nothing.

One transaction per chunk, under the batch's lease. Which photos are ready is decided by `rewrite`, `repoint`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import ROW_LOCK_TIMEOUT_S, Database
from photo_pipeline.core.catalog.tables import PhotoState
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import PausedError
from photo_pipeline.core.migration.chunk_rewrite import ChunkRewriter, Rows
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.ledger_audit import audit_rewrites
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.migration.row_rewrite import RowCounts
from photo_pipeline.core.migration.watch import ControlWatch
from photo_pipeline.core.progress import Progress

Settle = Callable[[Connection, list[Photo]], None]
"""Called with a chunk's photos in its transaction, when its rows are done."""


class RowChunks:
    """Rewrites rows of one batch on the strength of the proven `objects` (as `RowRewriter`)."""

    def __init__(
        self,
        database: Database,
        config: PipelineConfig,
        lease: BatchLease,
        naming: ObjectNaming,
        objects: Mapping[str, Any],
        *,
        watch: ControlWatch,
        expected_state: PhotoState = PhotoState.UPLOADED,
        gone: frozenset[str] = frozenset(),
        settle: Settle = lambda _connection, _photos: None,
    ) -> None:
        self._database = database
        self._size = config.rewrite.rows_per_transaction
        self._lease = lease
        self._watch = watch
        self._settle = settle
        self._rewriter = ChunkRewriter(
            database,
            config,
            naming,
            objects,
            batch=lease.batch,
            run=lease.run,
            expected_state=expected_state,
            gone=gone,
        )

    def rewrite(
        self, photos: Iterable[Photo], leading: Mapping[str, Photo], progress: Progress
    ) -> Iterator[RowCounts]:
        """Rewrite the rows of these photos; yield what became of each chunk's, when it has committed.

        Raises:
            PausedError: somebody stopped the work; what was yielded stands, the rest is untouched.
        """
        rows: dict[str, list[Photo]] = defaultdict(list)
        for photo in photos:
            rows[photo.row_id].append(photo)
        queue, done = iter(rows.values()), 0
        while chunk := list(islice(queue, self._size)):
            self._watch.check()
            counts, stopped = self._rewrite_chunk(chunk, leading)
            yield counts
            if stopped is not None:
                raise stopped
            done += len(chunk)
            progress("rows", done, len(rows))

    def _rewrite_chunk(
        self, chunk: Rows, leading: Mapping[str, Photo]
    ) -> tuple[RowCounts, PausedError | None]:
        """Return what became of the rows, and the wish to stop if there was one before the last of them."""
        stopped: PausedError | None = None

        def wanted_to_stop() -> PausedError | None:
            nonlocal stopped
            stopped = self._watch.stopped()
            return stopped

        def change(connection: Connection) -> RowCounts:
            nonlocal stopped
            stopped = None
            self._lease.hold(connection)
            done = self._rewriter.rewrite(connection, chunk, leading, stopped=wanted_to_stop)
            self._settle(connection, [photo for photos in chunk for photo in photos])
            audit_rewrites(
                connection,
                batch=self._lease.batch,
                run=self._lease.run,
                above=done.others_above,
                counts=done.counts.numbers,
                known=done.written,
            )
            return done.counts

        return self._database.transact(change, lock_timeout_s=ROW_LOCK_TIMEOUT_S), stopped
