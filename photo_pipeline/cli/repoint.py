"""`photo-pipeline repoint`: migrated rows to another CDN address or recipe."""

from dataclasses import asdict
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, Batch
from photo_pipeline.cli.project import open_project, require_state
from photo_pipeline.core.migration.run import new_run_id, repoint_whole_batch
from photo_pipeline.core.migration.selection import batches_to_validate
from photo_pipeline.terminal import Terminal


def repoint(
    batch: Batch = None,
    recipe: Annotated[
        bool, typer.Option("--recipe", help="Also make the present presets' variants, and show those.")
    ] = False,
    json_: AsJson = False,
) -> int:
    """Move migrated rows to the CDN address and prefix that the configuration has now.

    Example: photo-pipeline repoint --recipe
    """
    terminal = Terminal(as_json=json_)
    done = {}
    with open_project() as project:
        require_state(project)
        for key in batches_to_validate(project.database, wanted=batch):
            with terminal.progress(key) as progress:
                done[key] = repoint_whole_batch(
                    project, key, run=new_run_id(), present_recipe=recipe, progress=progress
                )
    terminal.table(
        ("batch", "repointed", "there already", "edited since", "failed", "not ready", "new objects"),
        [
            [k, r.repointed, r.already_there, r.conflicts, r.failed, r.not_ready, r.objects]
            for k, r in done.items()
        ],
    )
    for result in done.values():
        for reason in result.reasons:
            terminal.say(reason)
    terminal.result({"batches": {key: asdict(result) for key, result in done.items()}})
    left = any(r.conflicts or r.failed or r.not_ready for r in done.values())
    return FINDINGS if left else DONE
