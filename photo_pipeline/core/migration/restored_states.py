"""Notes in the state tables, where they are there, what a restore has set back."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import (
    BatchState,
    PhotoState,
    RewriteOutcome,
    batch_table,
    photo_table,
    rewrite_table,
    utc_now,
)
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.state import refresh_migration
from photo_pipeline.core.migration.watch import read_wish


def settle_row(connection: Connection, row: str, columns: Sequence[str]) -> set[str]:
    """Note in the ledger and the catalog, where they are there, that the cells are local again.

    Returns:
        The batches whose rewrites that ended.
    """
    rewrite, photo = rewrite_table.c, photo_table.c
    ended = (
        rewrite.row_id == row,
        rewrite.column.in_(columns),
        rewrite.outcome == RewriteOutcome.APPLIED,
    )
    # By the ledger: in mode columns, and of a computed field, the photo's own column is none of these.
    entries = connection.execute(sa.select(rewrite_table).where(*ended)).all()
    links = ledger.photos_of(connection, entries)
    photos = [each for linked in links.values() for each in linked]
    connection.execute(
        sa.update(rewrite_table)
        .where(*ended)
        .values(outcome=RewriteOutcome.ROLLED_BACK, rolled_back_at=utc_now(), reason="restored from a backup")
    )
    connection.execute(
        sa.update(photo_table)
        .where(photo.id.in_(photos), photo.state == PhotoState.MIGRATED)
        .values(state=PhotoState.ROLLED_BACK, error_type=None, error_detail=None, updated_at=utc_now())
    )
    return {entry.batch for entry in entries}


def settle_batches(connection: Connection, batches: Collection[str]) -> None:
    """Close those of the batches that have no rewritten row left.

    Others that have none may be on their way forward again.
    """
    rewrite, batch = rewrite_table.c, batch_table.c
    standing = sa.exists().where(rewrite.batch == batch.key, rewrite.outcome == RewriteOutcome.APPLIED)
    read_wish(connection, lock=True)
    for key in sorted(batches):
        connection.execute(
            sa.update(batch_table)
            .where(batch.key == key, ~standing)
            .values(state=BatchState.ROLLED_BACK, error=None, updated_at=utc_now())
        )
    refresh_migration(connection)
