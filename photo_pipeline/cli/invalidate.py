"""`photo-pipeline invalidate`: let the CDN forget files whose bytes change under the same name."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson
from photo_pipeline.cli.project import open_project, require_state
from photo_pipeline.core.cost.budget import Budget
from photo_pipeline.core.delivery.cloudfront import distribution_id, open_cloudfront
from photo_pipeline.core.delivery.invalidation import Bill, Invalidated, Patience, bill_for
from photo_pipeline.core.delivery.invalidation import invalidate as send
from photo_pipeline.core.delivery.invalidation_plan import InvalidationPlan, plan_invalidation
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError, InfrastructureError
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.project import Project
from photo_pipeline.terminal import Terminal

_SHOWN = 20


def invalidate(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Keys, paths or URLs; the last character may be *.")
    ] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from-file", help="One path a line; - is standard input.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent; send nothing.")
    ] = False,
    collapse: Annotated[
        bool,
        typer.Option("--collapse/--no-collapse", help="Make a wildcard where it covers only what is asked."),
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Also content-addressed files, which need no invalidation.")
    ] = False,
    allow_cost: Annotated[
        bool, typer.Option("--allow-cost", help="Also what is no longer free in this month.")
    ] = False,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait until it is done.")] = 900,
    json_: AsJson = False,
) -> int:
    """Let the CDN forget files whose bytes change under the same name.

    Example: photo-pipeline invalidate /avatars/7.jpg '/banners/*' --dry-run
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        plan = _plan(project, [*(paths or ()), *_lines(from_file)], collapse=collapse, force=force)
        require_state(project)
        bill = bill_for(project.database, len(plan.paths))
        _show(terminal, plan, bill)
        if not plan.paths:
            raise GuardRefusedError(
                "invalidation", cause=f"{plan.refused[0].asked}: {plan.refused[0].reason}", fix=""
            )
        done = None
        if not dry_run:
            done = send(
                project.database,
                open_cloudfront(),
                plan,
                distribution=distribution_id(project.config),
                run=new_run_id(),
                allow_cost=allow_cost,
                budget=Budget.of(project.config),
                patience=Patience(deadline_s=wait),
            )
            _say(terminal, done)
    terminal.result({"plan": asdict(plan), "bill": asdict(bill), "done": asdict(done) if done else None})
    if done is not None and wait and not done.completed:
        return InfrastructureError.exit_code
    return FINDINGS if plan.refused else DONE


def _lines(from_file: Path | None) -> list[str]:
    if from_file is None:
        return []
    try:
        text = sys.stdin.read() if str(from_file) == "-" else from_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            str(from_file), cause=f"it cannot be read ({error})", fix="name a UTF-8 file"
        ) from error
    return [line for line in text.splitlines() if line]


def _plan(project: Project, asked: list[str], *, collapse: bool, force: bool) -> InvalidationPlan:
    if not asked:
        raise ConfigurationError(
            "invalidation", cause="no path is named", fix="name paths, or a file of them with --from-file"
        )
    keys_below = None
    if collapse and len(asked) > 1:
        store = project.store
        keys_below = lambda prefix: (key for key, _ in store.list(prefix))  # noqa: E731
    return plan_invalidation(UrlScheme.of(project.config), asked, keys_below=keys_below, force=force)


def _show(terminal: Terminal, plan: InvalidationPlan, bill: Bill) -> None:
    for path in plan.paths[:_SHOWN]:
        terminal.say(path)
    if len(plan.paths) > _SHOWN:
        terminal.say(f"… and {len(plan.paths) - _SHOWN:,} more")
    for each in plan.refused:
        terminal.say(f"left out: {each.asked}: {each.reason}")
    terminal.say(
        f"{plan.asked:,} asked for, {plan.repeated:,} of them repeated or covered, {plan.collapsed:,} under "
        f"wildcards found; {len(plan.paths):,} paths in {sum(1 for _ in plan.requests()):,} requests."
    )
    terminal.say(
        f"Counted in this month before: {bill.used:,}. Free ones left: {bill.free_left:,}. "
        f"This costs ${bill.usd:,.2f}."
    )


def _say(terminal: Terminal, done: Invalidated) -> None:
    if done.completed:
        terminal.say(f"Done: the CDN has forgotten {done.paths:,} paths.")
    else:
        terminal.say(f"Sent: CloudFront goes on by itself ({', '.join(done.ids)}).")
