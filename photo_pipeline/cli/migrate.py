"""`photo-pipeline migrate`: inventory, then every open batch."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, Batch
from photo_pipeline.cli.project import open_project
from photo_pipeline.cli.validate import validate_batches
from photo_pipeline.core.catalog.batches import assign_batches
from photo_pipeline.core.catalog.checksums import hash_matched_files
from photo_pipeline.core.catalog.inventory import Inventory, take_inventory
from photo_pipeline.core.catalog.schema import ensure_schema, schema_exists
from photo_pipeline.core.catalog.tables import BatchState, PhotoClass
from photo_pipeline.core.migration.run import (
    MigratedBatch,
    batches_never_validated,
    batches_to_migrate,
    migrate_batch,
    new_run_id,
)
from photo_pipeline.core.migration.state import BatchStatus, batch_statuses, photos_in_trouble
from photo_pipeline.core.migration.watch import heeding, require_running
from photo_pipeline.core.project import Project
from photo_pipeline.core.report.write import write_report
from photo_pipeline.terminal import Terminal, human_bytes

# Classes that a person should look at. Unreferenced files are listed, but nothing depends on them.
_PROBLEM_CLASSES = (
    PhotoClass.FILE_MISSING,
    PhotoClass.UNSUPPORTED_FORMAT,
    PhotoClass.TOO_LARGE,
    PhotoClass.EMPTY,
    PhotoClass.UNREADABLE,
    PhotoClass.OUTSIDE_ROOT,
)


def migrate(
    batch: Batch = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try quarantined photos again.")
    ] = False,
    rehash: Annotated[bool, typer.Option("--rehash", help="Read every file again.")] = False,
    sample: Annotated[float, typer.Option(min=0.0001, max=1.0, help="Share of photos to validate.")] = 1.0,
    json_: AsJson = False,
) -> int:
    """Inventory, then migrate and validate every open batch. Safe to run again at any time.

    Example: photo-pipeline migrate --batch batch-000001
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        _require_reachable(project)
        if project.config.limits is not None:
            terminal.note("`limits` is read but not enforced yet: this version has no cost guard.")
        inventory = _take_inventory(project, terminal, rehash=rehash)
        keys = batches_to_migrate(project.database, wanted=batch, retry_failed=retry_failed)
        outcomes = [
            _migrate(project, terminal, key, retry_failed=retry_failed, named=bool(batch), sample=sample)
            for key in keys
        ]
        # A run that was interrupted after its rewrite left its batch unproven from outside.
        late = validate_batches(project, terminal, batches_never_validated(project.database), sample=sample)
        files = write_report(project.database, project.config, project.cdn)
        statuses = batch_statuses(project.database)
        problems = photos_in_trouble(project.database) + sum(each.failed for each in late.values())
    problems += sum(inventory.by_class[name] for name in _PROBLEM_CLASSES)
    problems += sum(each.state == BatchState.FAILED for each in statuses)
    _say_what_next(terminal, keys, files.html, statuses=statuses, problems=problems)
    terminal.result(
        {
            "inventory": inventory,
            "batches": [_batch_document(outcome) for outcome in outcomes],
            "report": files.html,
        }
    )
    return FINDINGS if problems or any(outcome.has_findings for outcome in outcomes) else DONE


def _require_reachable(project: Project) -> None:
    """Open what a migration needs before anything is written."""
    _ = (project.database, project.store)


def _take_inventory(project: Project, terminal: Terminal, *, rehash: bool) -> Inventory:
    if schema_exists(project.database):
        ensure_schema(project.database)
        require_running(project.database)
    with terminal.progress("inventory") as shown:
        progress = heeding(shown, project.database)
        inventory = take_inventory(project.database, project.config, progress=progress)
        hash_matched_files(project.database, project.config, rehash=rehash, progress=progress)
        assign_batches(project.database, project.config)
    terminal.inventory(inventory)
    return inventory


def _migrate(
    project: Project, terminal: Terminal, key: str, *, retry_failed: bool, named: bool, sample: float
) -> MigratedBatch:
    """Migrate one batch and show it; photos that were rolled back move only if it was asked for by name."""
    with terminal.progress(key) as progress:
        outcome = migrate_batch(
            project,
            key,
            run=new_run_id(),
            retry_failed=retry_failed,
            include_rolled_back=named,
            validation_sample=sample,
            progress=progress,
        )
    _show_batch(terminal, outcome)
    return outcome


def _show_batch(terminal: Terminal, outcome: MigratedBatch) -> None:
    made, sent, rows, found = outcome.processed, outcome.uploaded, outcome.rewritten, outcome.validated
    facts: tuple[str, ...] = (
        f"{made.variants_made} variants made",
        f"{sent.uploaded} objects uploaded ({human_bytes(sent.bytes)})",
        f"{sent.reused + sent.adopted} already there",
        f"{rows.rewritten} references rewritten",
        f"{found.passed} of {found.checked} validated",
        f"{made.quarantined + sent.quarantined + rows.failed} quarantined",
        f"{rows.conflicts} conflicts",
    )
    if made.quality.mean is not None and made.quality.worst is not None:
        facts += (f"quality {made.quality.mean:.1f} (worst {made.quality.worst:.1f})",)
    seconds = sum(outcome.seconds.values())
    terminal.say(f"{outcome.batch}: {outcome.state} in {seconds:.1f} s. {', '.join(facts)}")


def _batch_document(outcome: MigratedBatch) -> dict[str, Any]:
    document = {
        "batch": outcome.batch,
        "state": outcome.state,
        "seconds": outcome.seconds,
        "rewritten": asdict(outcome.rewritten),
        "validated": asdict(outcome.validated),
    }
    made, sent = vars(outcome.processed).copy(), vars(outcome.uploaded).copy()
    made.pop("samples")
    sent.pop("_lock")
    return document | {"processed": made, "uploaded": sent}


def _say_what_next(
    terminal: Terminal, keys: list[str], report: Path, *, statuses: list[BatchStatus], problems: int
) -> None:
    rolled_back = [each.key for each in statuses if each.state == BatchState.ROLLED_BACK]
    if not keys:
        terminal.say("No batch is open; there was nothing to migrate.")
    if rolled_back:
        terminal.say(
            f"{len(rolled_back)} batches are rolled back and stay so; to migrate one again: "
            f"photo-pipeline migrate --batch {rolled_back[0]}"
        )
    if problems:
        terminal.say(f"{problems} findings need a look (exit code 1); the report lists each with its fix.")
    terminal.say(f"\nReport: {report}")
    terminal.say("Next: photo-pipeline status | validate | rollback --all")
