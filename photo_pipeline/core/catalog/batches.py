"""Groups matched photos into batches. A photo's batch never changes; later photos go to new batches."""

from array import array
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import (
    GONE,
    BatchState,
    PhotoClass,
    PhotoState,
    batch_table,
    photo_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig

_CHUNK = 1_000
_STREAMED = 5_000


@dataclass(frozen=True)
class Batches:
    """All batch keys in the order in which they should run, and those that are new."""

    keys: tuple[str, ...]
    new: tuple[str, ...]


def batch_key(number: int) -> str:
    """Return the key of batch `number`, which is also its Dagster partition key (no commas: facts A1)."""
    return f"batch-{number:06d}"


def assign_batches(database: Database, config: PipelineConfig) -> Batches:
    """Put every matched photo without a batch into a new one, and reopen batches that have work again.

    Order: sources as the configuration lists them, then each entity's first photos, then newest files.
    All photo fields of one row share a batch, because one UPDATE rewrites the row.
    """
    with database.write() as connection:
        last = connection.execute(sa.select(sa.func.max(batch_table.c.key))).scalar_one()
        first_number = int(last.removeprefix("batch-")) + 1 if last else 1
        new = _assign_leaders(connection, config, first_number)
        _let_rows_follow(connection)
        _quarantine_leaderless(connection)
        _reopen(connection)
        keys = connection.execute(
            sa.select(batch_table.c.key).order_by(batch_table.c.priority, batch_table.c.key)
        ).scalars()
        return Batches(tuple(keys), tuple(new))


def _waiting() -> list[sa.ColumnElement[bool]]:
    photo = photo_table.c
    return [photo["class"] == PhotoClass.MATCHED, photo.state == PhotoState.PENDING, photo.batch.is_(None)]


def _assign_leaders(connection: Connection, config: PipelineConfig, first_number: int) -> list[str]:
    """Give each row's leading photo a batch; return the new batch keys."""
    photo = photo_table.c
    rank = sa.case({source.name: i for i, source in enumerate(config.sources)}, value=photo.source, else_=999)
    leader = (
        sa.select(sa.func.min(photo.id)).where(*_waiting(), photo.role != "variant").group_by(photo.row_id)
    )
    ordered = (
        sa.select(photo.id)
        .where(photo.id.in_(leader), ~_row_has_batch())
        .order_by(rank, photo.position.is_(None), photo.position, photo.mtime_ns.desc(), photo.id)
    )
    # Streamed into 8 bytes each: a million waiting photos are 8 MB, and not 90.
    streamed = connection.execute(ordered, execution_options={"yield_per": _STREAMED})
    ids = array("q", streamed.scalars())
    size = config.batches.size
    keys: list[str] = []
    for start in range(0, len(ids), size):
        key = batch_key(first_number + len(keys))
        members = ids[start : start + size]
        _create(connection, key, priority=first_number + len(keys), photos=len(members))
        for offset in range(0, len(members), _CHUNK):
            connection.execute(
                sa.update(photo_table)
                .where(photo.id.in_(members[offset : offset + _CHUNK]))
                .values(batch=key, updated_at=utc_now())
            )
        keys.append(key)
    return keys


def _row_has_batch() -> sa.ColumnElement[bool]:
    other = photo_table.alias("other")
    return sa.exists().where(
        other.c.row_id == photo_table.c.row_id,
        other.c.batch.is_not(None),
        other.c.role != "variant",
        other.c.state.not_in([*GONE, PhotoState.MIGRATED]),
    )


def _create(connection: Connection, key: str, *, priority: int, photos: int) -> None:
    now = utc_now()
    connection.execute(
        sa.insert(batch_table).values(
            key=key,
            state=BatchState.PENDING,
            priority=priority,
            photos=photos,
            lease_token=0,
            created_at=now,
            updated_at=now,
        )
    )


def _let_rows_follow(connection: Connection) -> None:
    """Put the other fields of a row where its leading photo is."""
    leading = photo_table.alias("leading")
    batch = (
        sa.select(sa.func.max(leading.c.batch))
        .where(
            leading.c.row_id == photo_table.c.row_id,
            leading.c.role != "variant",
            leading.c.state.not_in(GONE),
        )
        .scalar_subquery()
    )
    connection.execute(sa.update(photo_table).where(*_waiting()).values(batch=batch))


def _quarantine_leaderless(connection: Connection) -> None:
    """A resized copy is migrated with its row's primary photo; without one it stays, and is reported."""
    connection.execute(
        sa.update(photo_table)
        .where(*_waiting())
        .values(
            state=PhotoState.QUARANTINED,
            error_type="primary_unavailable",
            error_detail="the row's primary photo is not matched, so there is nothing to make this copy from",
            updated_at=utc_now(),
        )
    )


def _reopen(connection: Connection) -> None:
    has_work = sa.exists().where(
        photo_table.c.batch == batch_table.c.key, photo_table.c.state == PhotoState.PENDING
    )
    connection.execute(
        sa.update(batch_table)
        .where(batch_table.c.state == BatchState.COMPLETED, has_work)
        .values(state=BatchState.PENDING, updated_at=utc_now())
    )
