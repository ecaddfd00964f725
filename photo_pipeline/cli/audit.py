"""`photo-pipeline audit`: who did what, and the proof that the log of it is unbroken."""

from dataclasses import asdict
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, CommandGroup
from photo_pipeline.cli.project import open_project, require_state
from photo_pipeline.core.audit import entries
from photo_pipeline.core.audit import verify as verify_log
from photo_pipeline.core.migration.ledger_audit import LedgerVerdict, verify_ledger
from photo_pipeline.terminal import Terminal


def verify(
    head: Annotated[
        str | None, typer.Option("--head", help="A hash noted earlier, which the log must still have.")
    ] = None,
    json_: AsJson = False,
) -> int:
    """Prove that the audit log is unbroken, and the rewrite ledger what it says.

    Example: photo-pipeline audit verify
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        require_state(project)
        with project.database.read() as connection:
            verdict = verify_log(connection, known_head=head)
            ledger = verify_ledger(connection) if verdict.holds else None
    if verdict.holds:
        terminal.say(f"The audit log is unbroken: {verdict.count:,} entries. Its head is {verdict.head}")
    else:
        terminal.say(f"The audit log is BROKEN at entry {verdict.broken_seq}: {verdict.reason}.")
    holds = verdict.holds and ledger is not None and ledger.holds
    if ledger is not None:
        _say_ledger(terminal, ledger)
    terminal.result({"holds": holds} | asdict(verdict) | {"ledger": asdict(ledger) if ledger else None})
    return DONE if holds else FINDINGS


def _say_ledger(terminal: Terminal, ledger: LedgerVerdict) -> None:
    if not ledger.holds:
        terminal.say(f"The ledger (pp_rewrite) is CHANGED: entry {ledger.broken_seq}: {ledger.reason}.")
        return
    terminal.say(f"The ledger is as it was written: {ledger.rows:,} rows.")
    if ledger.unaudited:
        terminal.say(
            f"{ledger.unaudited:,} ledger rows have no entry in the log; an earlier version wrote them, "
            "or somebody else."
        )


def show(
    last: Annotated[int, typer.Option(min=1, help="How many entries.")] = 50,
    batch: Annotated[str | None, typer.Option(help="Only those of this batch.")] = None,
    json_: AsJson = False,
) -> int:
    """Show the last entries of the audit log, the newest last.

    Example: photo-pipeline audit show --last 10
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        require_state(project)
        with project.database.read() as connection:
            found = entries(connection, last=last, batch=batch)
    terminal.table(
        ("entry", "time (UTC)", "who", "did", "to"),
        [[str(e.seq), f"{e.at:%Y-%m-%d %H:%M:%S}", e.actor, e.action, e.subject] for e in found],
    )
    terminal.result({"entries": found})
    return DONE


AUDIT = CommandGroup(
    "audit",
    "Show who did what, and prove that the log of it is unbroken.\n\nExample: photo-pipeline audit verify",
    (verify, show),
)
