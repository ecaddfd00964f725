"""`photo-pipeline orphans`: objects that nothing refers to, and rows whose object is not there."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, CommandGroup
from photo_pipeline.cli.project import open_project
from photo_pipeline.core.cleanup.drift import Drift, look_for_drift
from photo_pipeline.core.cleanup.listing import Listing
from photo_pipeline.core.cleanup.listing_inventory import InventoryListing
from photo_pipeline.core.cleanup.orphans_bucket import LiveListing, StoreBucket
from photo_pipeline.core.cleanup.orphans_budget import within_limits
from photo_pipeline.core.cleanup.orphans_delete import delete_orphans
from photo_pipeline.core.cleanup.orphans_guards import require_state
from photo_pipeline.core.cleanup.orphans_marks import mark as mark_orphans
from photo_pipeline.core.cleanup.orphans_scan import Scan
from photo_pipeline.core.cleanup.orphans_scan import scan as scan_bucket
from photo_pipeline.core.cleanup.orphans_undo import undo as undo_deletes
from photo_pipeline.core.cleanup.orphans_workspace import Workspace
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.project import Project
from photo_pipeline.terminal import Terminal, human_bytes

_SHOWN = 20

Inventory = Annotated[
    Path | None,
    typer.Option(help="manifest.json of an S3 Inventory report, instead of listing the bucket."),
]
Apply = Annotated[bool, typer.Option("--apply", help="Do it; without it, only say what would be done.")]
Foreign = Annotated[bool, typer.Option("--foreign", help="Also objects whose keys are not of our spelling.")]
MaxShare = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Orphans among all objects above which to refuse, for this once."),
]


def scan(
    inventory: Inventory = None,
    checksums: Annotated[
        bool, typer.Option(help="Ask for the checksum of each object that is not known by its ETag yet.")
    ] = True,
    json_: AsJson = False,
) -> int:
    """List orphans, and rows whose object is missing or wrong. Changes no object and no row of yours.

    Objects that were right are asked for once: the next scan knows them by their ETag.

    Example: photo-pipeline orphans scan
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project, Workspace() as workspace, terminal.progress("orphans") as progress:
        bucket = _bucket(project)
        parts = (project.database, project.config, bucket)
        with within_limits(*parts, checksums=checksums):
            found = scan_bucket(workspace, *parts, _listing(bucket, inventory), progress=progress)
            drift = look_for_drift(workspace, *parts, checksums=checksums, remember=True, progress=progress)
    _show_scan(terminal, found)
    _show_drift(terminal, drift)
    if found.census.orphans:
        terminal.say("To mark them: photo-pipeline orphans mark --apply")
    terminal.result({"scan": _scan_result(found), "drift": asdict(drift) | {"total": drift.total}})
    return FINDINGS if found.census.orphans or found.census.foreign or drift.total else DONE


def mark(
    inventory: Inventory = None,
    foreign: Foreign = False,
    max_share: MaxShare = None,
    apply: Apply = False,
    json_: AsJson = False,
) -> int:
    """Mark orphans, and take back marks of what is none any more. Dry run by default; deletes nothing.

    Example: photo-pipeline orphans mark --apply
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project, Workspace() as workspace, terminal.progress("orphans") as progress:
        bucket = _bucket(project)
        found, done = mark_orphans(
            workspace,
            project.database,
            project.config,
            bucket,
            _listing(bucket, inventory),
            run=new_run_id(),
            apply=apply,
            with_foreign=foreign,
            max_share=max_share,
            progress=progress,
        )
        hours = project.config.orphans.grace_hours
    _show_scan(terminal, found)
    verb = "marked" if done.applied else "would be marked"
    terminal.say(
        f"{done.new:,} orphans {verb} now, {done.kept:,} were marked already, "
        f"{done.taken_back:,} are none any more."
    )
    if done.applied:
        terminal.say(f"In {hours:g} hours at the earliest: photo-pipeline orphans delete --apply")
    _show_dry_run(terminal, applied=done.applied)
    terminal.result({"scan": _scan_result(found), "mark": asdict(done)})
    return DONE


def delete(
    inventory: Inventory = None,
    foreign: Foreign = False,
    max_share: MaxShare = None,
    unversioned: Annotated[
        bool,
        typer.Option("--unversioned", help="Also in a bucket without versions, where nothing can be undone."),
    ] = False,
    apply: Apply = False,
    json_: AsJson = False,
) -> int:
    """Delete what was marked long enough ago and is an orphan still. Dry run by default.

    Example: photo-pipeline orphans delete --apply
    """
    terminal = Terminal(as_json=json_)
    run = new_run_id()
    with open_project() as project, Workspace() as workspace, terminal.progress("orphans") as progress:
        bucket = _bucket(project)
        found, done = delete_orphans(
            workspace,
            project.database,
            project.config,
            bucket,
            _listing(bucket, inventory),
            run=run,
            apply=apply,
            unversioned=unversioned,
            with_foreign=foreign,
            max_share=max_share,
            progress=progress,
        )
    _show_scan(terminal, found)
    for key in done.keys[:_SHOWN]:
        terminal.say(f"{'deleted' if done.applied else 'would go'}: {key}")
    verb = "deleted" if done.applied else "would be deleted"
    terminal.say(
        f"{done.deleted:,} orphans ({human_bytes(done.bytes)}) {verb}; {done.waiting:,} are marked too short "
        f"a time; {done.taken_back:,} are none any more; {done.changed:,} were changed and left."
    )
    if done.settled:
        terminal.say(f"{done.settled:,} of a run that died were finished.")
    if done.brought_back:
        terminal.say(f"{done.brought_back:,} are shown by the application again, and were brought back.")
    for line in done.lost:
        terminal.say(f"LOST, although something refers to it: {line}")
    if done.applied and done.deleted:
        terminal.say(f"To take it back: photo-pipeline orphans undo --run {run} --apply")
    _show_dry_run(terminal, applied=done.applied)
    terminal.result({"scan": _scan_result(found), "delete": {"run": run} | asdict(done)})
    return FINDINGS if done.lost else DONE


def undo(
    key: Annotated[list[str] | None, typer.Option("--key", help="An object's key; may be repeated.")] = None,
    run: Annotated[str | None, typer.Option("--run", help="All that this run deleted.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that was ever deleted.")] = False,
    apply: Apply = False,
    json_: AsJson = False,
) -> int:
    """Bring deleted orphans back. Dry run by default.

    Example: photo-pipeline orphans undo --all --apply
    """
    terminal = Terminal(as_json=json_)
    if sum((bool(key), run is not None, all_)) != 1:
        raise ConfigurationError(
            "orphans undo", cause="it needs to know what to bring back", fix="name --key, --run or --all"
        )
    with open_project() as project:
        done = undo_deletes(
            project.database, _bucket(project), run=new_run_id(), apply=apply, keys=key or (), of_run=run
        )
    for line in done.lost:
        terminal.say(f"cannot be brought back: {line}")
    if done.applied:
        terminal.say(f"{done.restored:,} of {done.found:,} objects are there again.")
    else:
        terminal.say(f"{done.found:,} deleted objects would be brought back.")
    _show_dry_run(terminal, applied=done.applied)
    terminal.result({"undo": asdict(done)})
    return FINDINGS if done.lost else DONE


ORPHANS = CommandGroup(
    "orphans",
    "Find objects that nothing refers to, and rows whose object is gone; mark, delete, bring back.\n\n"
    "Example: photo-pipeline orphans scan",
    (scan, mark, delete, undo),
)


def _bucket(project: Project) -> StoreBucket:
    # Before the store is asked anything: without state tables nothing can be told of it.
    require_state(project.database)
    return StoreBucket(project.database, project.store)


def _listing(bucket: StoreBucket, inventory: Path | None) -> Listing:
    return LiveListing(bucket) if inventory is None else InventoryListing(inventory, bucket=bucket.name)


def _scan_result(found: Scan) -> dict[str, Any]:
    return asdict(found) | {"share": found.census.share}


def _show_scan(terminal: Terminal, found: Scan) -> None:
    census = found.census
    terminal.say(f"By {found.origin}, of {found.made_at:%Y-%m-%d %H:%M:%S} UTC:")
    rows = [
        ("referred to", census.referenced),
        ("fresh: referred to by nothing yet", census.fresh),
        ("orphans", census.orphans),
        ("foreign: not our keys, and nothing refers to them", census.foreign),
        ("total", census.listed),
    ]
    terminal.table(("objects", "count"), rows, total=True)
    for each in found.orphans[:_SHOWN]:
        terminal.say(
            f"{each.reason}: {each.key} ({human_bytes(each.size)}, of {each.stored_at:%Y-%m-%d %H:%M} UTC)"
        )
    more = census.orphans + census.foreign - _SHOWN
    if more > 0:
        terminal.say(f"... and {more:,} more")


def _show_drift(terminal: Terminal, drift: Drift) -> None:
    terminal.say(
        f"{drift.objects:,} objects of the catalog and {drift.cells:,} cells were compared: "
        f"{drift.total:,} are not as they should be."
    )
    for each in drift.findings[:_SHOWN]:
        terminal.say(f"{each.kind}: {each.where}: {each.key}: {each.detail}. Fix: {each.fix}")
    if drift.total > _SHOWN:
        terminal.say(f"... and {drift.total - _SHOWN:,} more")


def _show_dry_run(terminal: Terminal, *, applied: bool) -> None:
    if not applied:
        terminal.say("Nothing was done. To do it: the same command with --apply")
