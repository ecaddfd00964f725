"""Rewrites a chunk of plain rows by a handful of statements, with the same outcomes as row by row.

Only rows about which nothing is unusual: whole-value cells, found by their key, unedited, their photos proven
and their files unchanged. Every other row goes through `row_rewrite`, and so does the whole chunk as soon as
the database answers anything but what was asked of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.faults import Fault, fault_of
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import (
    PhotoState,
    RewriteOutcome,
    photo_table,
    rewrite_photo_table,
    rewrite_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.many_rows import ManyRows
from photo_pipeline.core.migration.photos import ObjectNaming, Photo
from photo_pipeline.core.migration.row_rewrite import RowChange, RowCounts, RowRewriter

Rows = Sequence[list[Photo]]
"""Photos by application row."""


class _UnusualError(Exception):
    """The database did not do to each row what was asked; row by row will tell which, and why."""


@dataclass
class _Plan:
    """What one plain row is to become."""

    photos: list[Photo]
    primary: Photo | None
    address: RowAddress
    before: Mapping[str, RawValue]
    wanted: dict[str, RawValue]
    changed: dict[str, RawValue]
    stored: Mapping[str, RawValue] = field(default_factory=dict)


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
    ) -> None:
        self._database = database
        self._config = config
        self._naming = naming
        self._batch = batch
        self._run = run
        self._single = RowRewriter(database, config, naming, objects, batch=batch, run=run)

    def rewrite(
        self,
        connection: Connection,
        chunk: Rows,
        leading: Mapping[str, Photo],
        *,
        stopped: Callable[[], object | None] = lambda: None,
    ) -> RowCounts:
        """Rewrite the rows, and return what became of them.

        Args:
            connection: In the chunk's write transaction, whose lease was proven.
            chunk: The photos that are ready, by row.
            leading: By row, the photo that its resized copies are copies of.
            stopped: Asked before each row that is rewritten by itself; anything but None ends the work.
        """
        counts = RowCounts()
        done: set[str] = set()
        for source in dict.fromkeys(photos[0].source for photos in chunk):
            rows = [photos for photos in chunk if photos[0].source == source]
            try:
                with connection.begin_nested():
                    plans = self._rewrite_plain(connection, rows, leading)
            except _UnusualError:
                continue
            except DBAPIError as error:
                if fault_of(error) in (Fault.AGAIN, Fault.DATABASE):
                    raise
                continue
            done.update(plan.photos[0].row_id for plan in plans)
            for plan in plans:
                counts.add(_counted(plan))
        for photos in chunk:
            if photos[0].row_id not in done:
                if stopped() is not None:
                    break
                counts.add(self._single.rewrite(connection, photos, leading.get(photos[0].row_id)))
        return counts

    def _rewrite_plain(self, connection: Connection, rows: Rows, leading: Mapping[str, Photo]) -> list[_Plan]:
        """Rewrite those rows of one source that are plain; return them."""
        source = self._config.source(rows[0][0].source)
        table = self._database.table(source.table, source.schema_name)
        many = ManyRows(connection, table, source.key)
        candidates = {
            photos[0].row_key: photos
            for photos in self._current(connection, rows)
            if many.can_find(photos[0].row_key)
        }
        if not candidates:
            return []
        found = many.read(list(candidates), list(source.written_columns))
        planned = (self._plan(connection, candidates[key], leading, before) for key, before in found.items())
        plans = [plan for plan in planned if plan is not None]
        if plans:
            self._swap(many, plans)
            self._record(connection, plans, utc_now())
        return plans

    def _current(self, connection: Connection, rows: Rows) -> list[list[Photo]]:
        """Return the rows whose photos are all as they were when they were proven, and lock those photos."""
        columns = photo_table.c
        ids = [photo.id for photos in rows for photo in photos]
        live: dict[int, tuple[str, str | None]] = {}
        for start in range(0, len(ids), 500):
            query = sa.select(columns.id, columns.state, columns.sha256).where(
                columns.id.in_(ids[start : start + 500])
            )
            for row in connection.execute(query.order_by(columns.id).with_for_update()):
                live[row.id] = (row.state, row.sha256)
        return [
            photos
            for photos in rows
            if all(
                live.get(photo.id) == (PhotoState.UPLOADED, photo.sha256)
                and photo.column is not None
                and not self._single.file_changed(photo)
                for photo in photos
            )
        ]

    def _plan(
        self,
        connection: Connection,
        photos: list[Photo],
        leading: Mapping[str, Photo],
        before: Mapping[str, RawValue],
    ) -> _Plan | None:
        """Return what the row is to become, or None if anything about it is unusual."""
        primary = leading.get(photos[0].row_id)
        address = RowAddress.of(self._database, self._config.source(photos[0].source), photos[0].row_key)
        wanted = self._single.plain_change(connection, address, photos, primary, before)
        if wanted is None:
            return None
        changed = {name: value for name, value in wanted.items() if value != before[name]}
        return _Plan(photos, primary, address, before, wanted, changed)

    def _swap(self, many: ManyRows, plans: list[_Plan]) -> None:
        """Set every row, each by a compare-and-swap, and read back what the database stored."""
        alike: dict[tuple[str, ...], list[_Plan]] = {}
        for plan in plans:
            alike.setdefault(tuple(plan.changed), []).append(plan)
        for names, group in alike.items():
            if not names:
                raise _UnusualError
            cells = [(plan.address.row_key, plan.before, plan.changed) for plan in group]
            if many.swap(list(names), cells) != len(group):
                raise _UnusualError
            stored = many.read([plan.address.row_key for plan in group], list(names))
            for plan in group:
                plan.stored = stored.get(plan.address.row_key, {})
                photo_columns = {photo.column for photo in plan.photos}
                if not plan.stored or any(
                    plan.stored[name] != plan.changed[name] for name in names if name in photo_columns
                ):
                    raise _UnusualError

    def _record(self, connection: Connection, plans: list[_Plan], now: datetime) -> None:
        """Write the ledger, its links to the photos, and the photos' states."""
        entries = [entry for plan in plans for entry in self._entries(plan, now)]
        statement = sa.insert(rewrite_table).returning(rewrite_table.c.id, sort_by_parameter_order=True)
        ids = connection.execute(statement, entries).scalars().all()
        links = [
            {"rewrite_id": rewrite_id, "photo_id": entry["photo_id"]}
            for rewrite_id, entry in zip(ids, entries, strict=True)
            if entry["photo_id"] is not None
        ]
        connection.execute(sa.insert(rewrite_photo_table), links)
        mark = (
            sa.update(photo_table)
            .where(photo_table.c.id == sa.bindparam("k"))
            .values(
                state=PhotoState.MIGRATED,
                error_type=None,
                error_detail=None,
                validated_at=None,
                updated_at=now,
                new_value=sa.bindparam("shown"),
                recipe=sa.bindparam("made_by"),
            )
        )
        connection.execute(mark, [photo for plan in plans for photo in self._marks(plan)])

    def _entries(self, plan: _Plan, now: datetime) -> list[dict[str, Any]]:
        by_column = {str(photo.column): photo.id for photo in plan.photos}
        entries = []
        for name in plan.changed:
            before, before_type = raw.encode(plan.before[name])
            after, after_type = raw.encode(plan.stored[name])
            entries.append(
                {
                    "batch": self._batch,
                    "photo_id": by_column.get(name),
                    "source": plan.address.source.name,
                    "row_id": plan.photos[0].row_id,
                    "row_key": plan.address.row_key,
                    "column": name,
                    "before": before,
                    "before_type": before_type,
                    "after": after,
                    "after_type": after_type,
                    "run": self._run,
                    "outcome": RewriteOutcome.APPLIED.value,
                    "applied_at": now,
                }
            )
        return entries

    def _marks(self, plan: _Plan) -> list[dict[str, Any]]:
        marks = []
        for photo in plan.photos:
            shown = plan.primary if photo.is_copy and plan.primary is not None else photo
            # A column that said the new value already was not set, and holds it all the same.
            value = plan.stored.get(str(photo.column), plan.before[str(photo.column)])
            marks.append({"k": photo.id, "shown": str(value), "made_by": self._naming.recipe_digest(shown)})
        return marks


def _counted(plan: _Plan) -> RowCounts:
    first = plan.photos[0]
    column = str(first.column)
    sample = RowChange(
        first.source, first.row_key, first.field, str(plan.before[column]), str(plan.wanted[column])
    )
    return RowCounts(rewritten=len(plan.photos), rows=1, samples=[sample])
