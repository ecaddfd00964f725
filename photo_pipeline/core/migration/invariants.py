"""Statements that must hold in the state tables and the application's rows, each computed afresh.

Used by Dagster's asset checks and by tests. Reads only; repairs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.inventory import last_inventory
from photo_pipeline.core.catalog.tables import (
    GONE,
    PhotoClass,
    PhotoState,
    object_table,
    photo_table,
    quality_table,
    validation_table,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.photos import batch_photos
from photo_pipeline.core.migration.proof import ready_photos

_SAMPLE = 5


@dataclass(frozen=True)
class Invariant:
    """One statement, how many things it was checked on, what violates it, and numbers worth following."""

    statement: str
    checked: int
    violations: int
    sample: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether nothing violates the statement."""
        return self.violations == 0


def classes_add_up(database: Database) -> Invariant:
    """Return whether the last inventory put each reference and each file into exactly one class."""
    inventory = last_inventory(database)
    statement = "The classes add up to the references and the unreferenced files."
    if inventory is None:
        return Invariant(statement, 0, 1, "there was no inventory yet")
    total = sum(inventory.by_class.values())
    expected = inventory.references + inventory.unreferenced_files
    files = inventory.referenced_files + inventory.unreferenced_files
    return Invariant(
        statement,
        total,
        abs(total - expected) + abs(files - inventory.files),
        f"{total} in classes, {expected} counted; {files} files in classes, {inventory.files} on disk",
    )


def every_match_is_batched(database: Database) -> Invariant:
    """Return whether each matched photo has a checksum and a batch, or a reason why not."""
    photo = photo_table.c
    matched = sa.and_(photo["class"] == PhotoClass.MATCHED, photo.state.not_in(GONE))
    unexplained = sa.and_(
        sa.or_(photo.batch.is_(None), photo.sha256.is_(None)), photo.state != PhotoState.QUARANTINED
    )
    return _count(
        database,
        "Each matched photo has a checksum and a batch, or stands in quarantine with a reason.",
        matched,
        unexplained,
    )


def every_photo_is_uploaded_or_explained(database: Database, batch: str) -> Invariant:
    """Return whether no photo of the batch is left behind without a reason after the upload."""
    photo = photo_table.c
    left = photo.state.in_([PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.FOUND])
    return _count(
        database,
        "Each photo of the batch has all its objects proven in the store, or a reason why not.",
        photo.batch == batch,
        sa.and_(left, photo["class"] == PhotoClass.MATCHED),
    )


def every_rewritten_row_is_backed(database: Database, config: PipelineConfig, batch: str) -> Invariant:
    """Return whether each migrated photo of the batch has every object that it needs proven (rule 1)."""
    migrated = batch_photos(database, batch, (PhotoState.MIGRATED, PhotoState.STORED))
    backed = {photo.id for photo in ready_photos(database, config, migrated)}
    dangling = [photo.path for photo in migrated if photo.id not in backed]
    return Invariant(
        "No rewritten row points to an object that is not proven in the store.",
        len(migrated),
        len(dangling),
        _sample(dangling),
    )


def every_score_is_above_the_floor(database: Database, config: PipelineConfig, batch: str) -> Invariant:
    """Return whether no measured variant of the batch's photos, whoever measured it, is below the floor."""
    quality, stored, photo = quality_table.c, object_table.c, photo_table.c
    query = (
        sa.select(quality.score, stored.format, sa.func.min(photo.path).label("path"))
        .join(object_table, sa.and_(stored.bucket == quality.bucket, stored.key == quality.key))
        .join(photo_table, photo.sha256 == stored.source_sha256)
        .where(quality.bucket == config.store.bucket, quality.score.is_not(None), stored.deleted_at.is_(None))
        .where(photo.batch == batch, photo.role != "variant")
        .group_by(quality.key, quality.score, stored.format)
        .order_by(quality.score, quality.key)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    below = [f"{row.path} ({row.format}) {row.score:.1f}" for row in rows if row.score < config.quality.floor]
    return Invariant(
        f"No measured variant looks worse than the floor of {config.quality.floor:g} points.",
        len(rows),
        len(below),
        _sample(below),
        {"worst_score": rows[0].score} if rows else {},
    )


def validation_passed(database: Database, batch: str) -> Invariant:
    """Return whether every photo passed that the batch's validation looked at and that is still migrated."""
    columns = validation_table.c
    query = (
        sa.select(columns.ok, columns.photo_id, columns.problems)
        .join(photo_table, photo_table.c.id == columns.photo_id)
        .where(columns.batch == batch, photo_table.c.state.in_([PhotoState.MIGRATED, PhotoState.STORED]))
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    failed = [f"photo {row.photo_id}: {'; '.join(row.problems)}" for row in rows if not row.ok]
    return Invariant(
        "Each validated photo is delivered intact by the CDN.", len(rows), len(failed), _sample(failed)
    )


def _count(
    database: Database,
    statement: str,
    scope: sa.ColumnElement[bool],
    violated: sa.ColumnElement[bool],
) -> Invariant:
    photo = photo_table.c
    with database.read() as connection:
        checked = connection.execute(sa.select(sa.func.count()).where(scope)).scalar_one()
        bad = sa.select(photo.path).where(scope, violated)
        count = connection.execute(sa.select(sa.func.count()).select_from(bad.subquery())).scalar_one()
        sample = list(connection.execute(bad.order_by(photo.id).limit(_SAMPLE)).scalars())
    return Invariant(statement, int(checked), int(count), _sample(sample))


def _sample(names: Sequence[str]) -> str:
    return ", ".join(str(name) for name in names[:_SAMPLE])
