"""`photo-pipeline cost`: what is spent this month, and the way to spend more on purpose."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from photo_pipeline.cli.command import DONE, AsJson
from photo_pipeline.cli.project import open_project, require_state
from photo_pipeline.core.cost.guard import CostGuard, CostStatus
from photo_pipeline.core.cost.reconciliation import reconcile
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.project import Project
from photo_pipeline.terminal import Terminal


def cost(
    action: Annotated[
        Literal["show", "override", "reconcile"],
        typer.Argument(
            help="show: where it stands. override: spend beyond the limits this month. "
            "reconcile: beside what AWS has counted (CloudWatch)."
        ),
    ] = "show",
    reason: Annotated[str, typer.Option("--reason", help="Why to override; kept in the audit log.")] = "",
    end: Annotated[bool, typer.Option("--end", help="With override: let the limits hold again.")] = False,
    json_: AsJson = False,
) -> int:
    """Show what was used this month, the limits, and the forecast; or override the limits on purpose.

    Example: photo-pipeline cost override --reason "the boss pays the rest"
    """
    terminal = Terminal(as_json=json_)
    if action != "override" and (reason or end):
        cause = "it belongs to `cost override`"
        raise ConfigurationError("--end" if end else "--reason", cause=cause, fix="say: cost override …")
    with open_project() as project:
        require_state(project)
        guard = CostGuard.of(project.database, project.config)
        if action == "override":
            _override(terminal, guard, reason, end=end)
        if action == "reconcile":
            return _reconcile(terminal, project)
        status = guard.status()
    if action == "show":
        _show(terminal, status)
    terminal.result({"cost": document(status)})
    return DONE


def _override(terminal: Terminal, guard: CostGuard, reason: str, *, end: bool) -> None:
    if end:
        guard.end_override(run=new_run_id())
        terminal.say("The limits hold again.")
        return
    until = guard.override(reason=reason, run=new_run_id())
    terminal.say(
        f"Uploads may go on beyond the limits until {until:%Y-%m-%d %H:%M} UTC; everything is still counted. "
        "Go on with: photo-pipeline migrate. Take it back with: photo-pipeline cost override --end"
    )


def _reconcile(terminal: Terminal, project: Project) -> int:
    found = reconcile(project.database, project.config)
    terminal.heading("Our own ledger beside what AWS has counted")
    terminal.table(
        ("what", "ours", "AWS", "difference", "as of (UTC)"),
        [
            (
                each.measure.replace("_", " "),
                each.ours,
                _amount(each.theirs),
                _amount(each.difference),
                f"{each.until:%Y-%m-%d %H:%M}",
            )
            for each in found
        ],
    )
    for each in found:
        terminal.say(f"{each.measure.replace('_', ' ')}: {each.reason}")
    terminal.say("The ledger stays as it is, and goes on deciding.")
    terminal.result({"comparisons": [asdict(each) | {"difference": each.difference} for each in found]})
    return DONE


def _amount(amount: int | None) -> str:
    return "unknown" if amount is None else f"{amount:,}"


def _show(terminal: Terminal, status: CostStatus) -> None:
    terminal.heading(f"Used in {status.month} (UTC)")
    units = sorted(status.used.keys() | status.reserved.keys())
    terminal.table(
        ("what", "used", "reserved"),
        [(unit.replace("_", " "), status.used.get(unit, 0), status.reserved.get(unit, 0)) for unit in units],
    )
    terminal.say(
        f"At list price ${status.usd:,.4f} this month, with storage; "
        f"${status.usd_projected:,.4f} if it goes on like this. Prices: {status.prices}."
    )
    terminal.heading(f"Limits: {status.budget}")
    later = {state.name: state for state in status.projection}
    terminal.table(
        ("limit", "used", "with reservations", "at the month's end"),
        [
            (
                state.title,
                f"{state.share:.1%}",
                f"{state.promised_share:.1%}",
                f"{later[state.name].share:.1%}",
            )
            for state in status.limits
        ],
    )
    if not status.limits:
        terminal.say("Everything is counted, and nothing refused. Set `limits` in the configuration file.")
    terminal.say(f"Breaker: {status.breaker}. {status.sentence}".rstrip())


def document(status: CostStatus) -> dict[str, Any]:
    """Return the status as JSON documents have it: with each limit's shares, and the sentence for people."""
    plain = asdict(status)
    for name, states in (("limits", status.limits), ("projection", status.projection)):
        shares = [{"share": each.share, "promised_share": each.promised_share} for each in states]
        plain[name] = [each | more for each, more in zip(plain[name], shares, strict=True)]
    return plain | {"sentence": status.sentence}
