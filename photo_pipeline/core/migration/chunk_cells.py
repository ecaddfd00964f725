"""A chunk's plain rows column by column, as both kinds of database take them and as the ledger lists them.

How they are written is `postgres_chunk`'s and `sqlite_chunk`'s knowledge; what they become is `plain_rows`'s.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import repeat
from typing import Any

from sqlalchemy import Connection

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.tables import PhotoState
from photo_pipeline.core.migration.ledger_audit import WrittenEntries
from photo_pipeline.core.migration.many_rows import ManyRows
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.migration.plain_rows import PlainRow

LEDGER_COLUMNS = (
    *("id", "photo_id", "row_id", "row_key", "column"),
    *("before", "before_type", "after", "after_type"),
)
"""What tells one ledger row from another, in the order of `ChunkCells.entries`."""
COMMON_COLUMNS = ("batch", "source", "run", "outcome", "applied_at")
"""The rest of it, which is the same for the whole chunk."""


class UnusualError(Exception):
    """The database did not do to each row what was asked; fewer rows at once will tell which, and why."""


@dataclass(frozen=True)
class Written:
    """The rows that were set, and their ledger entries."""

    rows: list[PlainRow] = field(default_factory=list)
    entries: WrittenEntries = field(default_factory=WrittenEntries)

    def add(self, later: "Written") -> None:
        """Add what was written after this."""
        self.rows.extend(later.rows)
        self.entries.add(later.entries)


class ChunkWriter(ABC):
    """Sets plain rows, marks their photos as migrated, and writes the ledger, for one batch and run.

    Args:
        batch: The batch.
        run: The run.
        expected: The state that the photos must still be in, as they were when they were proven.
    """

    def __init__(self, *, batch: str, run: str, expected: PhotoState) -> None:
        self._batch = batch
        self._run = run
        self._expected = expected.value

    @abstractmethod
    def write(
        self, connection: Connection, source: str, many: ManyRows, rows: Sequence[PlainRow], now: datetime
    ) -> Written:
        """Write those rows of one source, each by compare-and-swap, and return those that were written.

        Left out, as if it had not been asked for, may be a row that is no longer as it was.

        Raises:
            UnusualError: some row or photo is not as it should be; the caller's savepoint must undo it all.
        """


@dataclass(frozen=True)
class ChunkCells:
    """Rows of which the same columns change and the same columns name photos.

    Attributes:
        rows: The rows.
        changed: The columns that change.
        named: The columns that name a photo, in the order of each row's photos.
        ids: By changed column and row, the id of the cell's ledger row; ascending.
        before: By changed column and row, what the cell held.
        after: The same, what it gets, and then what is stored.
    """

    rows: list[PlainRow]
    changed: tuple[str, ...]
    named: tuple[str, ...]
    ids: list[Sequence[int]]
    before: list[list[RawValue]]
    after: list[list[RawValue]]

    @classmethod
    def of(cls, rows: list[PlainRow], ids: Sequence[int]) -> "ChunkCells":
        """Return the cells of such rows, with as many ids."""
        changed, count = tuple(rows[0].changed), len(rows)
        return cls(
            rows,
            changed,
            tuple(rows[0].named),
            [ids[start : start + count] for start in range(0, len(ids), count)],
            [[row.before[name] for row in rows] for name in changed],
            [[row.changed[name] for row in rows] for name in changed],
        )

    def photos(self, i: int) -> list[Photo]:
        """Return each row's i-th photo."""
        return [row.photos[i] for row in self.rows]

    def shown(self, i: int) -> list[RawValue]:
        """Return what each row's i-th photo is shown as now."""
        name = self.named[i]
        if name in self.changed:
            return self.after[self.changed.index(name)]
        # A column that said the new value already was not set, and holds it all the same.
        return [row.before[name] for row in self.rows]

    def without(self, missing: frozenset[int]) -> "ChunkCells":
        """Return the cells of the rows whose first photo is not among the missing."""
        kept = [i for i, row in enumerate(self.rows) if row.photos[0].id not in missing]

        def picked(lists: Sequence[Sequence[Any]]) -> list[Any]:
            return [[values[i] for i in kept] for values in lists]

        rows = [self.rows[i] for i in kept]
        return ChunkCells(
            rows, self.changed, self.named, picked(self.ids), picked(self.before), picked(self.after)
        )

    def correct(self, place: int, stored: Sequence[RawValue]) -> None:
        """Put what one row's changed columns store in the place of what they were to get.

        Raises:
            UnusualError: a column that names a photo stores something else.
        """
        for name, after, value in zip(self.changed, self.after, stored, strict=True):
            if name in self.named and after[place] != value:
                raise UnusualError
            after[place] = value

    def entries(self) -> Iterator[tuple[Any, ...]]:
        """Return what `LEDGER_COLUMNS` says of each cell, by ascending ids."""
        first = self.photos(0)
        row_ids, row_keys = [photo.row_id for photo in first], [photo.row_key for photo in first]
        for i, name in enumerate(self.changed):
            photos = self.photos(self.named.index(name)) if name in self.named else []
            named = [photo.id for photo in photos] or repeat(None)
            texts = (*_encoded(self.before[i]), *_encoded(self.after[i]))
            yield from zip(self.ids[i], named, row_ids, row_keys, repeat(name), *texts, strict=False)


def groups(rows: Iterable[PlainRow]) -> list[list[PlainRow]]:
    """Return the rows in groups of which the same columns change and the same columns name photos."""
    found: dict[tuple[tuple[str, ...], ...], list[PlainRow]] = {}
    for row in rows:
        found.setdefault((tuple(row.changed), tuple(row.named)), []).append(row)
    return list(found.values())


def _encoded(cells: list[RawValue]) -> tuple[Iterable[str | None], Iterable[str]]:
    """Return the cells as the ledger has them, and their types."""
    if set(map(type, cells)) <= {str}:
        return cells, repeat("text")  # type: ignore[return-value]
    texts, types = zip(*map(raw.encode, cells), strict=True)
    return texts, types
