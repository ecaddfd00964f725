"""How the CLI speaks: tables, progress bars, JSON, and errors as one clear sentence.

Output goes to standard output; progress and errors to standard error, so that `--json` stays clean.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, RenderableType
from rich.live import Live

from photo_pipeline.core.errors import PhotoPipelineError
from photo_pipeline.core.progress import Progress as CoreProgress
from photo_pipeline.core.progress import no_progress
from photo_pipeline.terminal_progress import Clock, Journey, bars, human_bytes, plain_lines
from photo_pipeline.terminal_table import table as fitting_table

if TYPE_CHECKING:
    # For its name only: with SQLAlchemy and Alembic it would take half a second of each command's start.
    from photo_pipeline.core.catalog.inventory import Inventory

__all__ = ["Terminal", "human_bytes"]

_UNBOUNDED: Final = 10_000
_NO_SCREENS: Final = ("dumb", "unknown")


class Terminal:
    """One command's output, for people or (as_json) for programs."""

    def __init__(self, *, as_json: bool = False, clock: Clock = time.monotonic) -> None:
        self.as_json = as_json
        self._clock = clock
        self._out = _console()
        self._err = _console(stderr=True)
        self._journey: Journey | None = None

    @property
    def is_live(self) -> bool:
        """Whether progress can be drawn in place; forced colours do not make a pipe a screen."""
        return sys.stderr.isatty() and os.environ.get("TERM", "") not in _NO_SCREENS

    @property
    def draws(self) -> bool:
        """Whether results can be drawn in place: standard output is a terminal, and wants no JSON."""
        return not self.as_json and sys.stdout.isatty() and os.environ.get("TERM", "") not in _NO_SCREENS

    @contextmanager
    def drawing(self) -> Iterator[Callable[[Callable[[int], RenderableType]], None]]:
        """Give a function that draws over what it drew before; it is told what to draw at which width."""
        console = _console(wrapping=True)
        with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
            yield lambda made: live.update(made(console.width), refresh=True)

    def say(self, text: str) -> None:
        """Print a line for people; nothing with --json. Markup in `text` is not interpreted."""
        if not self.as_json:
            self._out.print(text, markup=False)

    def heading(self, text: str) -> None:
        """Print a heading for people."""
        if not self.as_json:
            self._out.print(f"\n{text}", style="bold", markup=False)

    def note(self, text: str) -> None:
        """Print a line about what is going on, to standard error."""
        if not self.as_json:
            self._err.print(text, markup=False, style="dim")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, total: bool = False) -> None:
        """Print a table; numbers are right-aligned and grouped; with `total` the last row is one."""
        if self.as_json:
            return
        self._out.print(fitting_table(columns, rows, width=self._out.width, total=total))

    def inventory(self, inventory: "Inventory") -> None:
        """Print an inventory's classes, and that they add up."""
        self.heading("Inventory: every reference and file, in exactly one class")
        total = sum(inventory.by_class.values())
        self.table(("class", "count"), [*inventory.by_class.items(), ("total", total)], total=True)
        expected = inventory.references + inventory.unreferenced_files
        self.say(
            f"{inventory.references:,} references in {inventory.rows:,} rows + "
            f"{inventory.unreferenced_files:,} unreferenced files = {expected:,}: "
            f"{'the classes add up' if inventory.adds_up else 'THE CLASSES DO NOT ADD UP'}."
        )

    def result(self, document: Mapping[str, Any]) -> None:
        """Print the command's result as one JSON document, with --json only."""
        if self.as_json:
            _write_json(document, indent=2)

    def result_line(self, document: Mapping[str, Any]) -> None:
        """Print one of several documents, on a line of its own, with --json only."""
        if self.as_json:
            _write_json(document, indent=None)

    def flush(self) -> None:
        """Let whoever reads our output through a pipe see what was printed so far."""
        sys.stdout.flush()

    def error(self, error: PhotoPipelineError) -> None:
        """Print an error: one sentence, and with --json also as a document on standard output."""
        self._err.print(f"photo-pipeline: {error}", markup=False, style="red")
        self.result(
            {
                "error": type(error).__name__,
                "thing": error.thing,
                "cause": error.cause,
                "fix": error.fix,
                "exit_code": error.exit_code,
            }
        )

    def expect(self, photos: Mapping[str, int]) -> None:
        """Say beforehand which batches are coming, with their photos, so that progress can tell the whole."""
        self._journey = Journey(photos, self._clock) if len(photos) > 1 else None

    @contextmanager
    def progress(self, title: str) -> Iterator[CoreProgress]:
        """Show how far the body is: bars in a terminal, plain lines elsewhere, nothing with --json."""
        if self.as_json:
            yield no_progress
            return
        if self.is_live:
            shown = bars(title, _console(stderr=True, wrapping=True), self._journey, self._clock)
        else:
            shown = plain_lines(title, self.note, self._journey, self._clock)
        with shown as progress:
            yield progress
        if self._journey is not None:
            self._journey.ended(title)


def _console(*, stderr: bool = False, wrapping: bool = False) -> Console:
    """Return a console that follows what people agreed on: NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE, TERM.

    What is printed is broken by the terminal itself, so that it can be copied whole; what is drawn in place
    (`wrapping`) has to know its height.
    """
    stream = sys.stderr if stderr else sys.stdout
    said = os.environ.get
    forced = any(said(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE"))
    is_terminal = stream.isatty()
    # A file or a pipe has no width; only who sets COLUMNS wants one.
    width = None if is_terminal or said("COLUMNS") else _UNBOUNDED
    return Console(
        stderr=stderr,
        highlight=False,
        soft_wrap=not wrapping,
        force_terminal=is_terminal or forced,
        color_system=None if said("NO_COLOR") or (said("CLICOLOR") == "0" and not forced) else "auto",
        width=width,
    )


def _write_json(document: Mapping[str, Any], *, indent: int | None) -> None:
    # A locale without Unicode could not print all of it, and "?" would be another value.
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    json.dump(document, sys.stdout, default=_plain, ensure_ascii=ascii_only, indent=indent)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
