"""`photo-pipeline doctor`: every prerequisite, and how to mend what is wrong."""

from collections.abc import Sequence

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson
from photo_pipeline.cli.project import chosen_config
from photo_pipeline.core.doctor.examine import CHECKS, Examined, examine
from photo_pipeline.core.doctor.finding import Status
from photo_pipeline.core.errors import InfrastructureError
from photo_pipeline.terminal import Terminal


def doctor(json_: AsJson = False) -> int:
    """Check every prerequisite, and say how to mend what is wrong. Leaves nothing behind.

    Example: photo-pipeline doctor
    """
    terminal = Terminal(as_json=json_)
    with terminal.progress("doctor") as progress:
        done = 0

        def told(_examined: Examined) -> None:
            nonlocal done
            done += 1
            progress("checks", done, len(CHECKS))

        examined = examine(chosen_config(), told=told)
    _show(terminal, examined)
    counts = {status.value: _count(examined, status) for status in Status}
    terminal.result(
        {"healthy": not (counts["problem"] or counts["down"]), "counts": counts, "checks": _rows(examined)}
    )
    if counts["down"]:
        return InfrastructureError.exit_code
    return FINDINGS if counts["problem"] else DONE


def _count(examined: Sequence[Examined], status: Status) -> int:
    return sum(each.status is status for each in examined)


def _rows(examined: Sequence[Examined]) -> list[dict[str, str]]:
    return [
        {
            "group": each.check.group,
            "check": each.check.name,
            "subject": finding.subject,
            "status": finding.status.value,
            "detail": finding.detail,
            "fix": finding.fix,
        }
        for each in examined
        for finding in each.findings
    ]


def _show(terminal: Terminal, examined: Sequence[Examined]) -> None:
    rows = _rows(examined)
    for group in dict.fromkeys(row["group"] for row in rows):
        terminal.heading(group)
        terminal.table(
            ("check", "is", "what was seen"),
            [
                [f"{row['check']} {row['subject']}".strip(), row["status"], row["detail"]]
                for row in rows
                if row["group"] == group
            ],
        )
    wrong = [row for row in rows if row["fix"]]
    terminal.heading("To do" if wrong else "Nothing to do: every prerequisite is met.")
    for number, row in enumerate(wrong, start=1):
        name = f"{row['check']} {row['subject']}".strip()
        terminal.say(f"{number}. {name}: {row['detail']}")
        terminal.say(f"   {row['fix'][0].upper()}{row['fix'][1:]}.")
