"""Each command's help as a short manual page: what it does, options, examples, exit codes, see also."""

import re
from inspect import cleandoc
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

SEE_ALSO: Final = {
    "demo": ("init", "status", "rollback"),
    "init": ("mapping", "doctor", "plan"),
    "doctor": ("plan", "provision"),
    "plan": ("doctor", "migrate", "cost"),
    "migrate": ("plan", "status", "pause", "rollback"),
    "status": ("serve", "report", "pause"),
    "serve": ("status", "pause", "report"),
    "pause": ("resume", "abort", "status"),
    "resume": ("migrate", "pause", "status"),
    "abort": ("rollback", "resume"),
    "rollback": ("rehearse", "restore", "status"),
    "validate": ("report", "status"),
    "report": ("validate", "audit", "status"),
    "restore": ("rollback", "rebuild"),
    "rebuild": ("restore", "status"),
    "repoint": ("provision", "migrate"),
    "rehearse": ("rollback",),
    "cost": ("plan", "status"),
    "provision": ("doctor", "routing"),
    "orphans": ("cleanup", "delete"),
    "cleanup": ("validate", "orphans"),
    "delete": ("orphans", "cleanup"),
    "warm": ("invalidate", "validate"),
    "routing": ("provision",),
    "invalidate": ("warm",),
    "sign": ("provision",),
    "alerts": ("metrics", "status"),
    "metrics": ("alerts", "serve"),
    "audit": ("report",),
    "mapping": ("init", "plan"),
    "helpers": ("init",),
}
"""Which commands a reader of one's help may want next, by the command's first word."""

_EXAMPLE: Final = re.compile(r"^Examples?: *(.*(?:\n(?!\n).+)*)", re.MULTILINE)
_EXIT_CODES: Final = (
    "0 done; 1 finished, with findings; 2 usage or configuration; 3 refused by a guard, or paused; "
    "4 something outside is down: run it again; 130 interrupted by Ctrl-C."
)


def examples_of(help_text: str) -> list[str]:
    """Return the examples of a command's help text, each on one line as it is typed."""
    return [" ".join(found.split()) for found in _EXAMPLE.findall(cleandoc(help_text))]


class _Page:
    """Examples are lines to copy, so they are not wrapped; they follow the options."""

    help: str | None
    name: str | None

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        text = _EXAMPLE.sub("", cleandoc(self.help or "")).strip()
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(text)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Examples"):
            for example in examples_of(self.help or ""):
                formatter.write(f"  {example}\n")
        with formatter.section("Exit codes"):
            formatter.write_text(_EXIT_CODES)
        first_word = (ctx.command_path.split() or [""])[1:2]
        if first_word and first_word[0] in SEE_ALSO:
            with formatter.section("See also"):
                formatter.write_text(", ".join(f"photo-pipeline {name}" for name in SEE_ALSO[first_word[0]]))


class ManualCommand(_Page, TyperCommand):
    """A command with such a page."""


class ManualGroup(_Page, TyperGroup):
    """A group of commands with such a page."""
