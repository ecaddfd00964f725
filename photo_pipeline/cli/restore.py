"""`photo-pipeline restore`: rows back from the backup files, when the state tables are lost."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson
from photo_pipeline.cli.project import open_project
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration.restore import Restored
from photo_pipeline.core.migration.restore import restore as restore_rows
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.migration.stored_backups import read_bucket_backups, read_local_backups
from photo_pipeline.terminal import Terminal


def restore(
    from_: Annotated[
        Path | None, typer.Option("--from", help="The folder; default: state.backup_dir.")
    ] = None,
    from_bucket: Annotated[
        bool, typer.Option("--from-bucket", help="Take the copies in the bucket instead.")
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write; without it, only say what would be.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also overwrite what the application has edited since.")
    ] = False,
    json_: AsJson = False,
) -> int:
    """Set rows back from the backup files alone, for when the state tables are lost. Dry run by default.

    Example: photo-pipeline restore --apply
    """
    terminal = Terminal(as_json=json_)
    if from_ is not None and from_bucket:
        raise ConfigurationError(
            "restore", cause="--from and --from-bucket are two places", fix="name one of them"
        )
    with open_project() as project:
        _ = project.database
        if from_bucket:
            files = read_bucket_backups(project.config, project.store)
        else:
            files = read_local_backups(project.config, from_)
        done = restore_rows(
            project.database, project.config, files, run=new_run_id(), apply=apply, force=force
        )
    _show(terminal, done)
    terminal.result({"restore": asdict(done)})
    return FINDINGS if done.has_findings else DONE


def _show(terminal: Terminal, done: Restored) -> None:
    for change in done.left:
        terminal.say(
            f"{change.source} {change.row_key} {change.column}: {change.outcome}; {change.reason} "
            f"(it holds {change.before!r})"
        )
    for row in done.rows_deleted:
        terminal.say(f"{row}: the row was deleted since; it stays deleted")
    terminal.table(("cells", "count"), list(done.cells.items()))
    verb = "restored" if done.applied else "would be restored"
    terminal.say(f"{done.rows_restored:,} of {done.rows:,} rows {verb}, from {done.files:,} files.")
    if not done.applied:
        terminal.say("Nothing was written. To do it: the same command with --apply")
