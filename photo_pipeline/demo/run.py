"""Runs the main job on the demo site, through Dagster, so that `make ui` shows what happened."""

import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa

from photo_pipeline.core.catalog.inventory import Inventory, last_inventory
from photo_pipeline.core.catalog.tables import PhotoState, photo_table
from photo_pipeline.core.config import CONFIG_ENV
from photo_pipeline.core.errors import InfrastructureError, PhotoPipelineError
from photo_pipeline.core.migration.state import BatchStatus, batch_statuses
from photo_pipeline.core.project import Project
from photo_pipeline.definitions import defs
from photo_pipeline.demo.site import DemoSite

Announce = Callable[[str], None]

# Without them Dagster reports to its makers, and says so in the middle of the demo.
_SETTINGS = "telemetry: {enabled: false}\nnux: {enabled: false}\n"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class DemoRun:
    """What the demo did; `seconds` is wall time by step."""

    inventory: Inventory
    batches: list[BatchStatus]
    example_urls: list[str]
    report: Path
    seconds: dict[str, float]


def dagster_home() -> Path:
    """Return the folder of Dagster's instance: $DAGSTER_HOME, the project's, or the demo's own."""
    if os.environ.get("DAGSTER_HOME"):
        return Path(os.environ["DAGSTER_HOME"])
    if Path("dagster.yaml").is_file():
        return Path.cwd()
    home = Path(".photo_pipeline/dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(_SETTINGS, encoding="utf-8")
    return home


def run_demo(site: DemoSite, announce: Announce) -> DemoRun:
    """Run the jobs `inventory`, `migrate` (each batch) and `report` on the site.

    Args:
        site: The prepared demo.
        announce: Told one line per step.

    Raises:
        PhotoPipelineError: a step failed, with its own message.
    """
    os.environ[CONFIG_ENV] = str(site.config)
    os.environ["DAGSTER_HOME"] = str(dagster_home())
    seconds: dict[str, float] = {}

    def step(job: str, partition: str | None = None) -> None:
        announce(f"{job} {partition}" if partition else job)
        started = time.perf_counter()
        _execute(instance, job, partition)
        seconds[job] = seconds.get(job, 0.0) + time.perf_counter() - started

    with dg.DagsterInstance.get() as instance, Project.load(site.config) as project:
        step("inventory")
        for batch in batch_statuses(project.database):
            step("migrate", batch.key)
        step("report")
        inventory = last_inventory(project.database)
        if inventory is None:
            raise InfrastructureError("the demo", cause="its inventory left no totals", fix="run it again")
        return DemoRun(
            inventory=inventory,
            batches=batch_statuses(project.database),
            example_urls=_example_urls(project),
            report=project.config.state.report_dir / "migration_report.html",
            seconds=seconds,
        )


def _execute(instance: dg.DagsterInstance, job: str, partition: str | None) -> None:
    with _unwrapped_failures():
        defs.resolve_job_def(job).execute_in_process(
            instance=instance, partition_key=partition, run_config=_QUIET
        )


@contextmanager
def _unwrapped_failures() -> Any:
    """Raise our own error where Dagster wrapped it into one of its own."""
    try:
        yield
    except dg.Failure as failure:
        if isinstance(failure.__cause__, PhotoPipelineError):
            raise failure.__cause__ from failure
        raise


def _example_urls(project: Project) -> list[str]:
    """Return one rewritten URL of each kind (extension), for trying in a browser."""
    columns = photo_table.c
    with project.database.read() as connection:
        values = connection.execute(
            sa.select(columns.new_value)
            .where(columns.state == PhotoState.MIGRATED, columns.new_value.like("http%"))
            .order_by(columns.id)
        ).scalars()
        by_kind: dict[str, str] = {}
        for value in values:
            by_kind.setdefault(value.rsplit("/", 1)[-1], value)
    return list(by_kind.values())
