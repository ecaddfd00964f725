"""`photo-pipeline migrate`: inventory, then every open batch."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, Batch
from photo_pipeline.cli.project import open_project
from photo_pipeline.cli.validate import validate_batches
from photo_pipeline.core.catalog.batches import assign_batches
from photo_pipeline.core.catalog.checksums import hash_matched_files
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.inventory import Inventory
from photo_pipeline.core.catalog.schema import ensure_schema, schema_exists
from photo_pipeline.core.catalog.tables import BatchState, PhotoClass
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.live.batches import DONE as DONE_STATES
from photo_pipeline.core.migration.delta import (
    MAX_PASSES,
    DeltaPass,
    finish_pass,
    take_pass,
    zero_delta,
)
from photo_pipeline.core.migration.run import MigratedBatch, migrate_batch, new_run_id, retry_photos
from photo_pipeline.core.migration.selection import batches_never_validated, batches_to_migrate
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
    photo: Annotated[
        list[int] | None,
        typer.Option("--photo", help="With --retry-failed: only this pp_photo id; may be repeated."),
    ] = None,
    rehash: Annotated[bool, typer.Option("--rehash", help="Read every file again.")] = False,
    sample: Annotated[float, typer.Option(min=0.0001, max=1.0, help="Share of photos to validate.")] = 1.0,
    json_: AsJson = False,
) -> int:
    """Inventory, then migrate and validate every open batch. Safe to run again at any time.

    Example: photo-pipeline migrate --batch batch-000001
    """
    terminal = Terminal(as_json=json_)
    if photo and (batch or not retry_failed):
        cause = "it names photos to retry, so it needs --retry-failed and takes no --batch"
        raise ConfigurationError("--photo", cause=cause, fix="migrate --retry-failed --photo ID")
    with open_project() as project:
        _require_reachable(project)
        work = _Work(project, terminal, batch, photo, retry_failed=retry_failed, sample=sample)
        inventory = work.run(rehash=rehash)
        delta = zero_delta(project.database)
        # A run that was interrupted after its rewrite left its batch unproven from outside.
        late = validate_batches(project, terminal, batches_never_validated(project.database), sample=sample)
        files = write_report(project.database, project.config, project.cdn)
        statuses = batch_statuses(project.database)
        problems = photos_in_trouble(project.database) + sum(each.failed for each in late.values())
    problems += sum(inventory.by_class[name] for name in _PROBLEM_CLASSES)
    problems += sum(each.state == BatchState.FAILED for each in statuses)
    terminal.say(delta.sentence)
    _say_what_next(terminal, work.outcomes, files.html, statuses=statuses, problems=problems)
    terminal.result(
        {
            "inventory": inventory,
            "batches": [_batch_document(outcome) for outcome in work.outcomes],
            "passes": work.passes,
            "zero_delta": delta,
            "report": files.html,
        }
    )
    return FINDINGS if problems or any(outcome.has_findings for outcome in work.outcomes) else DONE


def _require_reachable(project: Project) -> None:
    """Open what a migration needs before anything is written."""
    _ = (project.database, project.store)


@dataclass
class _Work:
    """Passes of inventory and migration, until one finds nothing (or, for what was named, once)."""

    project: Project
    terminal: Terminal
    batches: list[str] | None
    photos: list[int] | None
    retry_failed: bool
    sample: float
    outcomes: list[MigratedBatch] = field(default_factory=list)
    passes: list[DeltaPass] = field(default_factory=list)

    def run(self, *, rehash: bool) -> Inventory:
        """Return the first pass's inventory."""
        database, run = self.project.database, new_run_id()
        if schema_exists(database):
            ensure_schema(database)
            require_running(database)
        first = self._look(run, rehash=rehash)
        self.terminal.inventory(first)
        self._migrate()
        named = self.batches or self.photos
        while not named and not self.passes[-1].still and len(self.passes) < MAX_PASSES:
            self._look(run, rehash=False)
            self.terminal.say(f"Pass {len(self.passes)}: {self.passes[-1].sentence}.")
            if self.passes[-1].still or not self.passes[-1].moved_on_from(self.passes[-2]):
                break
            self._migrate()
        return first

    def _look(self, run: str, *, rehash: bool) -> Inventory:
        database, config = self.project.database, self.project.config
        with self.terminal.progress("inventory") as shown:
            progress = heeding(shown, database)
            inventory = take_pass(database, config, run=run, progress=progress)
            hash_matched_files(database, config, rehash=rehash, progress=progress)
            assign_batches(database, config)
        found = finish_pass(database)
        self.passes += [found] if found else []
        return inventory

    def _migrate(self) -> None:
        # What failed is tried again once, and not in each pass.
        retry, database = self.retry_failed and len(self.passes) == 1, self.project.database
        if self.photos:
            keys, retry = retry_photos(self.project, self.photos, run=new_run_id()), False
        else:
            keys = batches_to_migrate(database, wanted=self.batches, retry_failed=retry)
        photos = {
            each.key: sum(each.photos.values()) for each in batch_statuses(database) if each.key in keys
        }
        self.terminal.expect(photos)
        for key in keys:
            self.outcomes.append(self._migrate_batch(key, retry_failed=retry))

    def _migrate_batch(self, key: str, *, retry_failed: bool) -> MigratedBatch:
        """Migrate one batch and show it; rolled-back photos move only if it was asked for by name."""
        with self.terminal.progress(key) as progress:
            outcome = migrate_batch(
                self.project,
                key,
                run=new_run_id(),
                retry_failed=retry_failed,
                include_rolled_back=bool(self.batches),
                validation_sample=self.sample,
                progress=progress,
            )
        _show_batch(self.terminal, outcome)
        return outcome


def _photos_to_do(database: Database, keys: set[str]) -> dict[str, int]:
    """Return how many photos of each of those batches are not migrated yet."""
    return {
        batch.key: sum(count for state, count in batch.photos.items() if state not in DONE_STATES)
        for batch in batch_statuses(database)
        if batch.key in keys
    }


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
    terminal: Terminal,
    outcomes: list[MigratedBatch],
    report: Path,
    *,
    statuses: list[BatchStatus],
    problems: int,
) -> None:
    rolled_back = [each.key for each in statuses if each.state == BatchState.ROLLED_BACK]
    if not outcomes:
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
