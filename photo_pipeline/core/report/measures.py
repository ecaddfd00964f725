"""What the state tables say in numbers: states, objects, rewrites, validations, store, times.

Pure reads, each one statement over an open connection. Bytes are `sizes`; what deserves a person's
attention is `findings`.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import (
    PhotoState,
    RewriteOutcome,
    object_table,
    photo_table,
    rewrite_table,
    store_table,
    validation_table,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.storage.probe import remembered_answers


@dataclass(frozen=True)
class Objects:
    """The objects in the store; `verified_by` counts the proven ones by method."""

    total: int = 0
    verified_by: dict[str, int] | None = None

    @property
    def verified(self) -> int:
        """How many are proven."""
        return sum((self.verified_by or {}).values())


@dataclass(frozen=True)
class Rewrites:
    """The ledger's photo columns by what became of them; repeated attempts count each time."""

    applied: int = 0
    conflicts: int = 0
    failed: int = 0
    rolled_back: int = 0
    rollback_conflicts: int = 0


@dataclass(frozen=True)
class Validation:
    """The last validation of each photo that is migrated now."""

    passed: int = 0
    failed: int = 0
    unchecked: int = 0


@dataclass(frozen=True)
class StoreAnswers:
    """What the probe saw one store do, and how objects are proven there because of it."""

    endpoint: str
    bucket: str
    rejects_wrong_checksum: bool
    reports_checksum: bool
    honours_if_none_match: bool
    reports_md5: bool
    honours_if_match: bool
    verification: str
    sentence: str
    probed_at: datetime


@dataclass(frozen=True)
class Times:
    """When things happened (UTC); None for what has not happened."""

    inventoried_at: datetime | None = None
    first_variant_at: datetime | None = None
    last_variant_at: datetime | None = None
    first_upload_at: datetime | None = None
    last_upload_at: datetime | None = None
    first_rewrite_at: datetime | None = None
    last_rewrite_at: datetime | None = None
    first_rollback_at: datetime | None = None
    last_rollback_at: datetime | None = None
    first_validation_at: datetime | None = None
    last_validation_at: datetime | None = None

    @property
    def spans(self) -> list[tuple[str, datetime, datetime]]:
        """What went on from when to when, of what has happened at all."""
        known = (
            ("Variants made", self.first_variant_at, self.last_variant_at),
            ("Uploads", self.first_upload_at, self.last_upload_at),
            ("Rows rewritten", self.first_rewrite_at, self.last_rewrite_at),
            ("Validation", self.first_validation_at, self.last_validation_at),
            ("Rollbacks", self.first_rollback_at, self.last_rollback_at),
        )
        return [(name, first, last) for name, first, last in known if first and last]


def photo_states(connection: Connection) -> dict[str, int]:
    """Return how many rows of `pp_photo` are in each state, every state named."""
    grouped = sa.select(photo_table.c.state, sa.func.count()).group_by(photo_table.c.state)
    return {str(each): 0 for each in PhotoState} | counted(connection, grouped)


def objects(connection: Connection, config: PipelineConfig) -> Objects:
    """Return how many objects there are and how they were proven."""
    stored = object_table.c
    there = (stored.bucket == config.store.bucket, stored.deleted_at.is_(None))
    total = connection.execute(
        sa.select(sa.func.count()).select_from(object_table).where(*there)
    ).scalar_one()
    by_method = (
        sa.select(stored.verified_by, sa.func.count())
        .where(*there, stored.verified_at.is_not(None))
        .group_by(stored.verified_by)
    )
    return Objects(total=int(total), verified_by=counted(connection, by_method))


def rewrites(connection: Connection) -> Rewrites:
    """Return the ledger's outcomes."""
    ledger = rewrite_table.c
    counts = counted(
        connection,
        sa.select(ledger.outcome, sa.func.count())
        .where(ledger.photo_id.is_not(None))
        .group_by(ledger.outcome),
    )
    return Rewrites(
        applied=counts.get(RewriteOutcome.APPLIED, 0),
        conflicts=counts.get(RewriteOutcome.CONFLICT, 0),
        failed=counts.get(RewriteOutcome.FAILED, 0),
        rolled_back=counts.get(RewriteOutcome.ROLLED_BACK, 0),
        rollback_conflicts=counts.get(RewriteOutcome.ROLLBACK_CONFLICT, 0),
    )


def validation(connection: Connection) -> Validation:
    """Return the results for the photos that are migrated now."""
    photo, checked = photo_table.c, validation_table.c
    grouped = (
        sa.select(checked.ok, sa.func.count())
        .select_from(photo_table.outerjoin(validation_table, checked.photo_id == photo.id))
        .where(photo.state == PhotoState.MIGRATED)
        .group_by(checked.ok)
    )
    counts = {row[0]: int(row[1]) for row in connection.execute(grouped)}
    return Validation(counts.get(True, 0), counts.get(False, 0), counts.get(None, 0))


def store_answers(connection: Connection) -> tuple[StoreAnswers, ...]:
    """Return the probe's answers for every store that was asked."""
    query = sa.select(store_table).order_by(store_table.c.endpoint, store_table.c.bucket)
    return tuple(_answers(row) for row in connection.execute(query))


def _answers(row: Any) -> StoreAnswers:
    probe = remembered_answers(row)
    return StoreAnswers(
        endpoint=row.endpoint,
        bucket=row.bucket,
        **asdict(probe),
        verification=probe.verification,
        sentence=probe.sentence,
        probed_at=row.probed_at,
    )


def times(connection: Connection, inventoried_at: datetime | None) -> Times:
    """Return when the steps ran."""
    stored, ledger, checked = object_table.c, rewrite_table.c, validation_table.c
    first, last = sa.func.min, sa.func.max
    made = connection.execute(
        sa.select(
            *(step(instant) for instant in (stored.made_at, stored.uploaded_at) for step in (first, last))
        )
    ).one()
    written = connection.execute(
        sa.select(
            *(
                step(instant)
                for instant in (ledger.applied_at, ledger.rolled_back_at)
                for step in (first, last)
            )
        )
    ).one()
    validated = connection.execute(sa.select(first(checked.checked_at), last(checked.checked_at))).one()
    instants: list[datetime | None] = [inventoried_at, *made, *written, *validated]
    return Times(*instants)


def counted(connection: Connection, grouped: sa.Select[Any]) -> dict[str, int]:
    """Return the counts of a query for (name, count) rows."""
    return {str(row[0]): int(row[1]) for row in connection.execute(grouped)}
