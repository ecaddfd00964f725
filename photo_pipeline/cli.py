"""The `photo-pipeline` command: every operation without a Dagster server.

Commands are thin: parse, call the core, print. How output looks is `photo_pipeline.terminal`.
Exit codes: 0 done; 1 finished with findings; 2 usage or configuration; 3 refused by a guard; 4 something
outside is down (run again to continue).
"""

import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from photo_pipeline.core.catalog.batches import assign_batches
from photo_pipeline.core.catalog.checksums import hash_matched_files
from photo_pipeline.core.catalog.inventory import last_inventory, take_inventory
from photo_pipeline.core.catalog.schema import ensure_schema, schema_exists
from photo_pipeline.core.catalog.tables import BatchState, PhotoClass
from photo_pipeline.core.config import DEFAULT_CONFIG_NAME, find_config
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError, PhotoPipelineError
from photo_pipeline.core.migration.rollback import RolledBack
from photo_pipeline.core.migration.run import (
    MigratedBatch,
    batches_never_validated,
    batches_to_migrate,
    batches_to_roll_back,
    batches_to_validate,
    locate_photos,
    migrate_batch,
    new_run_id,
    roll_back_batch,
)
from photo_pipeline.core.migration.state import (
    BatchStatus,
    batch_statuses,
    migration_row,
    photos_in_trouble,
    unbatched_states,
)
from photo_pipeline.core.migration.validate import Validated, validate_batch
from photo_pipeline.core.project import Project
from photo_pipeline.core.report.write import write_report
from photo_pipeline.core.sources.presets import PRESETS, preset_text
from photo_pipeline.terminal import Terminal, human_bytes

DONE, FINDINGS = 0, 1

app = typer.Typer(
    name="photo-pipeline",
    help="Moves an application's photos from local disk to S3 + CloudFront, and can take any of it back.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Batch = Annotated[list[str] | None, typer.Option("--batch", help="A batch key; may be repeated.")]

# Classes that a person should look at. Unreferenced files are listed, but nothing depends on them.
_PROBLEM_CLASSES = (
    PhotoClass.FILE_MISSING,
    PhotoClass.UNSUPPORTED_FORMAT,
    PhotoClass.TOO_LARGE,
    PhotoClass.EMPTY,
    PhotoClass.UNREADABLE,
    PhotoClass.OUTSIDE_ROOT,
)


class _Options:
    """The options before the command."""

    config: Path | None = None


@app.callback()
def options(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help=f"Configuration file; default ${{PHOTO_PIPELINE_CONFIG}} or {DEFAULT_CONFIG_NAME}.",
        ),
    ] = None,
) -> None:
    """Moves an application's photos from local disk to S3 + CloudFront, and can take any of it back."""
    _Options.config = config


def command(function: Callable[..., int]) -> Callable[..., None]:
    """Register `function` as a command that returns its exit code and may raise our errors."""

    @app.command(name=function.__name__.rstrip("_").replace("_", "-"))
    @wraps(function)
    def run(**arguments: Any) -> None:
        terminal = Terminal(as_json=arguments.get("json_", False))
        try:
            code = function(**arguments)
        except PhotoPipelineError as error:
            terminal.error(error)
            code = error.exit_code
        except KeyboardInterrupt:
            terminal.note("Interrupted. Run the same command again to continue where it stopped.")
            code = 130
        raise typer.Exit(code)

    return run


def _project() -> Project:
    return Project.load(find_config(_Options.config))


@command
def demo(
    photos: Annotated[
        Path | None, typer.Option(help="Use this folder of real photos; it is only read.")
    ] = None,
    home: Annotated[Path, typer.Option(help="The demo's own folder.")] = Path(".photo_pipeline/demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw the last demo away first.")] = False,
    ui: Annotated[bool, typer.Option("--ui", help="Open Dagster on the demo instead of running it.")] = False,
    host: Annotated[str, typer.Option(help="Address for --ui.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for --ui.")] = 3000,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the demo's S3 and CDN.")] = False,
    json_: AsJson = False,
) -> int:
    """Migrate sample photos with an embedded S3, CDN and SQLite database.

    Example: photo-pipeline demo --photos ~/Pictures
    """
    # Imported here: Dagster takes over a second to import, and only the demo needs it.
    from photo_pipeline.demo import report as demo_report
    from photo_pipeline.demo import site as demo_site

    terminal = Terminal(as_json=json_)
    if stop:
        stopped = demo_site.stop_servers(home.resolve())
        terminal.say("The demo's servers are stopped." if stopped else "The demo's servers were not running.")
        return DONE
    if ui:
        from photo_pipeline.demo.ui import serve_ui

        # Servers that a finished demo left running would end by themselves in the middle of the session.
        demo_site.stop_servers(home.resolve())
        site = demo_site.prepare(home, photos=photos, fresh=fresh, idle_stop_s=None)
        terminal.say(f"Dagster opens on http://{host}:{port} . Stop it with Ctrl-C.")
        try:
            return serve_ui(site, host=host, port=port)
        finally:
            demo_site.stop_servers(site.home)
    terminal.note("Making the demo's photos, database and servers ...")
    return demo_report.run_and_report(demo_site.prepare(home, photos=photos, fresh=fresh), terminal)


@command
def init(
    preset: Annotated[str, typer.Option(help=f"One of: {', '.join(PRESETS)}.")] = "item_photos",
    output: Annotated[Path, typer.Option(help="Where to write it.")] = Path(DEFAULT_CONFIG_NAME),
    json_: AsJson = False,
) -> int:
    """Write a commented configuration file to start from.

    Example: photo-pipeline init --preset item_photos
    """
    text = preset_text(preset)
    try:
        with output.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise GuardRefusedError(
            str(output), cause="it exists already", fix="name another file with --output, or remove it first"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            str(output),
            cause=f"it cannot be written ({error.strerror})",
            fix="name another file with --output",
        ) from error
    terminal = Terminal(as_json=json_)
    terminal.say(f"Wrote {output}. Edit the marked lines, then run: photo-pipeline migrate")
    terminal.result({"written": output, "preset": preset})
    return DONE


@command
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
    with _project() as project:
        _require_reachable(project)
        if project.config.limits is not None:
            terminal.note("`limits` is read but not enforced yet: this version has no cost guard.")
        with terminal.progress("inventory") as progress:
            inventory = take_inventory(project.database, project.config, progress=progress)
            hash_matched_files(project.database, project.config, rehash=rehash, progress=progress)
            assign_batches(project.database, project.config)
        terminal.inventory(inventory)
        keys = batches_to_migrate(project.database, wanted=batch, retry_failed=retry_failed)
        outcomes = []
        for key in keys:
            with terminal.progress(key) as progress:
                outcome = migrate_batch(
                    project,
                    key,
                    run=new_run_id(),
                    retry_failed=retry_failed,
                    include_rolled_back=bool(batch),
                    validation_sample=sample,
                    progress=progress,
                )
            _show_batch(terminal, outcome)
            outcomes.append(outcome)
        # A run that was interrupted after its rewrite left its batch unproven from outside.
        late = _validate(project, terminal, batches_never_validated(project.database), sample=sample)
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


@command
def status(json_: AsJson = False) -> int:
    """Show where the migration stands. Writes nothing.

    Example: photo-pipeline status --json
    """
    terminal = Terminal(as_json=json_)
    with _project() as project:
        row = migration_row(project.database) if schema_exists(project.database) else None
        if row is None:
            terminal.say("Nothing has been inventoried yet. Run: photo-pipeline migrate")
            terminal.result({"status": None, "inventory": None, "batches": []})
            return DONE
        inventory = last_inventory(project.database)
        batches = batch_statuses(project.database)
        unbatched = unbatched_states(project.database)
    terminal.say(f"Migration: {row.status}. Last inventory: {row.inventoried_at:%Y-%m-%d %H:%M:%S} UTC.")
    if inventory is not None:
        terminal.inventory(inventory)
    terminal.heading("Batches")
    rows = [[b.key, b.state, _states(b.photos), b.error or ""] for b in batches]
    if unbatched:
        rows.append(["in no batch", "-", _states(unbatched), "see the report for the reasons"])
    terminal.table(("batch", "state", "photos", "note"), rows)
    terminal.result(
        {"status": row.status, "inventory": inventory, "batches": batches, "unbatched": unbatched}
    )
    return DONE


@command
def rollback(
    batch: Batch = None,
    photo: Annotated[
        list[int] | None, typer.Option("--photo", help="A pp_photo id; may be repeated.")
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
    with _project() as project:
        _require_state(project)
        targets = locate_photos(project.database, photo) if photo else {}
        keys = list(targets) or batches_to_roll_back(project.database, wanted=batch)
        done: dict[str, RolledBack] = {}
        for key in keys:
            with terminal.progress(key) as progress:
                done[key] = roll_back_batch(
                    project, key, run=new_run_id(), only_photos=targets.get(key), progress=progress
                )
    terminal.table(
        ("batch", "rolled back", "edited since", "failed", "files restored"),
        [[k, r.rolled_back, r.conflicts, r.failed, r.files_restored] for k, r in done.items()],
    )
    if not done:
        terminal.say("No row is rewritten, so there is nothing to take back.")
    elif any(r.conflicts or r.failed for r in done.values()):
        terminal.say("Some rows were left as they are; see: photo-pipeline report")
    terminal.result({"batches": {key: asdict(result) for key, result in done.items()}})
    return FINDINGS if any(r.conflicts or r.failed for r in done.values()) else DONE


@command
def validate(
    batch: Batch = None,
    sample: Annotated[float, typer.Option(min=0.0001, max=1.0, help="Share of photos to check.")] = 1.0,
    json_: AsJson = False,
) -> int:
    """Check migrated photos from outside: row, URL, delivered bytes, dimensions, metadata.

    Example: photo-pipeline validate --sample 0.1
    """
    terminal = Terminal(as_json=json_)
    with _project() as project:
        _require_state(project)
        keys = batches_to_validate(project.database, wanted=batch)
        results = _validate(project, terminal, keys, sample=sample)
    terminal.table(
        ("batch", "photos", "checked", "passed", "failed"),
        [[key, r.photos, r.checked, r.passed, r.failed] for key, r in results.items()],
    )
    for result in results.values():
        for finding in result.findings:
            terminal.say(f"{finding.source} {finding.row_key} {finding.path}: {'; '.join(finding.problems)}")
    terminal.result({"batches": {key: asdict(result) for key, result in results.items()}})
    return FINDINGS if any(result.failed for result in results.values()) else DONE


@command
def report(json_: AsJson = False) -> int:
    """Write the migration report: one HTML page, and the same as JSON and CSV.

    Example: photo-pipeline report
    """
    terminal = Terminal(as_json=json_)
    with _project() as project:
        _require_state(project)
        files = write_report(project.database, project.config, project.cdn)
    terminal.say(f"Report: {files.html}")
    terminal.result({"html": files.html, "json": files.json, "csv": files.csv})
    return DONE


def _validate(
    project: Project, terminal: Terminal, keys: list[str], *, sample: float
) -> dict[str, Validated]:
    results = {}
    for key in keys:
        with terminal.progress(key) as progress:
            results[key] = validate_batch(
                project.database,
                project.config,
                project.cdn,
                key,
                run=new_run_id(),
                sample=sample,
                progress=progress,
            )
    return results


def _require_reachable(project: Project) -> None:
    """Open what a migration needs before anything is written."""
    _ = (project.database, project.store)


def _require_state(project: Project) -> None:
    if not schema_exists(project.database):
        raise ConfigurationError(
            "the migration", cause="nothing has been migrated yet", fix="run `photo-pipeline migrate` first"
        )
    # An earlier version may have migrated; taking it back must not need an inventory first.
    ensure_schema(project.database)


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


def _states(photos: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(photos.items()))


def main() -> None:
    """Run the command line."""
    app(prog_name="photo-pipeline", args=sys.argv[1:])


if __name__ == "__main__":
    main()
