"""`photo-pipeline alerts`: what is wrong, who was told, and whether the channels work."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, CommandGroup
from photo_pipeline.cli.project import open_config, open_project, require_state
from photo_pipeline.core.alerts.delivery import Sent
from photo_pipeline.core.alerts.register import AlertState, alert_states
from photo_pipeline.core.alerts.watch import look, send_test
from photo_pipeline.core.errors import InfrastructureError
from photo_pipeline.terminal import Terminal

_RESOLVED_SHOWN = 20


def list_(json_: AsJson = False) -> int:
    """Show what is wrong, the last alerts that are over, and who was told. Looks at nothing anew.

    Ends with exit code 1 if an alert is open, or a message could not be sent.

    Example: photo-pipeline alerts list --json
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        require_state(project)
        channels = project.config.alerts.channels
        with project.database.read() as connection:
            states = alert_states(connection, channels, resolved=_RESOLVED_SHOWN)
    _show(terminal, states)
    errors = [each for state in states for each in state.channels if each.failures]
    terminal.result({"channels": channels, "alerts": [asdict(each) for each in states]})
    return FINDINGS if errors or any(each.is_open for each in states) else DONE


def check(
    thorough: Annotated[
        bool,
        typer.Option(help="Also prove the audit log and look for drift, where that is switched on, now."),
    ] = False,
    json_: AsJson = False,
) -> int:
    """Look now, as the sensor `alerts` does each minute, and tell the channels what is new.

    For cron, where Dagster does not run. Ends with exit code 1 if anything is wrong, 4 if a message could not
    be sent; it is kept, and sent by the next look.

    Example: photo-pipeline alerts check
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        require_state(project)
        looked = look(project.database, project.config, thoroughly=thorough)
    for alert in looked.holds:
        terminal.say(f"{alert.title}\n  {alert.detail}")
    if not looked.holds:
        terminal.say("Nothing is wrong.")
    _say_sent(terminal, looked.sent)
    terminal.result({"holds": looked.holds, "sent": looked.sent})
    if any(not each.was_sent for each in looked.sent):
        return InfrastructureError.exit_code
    return FINDINGS if looked.holds else DONE


def test_(json_: AsJson = False) -> int:  # noqa: PT028  # a command, and no test
    """Send a test message over each configured channel. Ends with exit code 4 if one could not be sent.

    Example: photo-pipeline alerts test
    """
    terminal = Terminal(as_json=json_)
    sent = send_test(open_config())
    _say_sent(terminal, sent)
    terminal.result({"sent": sent})
    return DONE if all(each.was_sent for each in sent) else InfrastructureError.exit_code


def _say_sent(terminal: Terminal, sent: Sequence[Sent]) -> None:
    for each in sent:
        remark = f" ({each.error})" if each.error and each.was_sent else ""
        done = f"sent{remark}" if each.was_sent else f"NOT sent: {each.error}"
        terminal.say(f"{each.channel}: {each.title}: {done}")


def _show(terminal: Terminal, states: Sequence[AlertState]) -> None:
    for is_open, heading in ((True, "Open"), (False, "Over")):
        chosen = [each for each in states if each.is_open == is_open]
        terminal.heading(f"{heading}: {len(chosen)}")
        terminal.table(
            ("since (UTC)", "what", "times", "told"),
            [
                (f"{each.first_seen_at:%Y-%m-%d %H:%M}", each.title, each.times, _told(each))
                for each in chosen
            ],
        )
    for state in states:
        for each in state.channels:
            if each.error:
                terminal.say(f"{each.channel}: {state.title}: {each.error}")


def _told(state: AlertState) -> str:
    told = [f"{each.channel}{'' if each.told else ' FAILED'}" for each in state.channels]
    return ", ".join(told) or "nobody yet"


ALERTS = CommandGroup(
    "alerts",
    "What is wrong, who was told, and whether the channels work.\n\nExample: photo-pipeline alerts list",
    (list_, check, test_),
)
