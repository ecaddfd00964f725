"""Runs the demo and tells in the terminal what happened and what to do next."""

from dataclasses import asdict
from pathlib import Path

from photo_pipeline.core.catalog.tables import PhotoState
from photo_pipeline.demo.run import DemoRun, run_demo
from photo_pipeline.demo.site import DemoSite
from photo_pipeline.terminal import Terminal


def run_and_report(site: DemoSite, terminal: Terminal) -> int:
    """Run the demo's jobs, print the summary, and return the exit code.

    The demo's own problem photos are part of the show, so they do not make it fail.
    """
    run = run_demo(site, terminal.note)
    _summary(run, terminal)
    _next_steps(site, run, terminal)
    terminal.result(
        {
            "inventory": asdict(run.inventory),
            "adds_up": run.inventory.adds_up,
            "batches": [asdict(batch) for batch in run.batches],
            "example_urls": run.example_urls,
            "report": run.report,
            "config": site.config,
            "seconds": run.seconds,
        }
    )
    return 0 if run.inventory.adds_up else 1


def _summary(run: DemoRun, terminal: Terminal) -> None:
    terminal.inventory(run.inventory)
    terminal.heading("Batches, each a Dagster partition")
    states = sorted({state for batch in run.batches for state in batch.photos})
    terminal.table(
        ("batch", "state", *states),
        [[b.key, b.state, *(b.photos.get(state, 0) for state in states)] for b in run.batches],
    )
    if any(b.photos.get(PhotoState.QUARANTINED) for b in run.batches):
        terminal.say("Quarantined: set aside with its reason, which is in the report with what to do.")


def _next_steps(site: DemoSite, run: DemoRun, terminal: Terminal) -> None:
    config = _shown(site.config)
    terminal.heading("Rewritten URLs (they open in a browser while the demo's servers run, for an hour)")
    for url in run.example_urls:
        terminal.say(url)
    terminal.heading("Report: open this file in a browser")
    terminal.say(_shown(run.report))
    terminal.heading("Next")
    command = f".venv/bin/photo-pipeline --config {config}"
    for typed, meaning in (
        ("make ui", "look at it all in Dagster, and live in the dashboard"),
        (f"{command} status", "where it stands"),
        (f"{command} rollback --all", "take it back: every row as it was"),
        ("make stop", "stop the demo's servers; make clean removes everything"),
    ):
        terminal.say(f"# {meaning}")
        terminal.say(typed)


def _shown(path: Path) -> str:
    """Return the path as the user would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
