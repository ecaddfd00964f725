"""Deletes photos as their confirmed plan says: first their rows' references, then what is theirs alone in S3.

In this order, so that at no instant a row names an object that is gone. What is confirmed is written down
before the first change; an interrupted deletion goes on when the same token is confirmed again. How rows
are changed is in `deletion_rows`, how objects go in `deletion_objects`, the way back in `deletion_undo`.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from photo_pipeline.core import audit
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import (
    DeletionState,
    deleted_object_table,
    deleted_row_table,
    deletion_table,
    utc_now,
)
from photo_pipeline.core.cleanup.deletion_objects import ObjectDeletion
from photo_pipeline.core.cleanup.deletion_plan import DeletionPlan, Selection, plan_deletion
from photo_pipeline.core.cleanup.deletion_rows import RowDeletion
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.store import PhotoStore


@dataclass
class DeletionOutcome:
    """What a deletion has done by now.

    `kept` says of rows and objects that stay, why; `lost`, of objects that are gone although something began
    to name them during the delete, what. Only a bucket that keeps no versions can lose one.
    """

    token: str
    state: str
    rows: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    can_be_undone: bool = True
    kept: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    @property
    def has_findings(self) -> bool:
        """Whether something that the plan named stays, or is missed."""
        return bool(self.kept or self.lost)


def confirm_deletion(
    database: Database,
    config: PipelineConfig,
    store: PhotoStore,
    token: str,
    selection: Selection | None = None,
    *,
    run: str,
    progress: Progress = no_progress,
) -> DeletionOutcome:
    """Do what the plan with that token says, or go on with it if it was begun.

    Args:
        database: The application's database.
        config: The configuration.
        store: The bucket.
        token: Of the plan.
        selection: What was planned; may be left out to go on with a deletion that was begun.
        run: The id of this run.
        progress: Told after each row and object.

    Raises:
        ConfigurationError: the token belongs to nothing that was begun, and no selection is given.
        GuardRefusedError: something has changed since the plan (nothing is done then), or a run works on a
            batch of the photos (what is done stays; confirm again to go on).
        StoreError: the store cannot be asked; confirm again to go on.
    """
    begun = _begun(database, token)
    if begun is None:
        if selection is None:
            raise ConfigurationError(
                f"token {token!r}",
                cause="no deletion was begun with it",
                fix="name the photos as for the plan",
            )
        _begin(database, _same_plan(database, config, selection, token), run=run)
    elif begun.state != DeletionState.RUNNING:
        return deletion_outcome(database, token)
    RowDeletion(database, config, token, run=run, progress=progress).change_rows()
    objects = ObjectDeletion(database, config, store, token, run=run, progress=progress)
    objects.delete_objects()
    if begun is not None:
        # The run that died may have been about to look for rows that name what it had just deleted.
        objects.look_again()
    _end(database, token)
    return deletion_outcome(database, token)


def unfinished_deletions(database: Database) -> list[str]:
    """Return the tokens of deletions that were begun and did not end."""
    columns = deletion_table.c
    with database.read() as connection:
        query = sa.select(columns.token).where(columns.state == DeletionState.RUNNING)
        return list(connection.execute(query.order_by(columns.started_at)).scalars())


def deletion_outcome(database: Database, token: str) -> DeletionOutcome:
    """Return what the deletion with that token has done by now."""
    rows, objects = deleted_row_table.c, deleted_object_table.c
    with database.read() as connection:
        begun = connection.execute(sa.select(deletion_table).where(deletion_table.c.token == token)).one()
        changed = connection.execute(sa.select(deleted_row_table).where(rows.token == token)).all()
        gone = connection.execute(sa.select(deleted_object_table).where(objects.token == token)).all()
    done = [each for each in gone if each.state in (DeletionState.DONE, DeletionState.LOST)]
    kept = {f"{e.source} {e.row_key}": e.reason for e in changed if e.state == DeletionState.KEPT}
    kept |= {f"s3://{e.bucket}/{e.key}": e.reason for e in gone if e.state == DeletionState.KEPT}
    return DeletionOutcome(
        token=token,
        state=begun.state,
        rows=dict(Counter(each.state for each in changed)),
        objects=dict(Counter(each.state for each in gone)),
        bytes=sum(each.bytes for each in done),
        can_be_undone=all(each.marker_id is not None for each in done),
        kept=kept,
        lost={f"s3://{e.bucket}/{e.key}": e.reason for e in gone if e.state == DeletionState.LOST},
    )


def _same_plan(database: Database, config: PipelineConfig, selection: Selection, token: str) -> DeletionPlan:
    """Return the plan as it is now.

    Raises:
        GuardRefusedError: it is another one than the token's.
    """
    try:
        plan = plan_deletion(database, config, selection)
        changed = None if plan.token == token else "it is not of what would be deleted now"
    except ConfigurationError as error:
        plan, changed = None, f"{error.thing}: {error.cause}"
    if plan is None or changed is not None:
        raise GuardRefusedError(
            f"token {token!r}",
            cause=f"something has changed since the plan ({changed})",
            fix="plan the deletion again, read what it says, and confirm that",
        )
    return plan


def _begun(database: Database, token: str) -> Any | None:
    with database.read() as connection:
        query = sa.select(deletion_table).where(deletion_table.c.token == token)
        return connection.execute(query).one_or_none()


def _begin(database: Database, plan: DeletionPlan, *, run: str) -> None:
    """Write down what was confirmed, before anything is changed."""
    token, pending = plan.token, DeletionState.PENDING
    rows = [
        {
            "token": token,
            "row_id": row.row_id,
            "source": row.source,
            "row_key": row.row_key,
            "act": row.act,
            "before": dict(row.before),
            "photos": dict(row.photos),
            "state": pending,
        }
        for row in plan.rows
    ]
    objects = [
        {
            "token": token,
            "bucket": plan.bucket,
            "key": each.key,
            "checksum": each.checksum,
            "bytes": each.bytes,
            "source_sha256": each.source_sha256,
            "state": pending,
        }
        for each in plan.objects
    ]
    with database.write() as connection:
        connection.execute(
            sa.insert(deletion_table).values(
                token=token, state=DeletionState.RUNNING, plan=asdict(plan), run=run, started_at=utc_now()
            )
        )
        for table, values in ((deleted_row_table, rows), (deleted_object_table, objects)):
            if values:
                connection.execute(sa.insert(table), values)
        audit.record(
            connection,
            action="delete_begin",
            subject=f"{plan.photos} photos",
            details={"token": token, "rows": len(rows), "objects": len(objects), "bytes": plan.bytes},
            run=run,
        )


def _end(database: Database, token: str) -> None:
    with database.write() as connection:
        connection.execute(
            sa.update(deletion_table)
            .where(deletion_table.c.token == token)
            .values(state=DeletionState.DONE, ended_at=utc_now())
        )
