"""Takes photos out of a text that goes on showing others, of the same batch or of several.

The text's ledger entries stand on each other: each has the whole text before and after. Undoing a lower one
means writing the text anew without it, so the entries above it are closed and written again on the new text.
An entry of photos some of which stay is written again with those.
Nothing of the ledger is changed but outcomes, and the texts still follow from each other to the last byte.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.cells import CellReader, Name
from photo_pipeline.core.catalog.rows import RowAddress, row_id
from photo_pipeline.core.catalog.tables import RewriteOutcome, photo_table, rewrite_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.cell_places import CellPlaces

_REWRITTEN = "photos of {batch} were taken out from below it; its own stay, by a newer entry"
_LEFT = "the application changed the value before the photo was repointed"


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
    ) -> tuple[raw.RawValue, list[Any], set[int]]:
        """Return the text without these photos, for the caller to write, and the rewrites that it ends.

        Other photos, and entries above, are written again, as if these had never been. The last of what is
        returned are photos that cannot go: below the oldest rewrite that can be undone they are no local
        name, but an address of ours from before a repoint. They stay as they are.

        Args:
            connection: In the row's savepoint: if the text is not written, neither is anything here.
            address: The row.
            column: The text's column.
            current: What it holds.
            chain: Applied ledger rows of one batch on it, each with some of the photos.
            going: The photos.
        """
        walked = _walked(current, self._standing(connection, address, column))
        ours = [entry for entry in walked if entry.id in {each.id for each in chain}]
        if not ours or not isinstance(current, str):
            return current, [], set()
        # From the bottom up: ours and those of others that stand on them.
        above = [entry for entry in reversed(walked) if entry.id >= ours[-1].id]
        links = ledger.photos_of(connection, above)
        photos = self._photos(connection, {photo for each in above for photo in links[each.id]})
        leaving = {photo for each in ours for photo in links[each.id] if photo in going}
        places = self._places(address, column, above, photos)
        if places is None:
            return self._all_or_nothing(address, column, current, ours, above, links, photos, leaving)
        stuck = {photo for photo in leaving if not places.are_local(photo)}
        leaving -= stuck
        staying = {
            each.id: [photo for photo in links[each.id] if each not in ours or photo not in leaving]
            for each in above
        }
        texts = places.without(leaving)
        steps = list(zip(above, texts, texts[1:], strict=False))
        if not leaving or any(before != after for each, before, after in steps if not staying[each.id]):
            return current, [], set()  # Not by these steps alone: nobody can tell whose the rest is.
        for entry, before, after in steps:
            if staying[entry.id] and entry not in ours:
                self._close(connection, entry, batch=ours[0].batch)
            if before != after:
                left = entry in ours and stuck.issuperset(staying[entry.id])
                self._write_again(
                    connection, address, entry, staying[entry.id], before=before, after=after, left=left
                )
        return texts[-1], ours, stuck

    def _standing(self, connection: Connection, address: RowAddress, column: str) -> list[Any]:
        """Return every rewrite of the cell that may stand, the newest first: also those that were left."""
        columns = rewrite_table.c
        query = sa.select(rewrite_table).where(
            columns.row_id == row_id(address.source.name, address.row_key),
            columns.column == column,
            columns.outcome.in_([RewriteOutcome.APPLIED, RewriteOutcome.ROLLBACK_CONFLICT]),
        )
        return list(connection.execute(query.order_by(columns.id.desc())))

    def _photos(self, connection: Connection, ids: set[int]) -> dict[int, Any]:
        query = sa.select(photo_table).where(photo_table.c.id.in_(ids)).with_for_update()
        return {photo.id: photo for photo in connection.execute(query)}

    def _places(
        self, address: RowAddress, column: str, entries: Sequence[Any], photos: Mapping[int, Any]
    ) -> CellPlaces | None:
        """Return how each place of the photos was spelled before the entries and after each of them."""
        texts = [str(ledger.before_of(entries[0])), *(str(ledger.after_of(each)) for each in entries)]
        shown: dict[Name, list[Any]] = defaultdict(list)
        for photo in photos.values():
            if photo.value and photo.new_value:
                shown[photo.field, photo.new_value].append(photo)
        found = self._cells.mentions(address.source, column, texts[-1], shown)
        return CellPlaces.of(texts, [(mention.span, shown[mention.name]) for mention in found])

    def _all_or_nothing(
        self,
        address: RowAddress,
        column: str,
        current: raw.RawValue,
        ours: list[Any],
        above: Sequence[Any],
        links: Mapping[int, Sequence[int]],
        photos: Mapping[int, Any],
        leaving: Collection[int],
    ) -> tuple[raw.RawValue, list[Any], set[int]]:
        """Return the text before all of the entries, if none of their photos stays and it shows each."""
        base = ledger.before_of(ours[-1])
        names = [(photos[each].field, photos[each].value) for each in leaving if each in photos]
        if any(each not in ours or not set(links[each.id]).issubset(leaving) for each in above) or not all(
            self._cells.shows(address.source, column, base, name) for name in names
        ):
            return current, [], set()
        return base, ours, set()

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
        left: bool,
    ) -> None:
        again = ledger.entry(
            batch=entry.batch,
            run=entry.run,
            address=address,
            column=entry.column,
            photos=photos,
            outcome=RewriteOutcome.ROLLBACK_CONFLICT if left else RewriteOutcome(entry.outcome),
            before=before,
            after=after,
            reason=_LEFT if left else entry.reason,
        )
        ledger.record(connection, [again])


def _walked(value: raw.RawValue, standing: Sequence[Any]) -> list[Any]:
    """Return the rewrites that led to the value, the newest first (as `ledger.walk_back`).

    One that a rollback has left is among them while it still follows: what is below it can be reached.
    """
    found: list[Any] = []
    for entry in standing:
        if value == ledger.after_of(entry):
            value = ledger.before_of(entry)
            found.append(entry)
        elif entry.outcome == RewriteOutcome.APPLIED:
            break
    return found
