"""The rewrite ledger, and the one place where application rows are changed.

Every change is a compare-and-swap on the values read, and its ledger rows are written in the same
transaction (DESIGN rules 3 and 4). Which values to write is decided by `rewrite` and `rollback`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.column_types import misfit
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.rows import RowAddress, row_id
from photo_pipeline.core.catalog.tables import (
    RewriteOutcome,
    rewrite_photo_table,
    rewrite_table,
    utc_now,
)

# SQLite before 3.32 takes 999 parameters per statement.
_IDS_PER_QUERY = 500


class RowRefusedError(Exception):
    """The row cannot take the change; the transaction's savepoint undoes what was tried."""


@dataclass(frozen=True)
class Entry:
    """One ledger row to be written, and the photos that the cell names (none for a written-back fact)."""

    row: dict[str, Any]
    photos: tuple[int, ...]


def swap(
    connection: Connection,
    address: RowAddress,
    *,
    before: Mapping[str, RawValue],
    after: Mapping[str, RawValue],
) -> bool:
    """Set the row's columns to `after` if each of `before` still holds; return whether it did.

    Raises:
        RowRefusedError: the key found several rows, or the database stored something else than was asked
            (a truncating or converting column).
    """
    columns = address.table.columns
    same = [raw.equals(columns[name], before[name], is_sqlite=address.is_sqlite) for name in after]
    values = {
        columns[name]: raw.write_expression(columns[name], value, is_sqlite=address.is_sqlite)
        for name, value in after.items()
    }
    done = connection.execute(sa.update(address.table).where(*address.condition(), *same).values(values))
    if done.rowcount == 0:
        return False
    if done.rowcount != 1:
        raise RowRefusedError(f"the key finds {done.rowcount} rows")
    return True


def require_text(address: RowAddress, stored: Mapping[str, RawValue], wanted: Mapping[str, RawValue]) -> None:
    """Check that text columns hold exactly what was written.

    Raises:
        RowRefusedError: a column changed the value on its way in.
    """
    for name, value in wanted.items():
        if isinstance(value, str) and stored[name] != value:
            raise RowRefusedError(f"column {name!r} of {address.table.name!r} stored {stored[name]!r}")


def check_fits(address: RowAddress, name: str, value: RawValue) -> None:
    """Check, before writing, that a value fits its column's declared length and type.

    Raises:
        RowRefusedError: it does not.
    """
    reason = misfit(address.table.columns[name], value, is_sqlite=address.is_sqlite)
    if reason:
        raise RowRefusedError(reason)


def entry(
    *,
    batch: str,
    run: str,
    address: RowAddress,
    column: str,
    photos: Sequence[int],
    outcome: RewriteOutcome,
    before: RawValue = None,
    after: RawValue = None,
    reason: str | None = None,
) -> Entry:
    """Return one row for `pp_rewrite`, with the photos whose values the column holds."""
    before_text, before_type = raw.encode(before)
    after_text, after_type = raw.encode(after)
    row = {
        "batch": batch,
        "photo_id": photos[0] if photos else None,
        "source": address.source.name,
        "row_id": row_id(address.source.name, address.row_key),
        "row_key": address.row_key,
        "column": column,
        "before": before_text,
        "before_type": before_type,
        "after": after_text,
        "after_type": after_type,
        "run": run,
        "outcome": outcome,
        "reason": reason,
        "applied_at": utc_now() if outcome is RewriteOutcome.APPLIED else None,
    }
    return Entry(row, tuple(photos))


def record(connection: Connection, entries: list[Entry]) -> None:
    """Write ledger rows and their links to photos, in the caller's transaction.

    A cell's only photo is in its ledger row: no link repeats it.
    """
    if not entries:
        return
    statement = sa.insert(rewrite_table).returning(rewrite_table.c.id, sort_by_parameter_order=True)
    ids = connection.execute(statement, [entry.row for entry in entries]).scalars()
    links = [
        {"rewrite_id": rewrite_id, "photo_id": photo_id}
        for rewrite_id, entry in zip(ids, entries, strict=True)
        if len(entry.photos) > 1
        for photo_id in entry.photos
    ]
    if links:
        connection.execute(sa.insert(rewrite_photo_table), links)


def photos_of(connection: Connection, entries: Sequence[Any]) -> dict[int, tuple[int, ...]]:
    """Return, by the id of each ledger row, the photos whose values its column holds; none for a fact."""
    columns = rewrite_photo_table.c
    found: dict[int, list[int]] = {entry.id: [] for entry in entries}
    ids = list(found)
    for start in range(0, len(ids), _IDS_PER_QUERY):
        chunk = ids[start : start + _IDS_PER_QUERY]
        query = sa.select(columns.rewrite_id, columns.photo_id).where(columns.rewrite_id.in_(chunk))
        for rewrite_id, photo_id in connection.execute(query.order_by(columns.photo_id)):
            found[rewrite_id].append(photo_id)
    return {
        entry.id: tuple(found[entry.id]) or ((entry.photo_id,) if entry.photo_id is not None else ())
        for entry in entries
    }


def before_of(entry: Any) -> RawValue:
    """Return the value that a ledger row's column had before the rewrite."""
    return raw.decode(entry.before, entry.before_type)


def after_of(entry: Any) -> RawValue:
    """Return the value that a ledger row's column had after the rewrite."""
    return raw.decode(entry.after, entry.after_type)


def walk_back(value: RawValue, chain: Sequence[Any]) -> tuple[RawValue, list[Any]]:
    """Undo rewrites of one cell, as far as they follow from each other.

    Args:
        value: What the cell holds.
        chain: Its ledger rows, the newest first.

    Returns:
        The value before the oldest rewrite that was undone, and the rewrites that were. It stops where the
        application wrote a value of its own in between: that one is to be kept.
    """
    undone: list[Any] = []
    for entry in chain:
        if value != after_of(entry):
            break
        value = before_of(entry)
        undone.append(entry)
    return value, undone
