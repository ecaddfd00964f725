"""A child program that does one operation of the pipeline on a site, and dies at a planned step.

It uses the core, without Dagster: a whole operation takes well below a second. It also takes defences away,
by name, so that a test can show that it would notice. What dying in Dagster's assets means is `killed_run`.
"""

import json
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import obstore
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.default import DefaultDialect

from photo_pipeline.core.catalog.batches import assign_batches
from photo_pipeline.core.catalog.checksums import hash_matched_files
from photo_pipeline.core.config import find_config
from photo_pipeline.core.imaging.pool import ImageWorkers, PhotoTask, make_variants_task
from photo_pipeline.core.imaging.variants import MadePhoto
from photo_pipeline.core.migration import control
from photo_pipeline.core.migration.delta import finish_pass, take_pass
from photo_pipeline.core.migration.restore import restore
from photo_pipeline.core.migration.run import migrate_batch, new_run_id, repoint_whole_batch, roll_back_batch
from photo_pipeline.core.migration.selection import (
    batches_never_validated,
    batches_to_migrate,
    batches_to_roll_back,
    batches_to_validate,
)
from photo_pipeline.core.migration.stored_backups import read_bucket_backups, read_local_backups
from photo_pipeline.core.migration.validate import validate_batch
from photo_pipeline.core.project import Project
from photo_pipeline_tests.faults.steps import Death, Steps

IMPORTED_LATE = (
    "boto3.s3.inject",
    "photo_pipeline.cli.program",
    "pyarrow.parquet",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
)


class InlineWorkers:
    """Makes variants in this process, so that it can die between a variant's fsync and its rename.

    They are real ones; of pictures of a few pixels that takes no longer than pretending.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def process(self, tasks: Iterable[PhotoTask]) -> Iterator[tuple[PhotoTask, MadePhoto]]:
        for task in tasks:
            yield task, make_variants_task(task)


def work_inline(project: Project) -> None:
    """Let the project make its variants in this process."""
    project.__dict__["workers"] = lambda: cast(ImageWorkers, InlineWorkers())


def inventory(project: Project) -> None:
    take_pass(project.database, project.config, run=new_run_id())
    hash_matched_files(project.database, project.config)
    assign_batches(project.database, project.config)
    finish_pass(project.database)


def migrate(project: Project) -> None:
    """As the command does: inventory, every open batch, and what an interrupted run left unvalidated."""
    inventory(project)
    for key in batches_to_migrate(project.database):
        migrate_batch(project, key, run=new_run_id())
    for key in batches_never_validated(project.database):
        validate_batch(project.database, project.config, project.cdn, key, run=new_run_id())
    inventory(project)


def roll_back(project: Project) -> None:
    for key in batches_to_roll_back(project.database):
        roll_back_batch(project, key, run=new_run_id())


def repoint(project: Project) -> None:
    for key in batches_to_validate(project.database):
        repoint_whole_batch(project, key, run=new_run_id())


def restore_from_files(project: Project) -> None:
    restore(project.database, project.config, read_local_backups(project.config), run="restore", apply=True)


def restore_from_bucket(project: Project) -> None:
    files = read_bucket_backups(project.config, project.store)
    restore(project.database, project.config, files, run="restore", apply=True)


def pause_and_resume(project: Project) -> None:
    control.pause(project.database, reason="a test", run=new_run_id())
    control.resume(project.database, reason="a test", run=new_run_id())


def abort_roll_back_and_resume(project: Project) -> None:
    control.abort(project.database, reason="a test", run=new_run_id())
    roll_back(project)
    control.resume(project.database, reason="a test", run=new_run_id())


def command_migrate(_project: Project) -> None:
    """The command itself, with its worker processes."""
    _command("migrate")


def command_rollback(_project: Project) -> None:
    _command("rollback", "--all")


def _command(*words: str) -> None:
    from photo_pipeline.cli.program import app

    code = app(list(words), standalone_mode=False)
    if code:
        raise SystemExit(code)


OPERATIONS: dict[str, Callable[[Project], None]] = {
    each.__name__: each
    for each in (
        inventory,
        migrate,
        roll_back,
        repoint,
        restore_from_files,
        restore_from_bucket,
        pause_and_resume,
        abort_roll_back_and_resume,
        command_migrate,
        command_rollback,
    )
}


# --- defences that can be taken away


def _commit_each_row_by_itself() -> None:
    """Each change of a row of the application commits at once, before its ledger entry."""
    changes_a_row = re.compile(r"\s*UPDATE\s+\W*item_photos\b", re.IGNORECASE)

    @event.listens_for(sa.Engine, "after_cursor_execute")
    def commit(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if changes_a_row.match(statement):
            connection.dispatch.commit(connection)
            dbapi = connection.connection.dbapi_connection
            if isinstance(dbapi, sqlite3.Connection):
                dbapi.execute("COMMIT")
                dbapi.execute("BEGIN IMMEDIATE")
            else:
                cast(Any, dbapi).commit()

    # A commit ends every savepoint.
    for name in ("do_savepoint", "do_release_savepoint", "do_rollback_to_savepoint"):
        setattr(DefaultDialect, name, lambda *_args: None)


def _put_unconditionally() -> None:
    """An object that is there is sent again instead of being adopted."""
    put = obstore.put
    obstore.put = lambda *args, **options: put(*args, **(options | {"mode": "overwrite"}))


def _no_fsync_of_files() -> None:
    fsync = os.fsync
    os.fsync = lambda handle: fsync(handle) if stat.S_ISDIR(os.fstat(handle).st_mode) else None


def _no_fsync_of_folders() -> None:
    fsync = os.fsync
    os.fsync = lambda handle: None if stat.S_ISDIR(os.fstat(handle).st_mode) else fsync(handle)


def _write_in_place() -> None:
    """A file is written under its own name at once."""
    with_name = Path.with_name
    Path.with_name = (  # type: ignore[method-assign]
        lambda path, name: path if name.endswith(".partial") else with_name(path, name)
    )


DEFENCES: dict[str, Callable[[], None]] = {
    "one transaction": _commit_each_row_by_itself,
    "conditional PUT": _put_unconditionally,
    "fsync of files": _no_fsync_of_files,
    "fsync of folders": _no_fsync_of_folders,
    "rename": _write_in_place,
}


@dataclass(frozen=True)
class Request:
    """What to do. `report` receives the steps that were taken, where the process lives to tell them."""

    operation: str
    n: int = 0
    kind: str = ""
    after: bool = False
    power_cut: bool = False
    without: str = ""
    report: str = ""


def follow(request: dict[str, Any]) -> None:
    """Follow the request, as a process of `processes`."""
    wanted = Request(**request)
    steps = Steps(Death(wanted.n, wanted.kind, wanted.after, wanted.power_cut))
    with Project.load(find_config(None)) as project:
        work_inline(project)
        steps.begin()
        if wanted.without:
            DEFENCES[wanted.without]()
        OPERATIONS[wanted.operation](project)
        steps.about_to("end")
    if wanted.report:
        Path(wanted.report).write_text(json.dumps(steps.taken), encoding="utf-8")
