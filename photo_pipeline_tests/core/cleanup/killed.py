"""A child program that cleans up or deletes on a site, and dies at a planned step: see `faults.steps`."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from photo_pipeline.core.cleanup.deletion import confirm_deletion
from photo_pipeline.core.cleanup.deletion_plan import Selection
from photo_pipeline.core.cleanup.deletion_undo import undo_deletion
from photo_pipeline.core.cleanup.local_files import clean_up
from photo_pipeline.core.cleanup.undo import bring_back
from photo_pipeline.core.config import find_config
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.project import Project
from photo_pipeline_tests.faults.steps import Death, Steps

IMPORTED_LATE = ("boto3.s3.inject", "pyarrow.parquet", "sqlalchemy.dialects.sqlite.pysqlite")


def clean(project: Project, _token: str) -> None:
    clean_up(project.database, project.config, project.store, run=new_run_id())


def undo(project: Project, _token: str) -> None:
    bring_back(project.database, project.config, run=new_run_id())


def delete(project: Project, token: str) -> None:
    confirm_deletion(
        project.database, project.config, project.store, token, Selection(photos=(1, 2)), run=new_run_id()
    )


def undelete(project: Project, token: str) -> None:
    undo_deletion(project.database, project.config, project.store, token, run=new_run_id())


OPERATIONS: dict[str, Callable[[Project, str], None]] = {
    each.__name__: each for each in (clean, undo, delete, undelete)
}


@dataclass(frozen=True)
class Request:
    """What to do, and where to die; `report` receives how many steps of each kind a life has."""

    operation: str
    token: str = ""
    n: int = 0
    kind: str = ""
    report: str = ""


def follow(request: dict[str, Any]) -> None:
    """Follow the request, as a process of `faults.processes`."""
    wanted = Request(**request)
    steps = Steps(Death(wanted.n, wanted.kind))
    with Project.load(find_config(None)) as project:
        assert project.store  # opening it is no step of interest
        steps.begin()
        OPERATIONS[wanted.operation](project, wanted.token)
    if wanted.report:
        Path(wanted.report).write_text(json.dumps(steps.counts), encoding="utf-8")
