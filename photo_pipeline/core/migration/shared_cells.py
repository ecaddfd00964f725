"""Takes photos out of a text that goes on showing others, of the same batch or of several.

The text's ledger entries stand on each other: each has the whole text before and after. Undoing a lower one
means writing the text anew without it, so the entries above it are closed and written again on the new text.
An entry of photos some of which stay is written again with those.
Nothing of the ledger is changed but outcomes, and the texts still follow from each other to the last byte.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.cells import CellReader
from photo_pipeline.core.catalog.rows import RowAddress, row_id
from photo_pipeline.core.catalog.tables import RewriteOutcome, photo_table, rewrite_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration import ledger

_REWRITTEN = "photos of {batch} were taken out from below it; its own stay, by a newer entry"


class SharedCells:
    """Texts with photos some of which stay."""

    def __init__(self, config: PipelineConfig) -> None:
        self._cells = CellReader(config)

    def without(
        self,
        connection: Connection,
        address: RowAddress,
        column: str,
        current: raw.RawValue,
        chain: Sequence[Any],
        going: Collection[int],
    ) -> tuple[raw.RawValue, list[Any]]:
        """Return the text without these photos, for the caller to write, and the rewrites that it ends.

        Other photos, and entries above, are written again, as if these had never been.

        Args:
            connection: In the row's savepoint: if the text is not written, neither is anything here.
            address: The row.
            column: The text's column.
            current: What it holds.
            chain: Applied ledger rows of one batch on it, each with some of the photos.
            going: The photos.
        """
        standing = self._standing(connection, address, column)
        _, walked = ledger.walk_back(current, standing)
        ours = [entry for entry in walked if entry.id in {each.id for each in chain}]
        if not ours or not isinstance(current, str):
            return current, []
        base = ledger.before_of(ours[-1])
        # From the bottom up: ours and those of others that stand on them.
        above = [entry for entry in reversed(walked) if entry.id >= ours[-1].id]
        links = ledger.photos_of(connection, above)
        photos = self._photos(connection, {photo for each in above for photo in links[each.id]})
        staying = {
            each.id: [photo for photo in links[each.id] if each not in ours or photo not in going]
            for each in above
        }
        if any(staying.values()) and self._replayed(address, column, base, above, links, photos) != current:
            return current, []  # Not by these steps alone: nobody can tell whose the rest is.
        target: raw.RawValue = base
        for entry in (each for each in above if staying[each.id]):
            before, target = target, self._replayed(address, column, target, [entry], staying, photos)
            if entry not in ours:
                self._close(connection, entry, batch=ours[0].batch)
            if target != before:
                self._write_again(connection, address, entry, staying[entry.id], before=before, after=target)
        return target, ours

    def _standing(self, connection: Connection, address: RowAddress, column: str) -> list[Any]:
        """Return every applied rewrite of the cell, the newest first."""
        columns = rewrite_table.c
        query = sa.select(rewrite_table).where(
            columns.row_id == row_id(address.source.name, address.row_key),
            columns.column == column,
            columns.outcome == RewriteOutcome.APPLIED,
        )
        return list(connection.execute(query.order_by(columns.id.desc())))

    def _photos(self, connection: Connection, ids: set[int]) -> dict[int, Any]:
        query = sa.select(photo_table).where(photo_table.c.id.in_(ids)).with_for_update()
        return {photo.id: photo for photo in connection.execute(query)}

    def _replayed(
        self,
        address: RowAddress,
        column: str,
        text: raw.RawValue,
        entries: Sequence[Any],
        links: Mapping[int, Sequence[int]],
        photos: Mapping[int, Any],
    ) -> str:
        """Return the text after the entries' photos were rewritten in it."""
        linked = [photos[photo] for entry in entries for photo in links[entry.id] if photo in photos]
        spellings = {(p.field, p.value): p.new_value for p in linked if p.value and p.new_value}
        return self._cells.respelled(address.source, column, str(text), spellings)

    def _close(self, connection: Connection, entry: Any, *, batch: str) -> None:
        connection.execute(
            sa.update(rewrite_table)
            .where(rewrite_table.c.id == entry.id)
            .values(
                outcome=RewriteOutcome.ROLLED_BACK,
                rolled_back_at=utc_now(),
                reason=_REWRITTEN.format(batch=batch),
            )
        )

    def _write_again(
        self,
        connection: Connection,
        address: RowAddress,
        entry: Any,
        photos: Sequence[int],
        *,
        before: raw.RawValue,
        after: raw.RawValue,
    ) -> None:
        again = ledger.entry(
            batch=entry.batch,
            run=entry.run,
            address=address,
            column=entry.column,
            photos=photos,
            outcome=RewriteOutcome.APPLIED,
            before=before,
            after=after,
        )
        ledger.record(connection, [again])
