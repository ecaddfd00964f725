"""`photo-pipeline pause`, `resume` and `abort`."""

from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, AsJson
from photo_pipeline.cli.project import open_project, require_state
from photo_pipeline.core.migration import control
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.terminal import Terminal

Reason = Annotated[str, typer.Option("--reason", help="Why, for whoever finds it so; kept in the audit log.")]


def pause(reason: Reason = "", json_: AsJson = False) -> int:
    """Let every run stop after the photo in hand, here and on other machines.

    Example: photo-pipeline pause --reason "deploying the shop"
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        require_state(project)
        wish = control.pause(project.database, reason=reason, run=new_run_id())
    terminal.say("Paused. Work under way stops after the photo in hand. Go on with: photo-pipeline resume")
    terminal.result({"control": wish})
    return DONE


def resume(reason: Reason = "", json_: AsJson = False) -> int:
    """Allow work again after a pause or an abort. Starts nothing by itself.

    Example: photo-pipeline resume
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        require_state(project)
        wish = control.resume(project.database, reason=reason, run=new_run_id())
    terminal.say(
        "The migration may run again. Go on with: photo-pipeline migrate (or launch the batches in Dagster)"
    )
    terminal.result({"control": wish})
    return DONE


def abort(reason: Reason = "", json_: AsJson = False) -> int:
    """End the migration after the photo in hand. What is migrated stays until it is rolled back.

    Example: photo-pipeline abort --reason "wrong bucket" && photo-pipeline rollback --all
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        require_state(project)
        wish = control.abort(project.database, reason=reason, run=new_run_id())
    terminal.say(
        "Aborted. Work under way stops after the photo in hand; none starts again before a resume.\n"
        "To take back what is migrated: photo-pipeline rollback --all"
    )
    terminal.result({"control": wish})
    return DONE
