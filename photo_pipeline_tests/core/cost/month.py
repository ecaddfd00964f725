"""A month of several processes that work on one installation: what they do, and by which clock.

The clock of guard, meter and invalidation is a number in shared memory that the test moves on; it jumps while
work is under way, as it does between two days of a real month.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from photo_pipeline.core.cleanup.drift import look_for_drift
from photo_pipeline.core.cleanup.orphans_bucket import LiveListing, StoreBucket
from photo_pipeline.core.cleanup.orphans_budget import within_limits
from photo_pipeline.core.cleanup.orphans_scan import scan
from photo_pipeline.core.cleanup.orphans_workspace import Workspace
from photo_pipeline.core.cost.budget import Budget
from photo_pipeline.core.cost.guard import CostGuard
from photo_pipeline.core.cost.meter import Meter
from photo_pipeline.core.delivery import invalidation
from photo_pipeline.core.delivery.cloudfront import open_cloudfront
from photo_pipeline.core.delivery.invalidation_plan import plan_invalidation
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.errors import PhotoPipelineError
from photo_pipeline.core.migration.run import migrate_batch, new_run_id, roll_back_batch
from photo_pipeline.core.migration.validate import validate_batch
from photo_pipeline.core.project import Project
from photo_pipeline_tests.core.migration.quick import quick_workers

START, DAYS = datetime(2026, 11, 16, tzinfo=UTC), 30
"""The clock begins in the middle of a month and ends in the middle of the next."""

IMPORTED_LATE = ("boto3.s3.inject", "sqlalchemy.dialects.sqlite.pysqlite")


@dataclass(frozen=True)
class Task:
    """One thing to do, with a batch where that matters."""

    kind: str
    batch: str


def at(seconds: int) -> datetime:
    """Return what the clock says after so many seconds."""
    return START + timedelta(seconds=seconds)


def work(config_path: Path, environment: Mapping[str, str], seconds: Any, tasks: Connection) -> None:
    """Do what is asked for until None comes; answer each task with how it ended."""
    os.environ.clear()
    os.environ.update(environment)
    clock = _by_the_clock(seconds)
    with Project.load(config_path) as project:
        tills = project.config.state.counted_dir
        project.__dict__["meter"] = Meter(project.database, clock=clock, tills=tills)
        while (task := tasks.recv()) is not None:
            try:
                _DO[task.kind](project, task.batch)
            except PhotoPipelineError as error:
                tasks.send(type(error).__name__)
            else:
                tasks.send("done")
    tasks.send("ended")


def _by_the_clock(seconds: Any) -> Callable[[], datetime]:
    def now() -> datetime:
        return at(seconds.value)

    def of(database: Any, config: Any) -> CostGuard:
        return CostGuard(database, Budget.of(config), clock=now)

    CostGuard.of = of  # type: ignore[method-assign,assignment]
    invalidation.utc_now = now  # type: ignore[attr-defined]
    # Encoding asks no server for anything.
    Project.workers = lambda _: quick_workers()  # type: ignore[method-assign,assignment]
    return now


def _migrate(project: Project, batch: str) -> None:
    migrate_batch(project, batch, run=new_run_id(), retry_failed=True, include_rolled_back=True)


def _validate(project: Project, batch: str) -> None:
    validate_batch(project.database, project.config, project.cdn, batch, run=new_run_id(), sample=1.0)


def _orphans(project: Project, _batch: str) -> None:
    with Workspace() as workspace:
        bucket = StoreBucket(project.database, project.store)
        parts = (project.database, project.config, bucket)
        with within_limits(*parts, checksums=True):
            scan(workspace, *parts, LiveListing(bucket))
            look_for_drift(workspace, *parts, remember=True)


def _roll_back(project: Project, batch: str) -> None:
    roll_back_batch(project, batch, run=new_run_id())


def _invalidate(project: Project, batch: str) -> None:
    paths = [f"/banners/{batch}/{number}.jpg" for number in range(3)]
    invalidation.invalidate(
        project.database,
        open_cloudfront(),
        plan_invalidation(UrlScheme.of(project.config), paths),
        distribution="STUB",
        run=new_run_id(),
    )


_DO: Mapping[str, Callable[[Project, str], None]] = {
    "migrate": _migrate,
    "validate": _validate,
    "orphans": _orphans,
    "roll back": _roll_back,
    "invalidate": _invalidate,
}
KINDS = {"migrate": 10, "validate": 3, "orphans": 2, "roll back": 2, "invalidate": 2}
"""How often each is drawn, beside the others."""
