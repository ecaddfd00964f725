"""What is wrong now: one function per kind of alert, read from the state tables, and the list of them.

Spending is `cost_conditions`. Each gets the opened installation and yields what holds; a new one is a
function here and a name in CONDITIONS. Failed runs are no condition: Dagster's sensor `run_failures` reports
them.
"""

from collections.abc import Callable, Iterator
from typing import Final

import sqlalchemy as sa

from photo_pipeline.core.alerts import cost_conditions
from photo_pipeline.core.alerts.alert import Alert, AlertKind
from photo_pipeline.core.alerts.recent import ENOUGH
from photo_pipeline.core.alerts.situation import Situation
from photo_pipeline.core.alerts.slow_checks import AUDIT, DRIFT, found_by
from photo_pipeline.core.catalog.fence import MIGRATION
from photo_pipeline.core.catalog.tables import (
    BatchState,
    Control,
    PhotoClass,
    PhotoState,
    batch_table,
    migration_table,
    photo_table,
    validation_table,
)
from photo_pipeline.core.migration.watch import read_wish

_SHOWN = 3


def held_back_migration(situation: Situation) -> Iterator[Alert]:
    """Batches that the cost guard has paused, where no person wants a pause."""
    batch = batch_table.c
    with situation.database.read() as connection:
        if read_wish(connection).control is not Control.RUNNING:
            return
        paused = connection.execute(
            sa.select(batch.key, batch.error).where(batch.state == BatchState.PAUSED).order_by(batch.key)
        ).all()
    if paused:
        yield Alert(
            AlertKind.MIGRATION_HELD_BACK,
            "the migration",
            f"The migration is paused by the cost guard: {len(paused):,} batches wait",
            f"{paused[0].key}: {paused[0].error or 'it was stopped between two photos'}",
        )


def failing_photos(situation: Situation) -> Iterator[Alert]:
    """Too many of the last photos are quarantined or in conflict."""
    threshold = situation.config.alerts.failure_rate
    if threshold is None:
        return
    recent = situation.recent_photos
    if recent.photos >= ENOUGH and recent.failure_rate > threshold:
        reasons = ", ".join(f"{count:,} {name}" for name, count in recent.reasons.most_common(_SHOWN))
        yield Alert(
            AlertKind.FAILURE_RATE,
            "photos",
            f"{recent.failure_rate:.0%} of the last {recent.photos:,} photos failed",
            f"{recent.failed:,} of {recent.photos:,} in the last 24 hours, and {threshold:.0%} is the limit "
            f"(alerts.failure_rate). Reasons: {reasons}. Each photo and what to do: photo-pipeline report",
        )


def slow_photos(situation: Situation) -> Iterator[Alert]:
    """The slowest twentieth of the last photos takes too long."""
    threshold = situation.config.alerts.slow_photo_s
    if threshold is None:
        return
    recent = situation.recent_photos
    p95 = recent.seconds_p95
    if p95 is not None and p95 > threshold:
        yield Alert(
            AlertKind.SLOW_PHOTOS,
            "photos",
            f"Photos are slow: one in twenty takes more than {p95:.1f} s",
            f"The 95th percentile of the last {len(recent.seconds):,} photos is {p95:.1f} s, and "
            f"{threshold:g} s is the limit (alerts.slow_photo_s). Larger photos than usual, a busy machine, "
            "or images.<preset>.effort: quality are the usual reasons.",
        )


def failed_validations(situation: Situation) -> Iterator[Alert]:
    """Migrated photos that the last look at them found wrong: missing objects, drift, bit rot."""
    photo, checked = photo_table.c, validation_table.c
    wrong = (checked.ok.is_(False), photo.id == checked.photo_id, photo.state == PhotoState.MIGRATED)
    with situation.database.read() as connection:
        count = connection.execute(sa.select(sa.func.count()).where(*wrong)).scalar_one()
        if not count:
            return
        sample = connection.execute(
            sa.select(photo.path, checked.problems).where(*wrong).order_by(photo.id).limit(_SHOWN)
        ).all()
    shown = "\n".join(f"{row.path}: {'; '.join(row.problems)}" for row in sample)
    yield Alert(
        AlertKind.VALIDATION,
        "migrated photos",
        f"{count:,} migrated photos are not as they should be",
        f"{shown}\nAll of them: photo-pipeline report. Look again with: photo-pipeline validate",
        level=count,
    )


def paths_outside_roots(situation: Situation) -> Iterator[Alert]:
    """Rows or links that name files outside the roots: a mistake in the mapping, or somebody's attack."""
    photo, migration = photo_table.c, migration_table.c
    mine = migration.name == MIGRATION
    with situation.database.read() as connection:
        row = connection.execute(
            sa.select(migration.last_scan, migration.inventory).where(mine)
        ).one_or_none()
        if row is None or not row.inventory:
            return
        # The inventory's own totals: counting again would look at a million photos each minute.
        count = row.inventory["by_class"].get(PhotoClass.OUTSIDE_ROOT, 0)
        if not count:
            return
        sample = connection.execute(
            sa.select(photo.path, photo.value, photo.class_detail)
            .where(photo.scan == row.last_scan, photo["class"] == PhotoClass.OUTSIDE_ROOT)
            .order_by(photo.id)
            .limit(_SHOWN)
        ).all()
    shown = "\n".join(f"{each.value or each.path}: {each.class_detail or 'outside'}" for each in sample)
    yield Alert(
        AlertKind.OUTSIDE_ROOTS,
        "paths",
        f"{count:,} paths lead outside the roots; none of them was followed",
        f"{shown}\nAll of them are in the report. If they are meant, add a root; if not, find out who "
        "wrote them.",
        level=count,
    )


def broken_audit_log(situation: Situation) -> Iterator[Alert]:
    """The audit log, or the ledger that it vouches for, is not what was recorded."""
    found = found_by(situation.database, AUDIT)
    if found.findings and situation.config.alerts.audit_hours is not None:
        yield Alert(
            AlertKind.AUDIT_LOG,
            "the audit log",
            "The audit log is broken: somebody or something has changed what was recorded",
            f"{found.detail} Look yourself: photo-pipeline audit verify",
        )


def provisioning_drift(situation: Situation) -> Iterator[Alert]:
    """Bucket, CDN, alarms or budget are not as configured."""
    found = found_by(situation.database, DRIFT)
    if found.findings and situation.config.alerts.drift_hours is not None:
        yield Alert(
            AlertKind.PROVISIONING_DRIFT,
            "the infrastructure",
            f"The infrastructure is not as configured: {found.findings:,} differences",
            f"{found.detail}\nEach value: photo-pipeline provision drift",
            level=found.findings,
        )


CONDITIONS: Final[tuple[Callable[[Situation], Iterator[Alert]], ...]] = (
    cost_conditions.near_limits,
    cost_conditions.suspended_uploads,
    cost_conditions.projected_limits,
    cost_conditions.account_near_limits,
    held_back_migration,
    failing_photos,
    slow_photos,
    failed_validations,
    paths_outside_roots,
    broken_audit_log,
    provisioning_drift,
)


def find_conditions(situation: Situation) -> list[Alert]:
    """Return everything that is wrong now.

    Raises:
        DatabaseError: the database does not answer.
    """
    return [alert for condition in CONDITIONS for alert in condition(situation)]
