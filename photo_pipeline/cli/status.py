"""`photo-pipeline status`: where the migration stands."""

from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, AsJson
from photo_pipeline.cli.cost import document
from photo_pipeline.cli.project import open_project
from photo_pipeline.cli.watching import watch as watch_status
from photo_pipeline.core.catalog.inventory import last_inventory
from photo_pipeline.core.catalog.schema import ensure_schema, schema_exists
from photo_pipeline.core.cost.guard import cost_status
from photo_pipeline.core.migration.delta import zero_delta
from photo_pipeline.core.migration.state import batch_statuses, migration_row, unbatched_states
from photo_pipeline.core.migration.watch import wish
from photo_pipeline.core.report.measures import store_answers
from photo_pipeline.terminal import Terminal


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it live, in place, until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="With --watch: seconds between two looks.")
    ] = 1.0,
    json_: AsJson = False,
) -> int:
    """Show where the migration stands. Writes nothing.

    Only tables that an earlier version of the program made are brought up to date first.

    With --watch it stays and shows each change: in place in a terminal; elsewhere as a line, or with --json
    as one JSON document per line.

    Example: photo-pipeline status --json

    Example: photo-pipeline status --watch
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        is_begun = schema_exists(project.database)
        if is_begun:
            ensure_schema(project.database)
        if watch:
            return watch_status(project, terminal, interval_s=interval)
        row = migration_row(project.database) if is_begun else None
        if row is None:
            terminal.say("Nothing has been inventoried yet. Run: photo-pipeline migrate")
            terminal.result({"status": None, "inventory": None, "batches": []})
            return DONE
        inventory = last_inventory(project.database)
        batches = batch_statuses(project.database)
        unbatched = unbatched_states(project.database)
        stopped = wish(project.database)
        delta = zero_delta(project.database)
        spending = cost_status(project.database, project.config)
        with project.database.read() as connection:
            stores = store_answers(connection)
    if spending is not None and spending.sentence:
        terminal.say(f"{spending.sentence} More: photo-pipeline cost")
    if stopped.sentence:
        terminal.say(f"The migration was {stopped.sentence}. To let it go on: photo-pipeline resume")
    terminal.say(f"Migration: {row.status}. Last inventory: {row.inventoried_at:%Y-%m-%d %H:%M:%S} UTC.")
    terminal.say(delta.sentence)
    if inventory is not None:
        terminal.inventory(inventory)
    for store in stores:
        terminal.say(f"Store {store.bucket} at {store.endpoint}: {store.sentence}")
    terminal.heading("Batches")
    rows = [[b.key, b.state, _states(b.photos), b.error or ""] for b in batches]
    if unbatched:
        rows.append(["in no batch", "-", _states(unbatched), "see the report for the reasons"])
    terminal.table(("batch", "state", "photos", "note"), rows)
    terminal.result(
        {
            "status": row.status,
            "control": stopped,
            "cost": document(spending) if spending else None,
            "zero_delta": delta,
            "inventory": inventory,
            "batches": batches,
            "unbatched": unbatched,
            "stores": stores,
        }
    )
    return DONE


def _states(photos: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(photos.items()))
