"""Which batches an operation takes, where nobody names them, and in which batches named photos are."""

from collections.abc import Sequence

import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import (
    BatchState,
    PhotoState,
    RewriteOutcome,
    batch_table,
    photo_table,
    rewrite_table,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration.lease import no_such_batch
from photo_pipeline.core.migration.state import batch_statuses


def batches_to_migrate(
    database: Database, *, wanted: Sequence[str] | None = None, retry_failed: bool = False
) -> list[str]:
    """Return the wanted batches, or all that are neither completed nor rolled (or rolling) back.

    Going forward again after a rollback is a decision: such a batch has to be named. With `retry_failed`,
    completed batches with quarantined photos count as open.

    Raises:
        ConfigurationError: a wanted batch does not exist.
    """
    if wanted:
        return _known(database, wanted)
    closed = (BatchState.COMPLETED, BatchState.ROLLED_BACK, BatchState.ROLLING_BACK)
    return [
        each.key
        for each in batch_statuses(database)
        if each.state not in closed or (retry_failed and each.photos.get(PhotoState.QUARANTINED))
    ]


def batches_to_roll_back(
    database: Database, *, wanted: Sequence[str] | None = None, config: PipelineConfig | None = None
) -> list[str]:
    """Return the wanted batches, or all with rewritten rows, the last migrated first.

    Also those whose rollback was interrupted when no row was left, which nobody else would close; with
    `config`, those too whose rows are back while a local file that they show is not.

    Raises:
        ConfigurationError: a wanted batch does not exist.
    """
    if wanted:
        return _known(database, wanted)
    columns, batch = rewrite_table.c, batch_table.c
    standing = (
        sa.select(columns.batch)
        .where(columns.outcome == RewriteOutcome.APPLIED)
        .group_by(columns.batch)
        .order_by(sa.func.max(columns.id).desc())
    )
    interrupted = sa.select(batch.key).where(batch.state == BatchState.ROLLING_BACK).order_by(batch.key)
    with database.read() as connection:
        keys = [*connection.execute(standing).scalars(), *connection.execute(interrupted).scalars()]
    return list(dict.fromkeys([*keys, *(_batches_without_their_files(database, config) if config else ())]))


def _batches_without_their_files(database: Database, config: PipelineConfig) -> list[str]:
    columns = photo_table.c
    query = (
        sa.select(columns.batch, columns.root, columns.path)
        .where(
            columns.state == PhotoState.ROLLED_BACK, columns.sha256.is_not(None), columns.batch.is_not(None)
        )
        .order_by(columns.batch)
    )
    # A root that is missing as a whole looks like an unmounted disk.
    roots = {root.name: root.dir for root in config.roots if root.dir.is_dir()}
    found: dict[str, None] = {}
    with database.read() as connection:
        for batch, root, path in connection.execute(query):
            if batch not in found and root in roots and not (roots[root] / path).exists():
                found[batch] = None
    return list(found)


def batches_to_validate(database: Database, *, wanted: Sequence[str] | None = None) -> list[str]:
    """Return the wanted batches, or all that have migrated photos.

    Raises:
        ConfigurationError: a wanted batch does not exist.
    """
    if wanted:
        return _known(database, wanted)
    done = (PhotoState.MIGRATED, PhotoState.STORED)
    return [each.key for each in batch_statuses(database) if any(each.photos.get(state) for state in done)]


def batches_to_rehearse(database: Database, *, wanted: Sequence[str] | None = None) -> list[str]:
    """Return the wanted batches, or the first of each kind: migrated, and not migrated yet.

    Raises:
        ConfigurationError: a wanted batch does not exist.
    """
    if wanted:
        return _known(database, wanted)
    statuses = batch_statuses(database)
    forward = (PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED)
    migrated = [each.key for each in statuses if each.photos.get(PhotoState.MIGRATED)]
    waiting = [each.key for each in statuses if any(each.photos.get(state) for state in forward)]
    return list(dict.fromkeys([*migrated[:1], *waiting[:1]]))


def batches_never_validated(database: Database) -> list[str]:
    """Return the batches with migrated photos none of which was validated since its rewrite."""
    photo = photo_table.c
    with database.read() as connection:
        keys = connection.execute(
            sa.select(photo.batch)
            .where(photo.state.in_([PhotoState.MIGRATED, PhotoState.STORED]), photo.batch.is_not(None))
            .group_by(photo.batch)
            .having(sa.func.count(photo.validated_at) == 0)
            .order_by(photo.batch)
        )
        return list(keys.scalars())


def locate_photos(database: Database, photos: Sequence[int]) -> dict[str, list[int]]:
    """Return the photos by the batch they are in.

    Raises:
        ConfigurationError: one of them does not exist or is in no batch.
    """
    columns = photo_table.c
    with database.read() as connection:
        rows = connection.execute(
            sa.select(columns.id, columns.batch).where(columns.id.in_(photos), columns.batch.is_not(None))
        ).all()
    missing = sorted(set(photos) - {row.id for row in rows})
    if missing:
        raise ConfigurationError(
            f"photo {missing[0]}", cause="no batch has it", fix="ids are in the report's photos.csv"
        )
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(row.batch, []).append(row.id)
    return found


def locate_with_copies(
    database: Database, config: PipelineConfig, photos: Sequence[int]
) -> dict[str, list[int]]:
    """Return the photos, and the migrated copies of those that are their row's primary, by batch.

    A copy names its row's primary photo: left behind, it would show a photo that the row no longer shows.

    Raises:
        ConfigurationError: one of them does not exist or is in no batch.
    """
    columns = photo_table.c
    wanted = [photo for members in locate_photos(database, photos).values() for photo in members]
    with database.read() as connection:
        query = sa.select(columns.row_id, columns.source, columns.field).where(columns.id.in_(wanted))
        rows = [
            row.row_id
            for row in connection.execute(query)
            if config.source(row.source).primary_field == row.field
        ]
        copies = sa.select(columns.id).where(
            columns.row_id.in_(rows), columns.role == "variant", columns.state == PhotoState.MIGRATED
        )
        wanted += connection.execute(copies.order_by(columns.id)).scalars()
    return locate_photos(database, list(dict.fromkeys(wanted)))


def _known(database: Database, wanted: Sequence[str]) -> list[str]:
    known = {each.key for each in batch_statuses(database)}
    unknown = [key for key in wanted if key not in known]
    if unknown:
        raise no_such_batch(unknown[0], sorted(known))
    return list(wanted)
