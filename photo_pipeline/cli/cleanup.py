"""`photo-pipeline cleanup`: local files of migrated photos, to the trash and away; and back."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, Batch
from photo_pipeline.cli.project import open_project, require_state
from photo_pipeline.core.catalog.inventory import last_inventory
from photo_pipeline.core.cleanup.clean_up_counts import CleanedUp
from photo_pipeline.core.cleanup.code_scan import scan_code
from photo_pipeline.core.cleanup.local_files import clean_up, plan_clean_up
from photo_pipeline.core.cleanup.undo import bring_back
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.project import Project
from photo_pipeline.terminal import Terminal, human_bytes

_SHOWN = 20


def cleanup(
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without, it is only shown.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Bring files back from the trash.")] = False,
    batch: Batch = None,
    photo: Annotated[
        list[int] | None, typer.Option("--photo", help="With --undo: a pp_photo id; may be repeated.")
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="With --undo: everything that is in the trash.")
    ] = False,
    scan_code_: Annotated[
        Path | None,
        typer.Option("--scan-code", help="Only look for what refers to the local folders in this code."),
    ] = None,
    json_: AsJson = False,
) -> int:
    """Move local files of validated photos to the trash, and delete them later. Dry run by default.

    Example: photo-pipeline cleanup --apply
    """
    terminal = Terminal(as_json=json_)
    if sum((apply, undo, scan_code_ is not None)) > 1:
        raise ConfigurationError(
            "cleanup", cause="--apply, --undo and --scan-code exclude each other", fix="choose one"
        )
    with open_project() as project:
        if scan_code_ is not None:
            return _scan(terminal, project, scan_code_)
        require_state(project)
        if undo:
            return _undo(terminal, project, batch or [], photo or [], everything=all_)
        return _clean(terminal, project, batch, apply=apply)


def _clean(terminal: Terminal, project: Project, batch: list[str] | None, *, apply: bool) -> int:
    if apply:
        with terminal.progress("clean-up") as progress:
            done = clean_up(
                project.database,
                project.config,
                project.store,
                run=new_run_id(),
                batches=batch,
                progress=progress,
            )
    else:
        done = plan_clean_up(project.database, project.config, batches=batch)
    _show(terminal, project, done)
    terminal.result(asdict(done))
    return FINDINGS if done.has_findings else DONE


def _show(terminal: Terminal, project: Project, done: CleanedUp) -> None:
    terminal.heading("Local files that migrated rows showed, each in one class")
    rows = [[name, each.files, human_bytes(each.bytes)] for name, each in done.files.items() if each.files]
    total = [sum(each.files for each in done.files.values()), sum(e.bytes for e in done.files.values())]
    terminal.table(
        ("class", "files", "size"), [*rows, ["total", total[0], human_bytes(total[1])]], total=True
    )
    if done.trash:
        terminal.heading("In the trash")
        terminal.table(
            ("class", "files", "size"),
            [[name, each.files, human_bytes(each.bytes)] for name, each in done.trash.items()],
        )
    for outcome, reasons in done.reasons.items():
        for reason in reasons[:_SHOWN]:
            terminal.say(f"{outcome}: {reason}")
    if done.unreferenced.files:
        terminal.say(
            f"{done.unreferenced.files:,} files ({human_bytes(done.unreferenced.bytes)}) are shown by no row "
            "and are kept."
        )
    if not done.applied:
        inventory = last_inventory(project.database)
        known = "" if inventory is None else " by what the last inventory saw"
        terminal.say(f"Nothing was touched; this is{known}. To do it: photo-pipeline cleanup --apply")


def _undo(
    terminal: Terminal, project: Project, batch: list[str], photo: list[int], *, everything: bool
) -> int:
    if sum(map(bool, (batch, photo, everything))) != 1:
        raise ConfigurationError(
            "cleanup --undo", cause="it needs one of --batch, --photo and --all", fix="say what to bring back"
        )
    with terminal.progress("undo") as progress:
        done = bring_back(
            project.database,
            project.config,
            run=new_run_id(),
            batches=batch,
            photos=photo,
            progress=progress,
        )
    terminal.say(f"{len(done.restored):,} files ({human_bytes(done.bytes)}) are back where they were.")
    for path, reason in done.left.items():
        terminal.say(f"{path} stays in the trash: {reason}")
    terminal.result(asdict(done))
    return FINDINGS if done.left else DONE


def _scan(terminal: Terminal, project: Project, folder: Path) -> int:
    found = scan_code(project.config, folder)
    for each in found.references:
        terminal.say(f"{each.path}:{each.line}: {each.text}")
    terminal.say(
        f"{len(found.references):,} lines in {found.files:,} text files name a local folder or its URLs "
        f"({found.skipped:,} files were skipped)."
    )
    terminal.result(asdict(found))
    return FINDINGS if found.references else DONE
