"""`photo-pipeline delete`: photos with all that is theirs; planned first, confirmed by a token, undoable."""

from dataclasses import asdict
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, Batch
from photo_pipeline.cli.project import open_project, require_state
from photo_pipeline.core.cleanup.deletion import confirm_deletion, unfinished_deletions
from photo_pipeline.core.cleanup.deletion_plan import DeletionPlan, Selection, plan_deletion
from photo_pipeline.core.cleanup.deletion_undo import undo_deletion
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.project import Project
from photo_pipeline.terminal import Terminal, human_bytes

_SHOWN = 50


def delete(
    photo: Annotated[
        list[int] | None, typer.Option("--photo", help="A pp_photo id; may be repeated.")
    ] = None,
    batch: Batch = None,
    entity: Annotated[
        list[str] | None, typer.Option("--entity", help="TYPE/ID, such as item/42; may be repeated.")
    ] = None,
    confirm: Annotated[
        str | None, typer.Option("--confirm", help="The token of the plan: delete exactly what it says.")
    ] = None,
    undo: Annotated[
        str | None, typer.Option("--undo", help="The token of a deletion that is to be taken back.")
    ] = None,
    json_: AsJson = False,
) -> int:
    """Delete photos: their rows' references and what is theirs alone in S3. Plans first, then confirms.

    Example: photo-pipeline delete --entity item/42
    """
    terminal = Terminal(as_json=json_)
    selection = Selection(tuple(photo or ()), tuple(batch or ()), tuple(map(_entity, entity or ())))
    chosen = selection != Selection()
    if undo and (confirm or chosen):
        raise ConfigurationError("delete", cause="--undo goes with nothing else", fix="leave the rest out")
    with open_project() as project:
        require_state(project)
        if undo:
            return _undo(terminal, project, undo)
        if confirm:
            return _confirm(terminal, project, confirm, selection if chosen else None)
        for token in unfinished_deletions(project.database):
            terminal.say(f"A deletion was interrupted; go on with: photo-pipeline delete --confirm {token}")
        plan = plan_deletion(project.database, project.config, selection)
        _show(terminal, plan)
        terminal.result({"token": plan.token, **asdict(plan)})
        return FINDINGS if plan.blocked else DONE


def _entity(text: str) -> tuple[str, str]:
    kind, slash, name = text.partition("/")
    if not (kind and slash and name):
        raise ConfigurationError(f"--entity {text!r}", cause="it is not TYPE/ID", fix="write it as item/42")
    return kind, name


def _show(terminal: Terminal, plan: DeletionPlan) -> None:
    terminal.heading("Rows")
    terminal.table(
        ("source", "row", "what happens", "columns", "photos"),
        [
            [each.source, each.row_key, each.act, ", ".join(each.before), ", ".join(each.photos)]
            for each in plan.rows[:_SHOWN]
        ],
    )
    terminal.heading("Objects")
    terminal.table(
        ("key", "variant", "bytes"), [[each.key, each.variant, each.bytes] for each in plan.objects[:_SHOWN]]
    )
    _say_rest(terminal, len(plan.rows), "rows")
    _say_rest(terminal, len(plan.objects), "objects")
    for content, owner in plan.shared.items():
        terminal.say(f"The objects of content {content[:12]}… stay: {owner} needs them.")
    for number, reason in plan.blocked.items():
        terminal.say(f"Photo {number} is not deleted: {reason}.")
    for path in plan.local_files[:_SHOWN]:
        terminal.say(f"The local file {path} stays.")
    terminal.say(
        f"{plan.photos:,} photos in {len(plan.rows):,} rows, {len(plan.objects):,} objects "
        f"({human_bytes(plan.bytes)}) would be deleted. Nothing was touched. To do exactly this, repeat the "
        f"command with --confirm {plan.token}"
    )


def _say_rest(terminal: Terminal, count: int, what: str) -> None:
    if count > _SHOWN:
        terminal.say(f"... and {count - _SHOWN:,} more {what}; --json lists all of them.")


def _confirm(terminal: Terminal, project: Project, token: str, selection: Selection | None) -> int:
    with terminal.progress("delete") as progress:
        done = confirm_deletion(
            project.database,
            project.config,
            project.store,
            token,
            selection,
            run=new_run_id(),
            progress=progress,
        )
    terminal.table(
        ("what", "done", "kept"),
        [
            ["rows", done.rows.get("done", 0), done.rows.get("kept", 0)],
            ["objects", done.objects.get("done", 0), done.objects.get("kept", 0)],
        ],
    )
    for what, reason in done.kept.items():
        terminal.say(f"{what} stays: {reason}.")
    for what, reason in done.lost.items():
        terminal.say(
            f"{what} is lost: {reason}. The photo's local file or the row's owner may have it still."
        )
    if done.can_be_undone:
        terminal.say(f"While the bucket keeps the versions: photo-pipeline delete --undo {token}")
    else:
        terminal.say("The bucket keeps no versions: these objects cannot be brought back.")
    terminal.result(asdict(done))
    return FINDINGS if done.has_findings else DONE


def _undo(terminal: Terminal, project: Project, token: str) -> int:
    done = undo_deletion(project.database, project.config, project.store, token, run=new_run_id())
    terminal.say(f"{done.objects:,} objects and {done.rows:,} rows are back.")
    for what, reason in done.left.items():
        terminal.say(f"{what} is not: {reason}.")
    terminal.result(asdict(done))
    return FINDINGS if done.left else DONE
