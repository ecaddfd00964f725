"""`photo-pipeline rollback`: rows back to the local files."""

from dataclasses import asdict
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, Batch
from photo_pipeline.cli.project import open_project, require_state
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration.rollback import RolledBack
from photo_pipeline.core.migration.run import new_run_id, roll_back_batch
from photo_pipeline.core.migration.selection import batches_to_roll_back, locate_with_copies
from photo_pipeline.core.migration.watch import wish
from photo_pipeline.terminal import Terminal


def rollback(
    batch: Batch = None,
    photo: Annotated[
        list[int] | None,
        typer.Option("--photo", help="A pp_photo id; may be repeated. Its cells only, with its copies."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every batch that has rewritten rows.")] = False,
    json_: AsJson = False,
) -> int:
    """Point rows back to the local files, exactly as they were. Objects in S3 stay.

    Example: photo-pipeline rollback --batch batch-000001
    """
    terminal = Terminal(as_json=json_)
    chosen = sum(map(bool, (batch, photo, all_)))
    if chosen != 1:
        raise ConfigurationError(
            "rollback", cause="it needs one of --batch, --photo and --all", fix="say what to take back"
        )
    with open_project() as project:
        require_state(project)
        targets = locate_with_copies(project.database, project.config, photo) if photo else {}
        keys = list(targets) or batches_to_roll_back(project.database, wanted=batch, config=project.config)
        done: dict[str, RolledBack] = {}
        before = wish(project.database)
        for key in keys:
            with terminal.progress(key) as progress:
                done[key] = roll_back_batch(
                    project,
                    key,
                    run=new_run_id(),
                    only_photos=targets.get(key),
                    wish_before=before,
                    progress=progress,
                )
    terminal.table(
        ("batch", "rolled back", "edited since", "failed", "files restored"),
        [[k, r.rolled_back, r.conflicts, r.failed, r.files_restored] for k, r in done.items()],
    )
    for lost in (line for result in done.values() for line in result.files_lost):
        terminal.say(lost)
    if not done:
        terminal.say("No row is rewritten, so there is nothing to take back.")
    elif any(r.conflicts or r.failed for r in done.values()):
        terminal.say("Some rows were left as they are; see: photo-pipeline report")
    elif not any(r.files_lost or r.kept_columns for r in done.values()):
        terminal.say("These rows are as they were before. The objects in S3 stay.")
        terminal.say(f"To migrate again, name the batch: photo-pipeline migrate --batch {list(done)[-1]}")
    terminal.result({"batches": {key: asdict(result) for key, result in done.items()}})
    return FINDINGS if any(r.conflicts or r.failed or r.files_lost for r in done.values()) else DONE
