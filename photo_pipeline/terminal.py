"""How the CLI speaks: tables, progress bars, JSON, and errors as one clear sentence.

Output goes to standard output; progress and errors to standard error, so that `--json` stays clean.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from photo_pipeline.core.errors import PhotoPipelineError
from photo_pipeline.core.progress import Progress as CoreProgress
from photo_pipeline.core.progress import no_progress

if TYPE_CHECKING:
    # For its name only: with SQLAlchemy and Alembic it would take half a second of each command's start.
    from photo_pipeline.core.catalog.inventory import Inventory


class Terminal:
    """One command's output, for people or (as_json) for programs."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

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
        table = Table(*columns, show_edge=False, pad_edge=False)
        for index, column in enumerate(table.columns):
            if rows and isinstance(rows[0][index], int | float):
                column.justify = "right"
        for number, row in enumerate(rows):
            if total and number == len(rows) - 1:
                table.add_section()
            table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
        self._out.print(table)

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
            json.dump(document, sys.stdout, default=_plain, ensure_ascii=False, indent=2)
            sys.stdout.write("\n")

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

    @contextmanager
    def progress(self, title: str) -> Iterator[CoreProgress]:
        """Show one bar per stage while the body runs; silent with --json or when nobody watches."""
        if self.as_json or not self._err.is_terminal:
            yield no_progress
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._err, transient=True) as bars:
            tasks: dict[str, TaskID] = {}

            def report(stage: str, done: int, total: int | None) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(f"{title}: {stage}", total=total)
                bars.update(tasks[stage], completed=done, total=total)

            yield report


def human_bytes(size: float) -> str:
    """Return a size as people read it, in binary multiples (1 KB = 1,024 bytes)."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if abs(size) < 1024 or unit == "GB":
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    raise AssertionError("the last unit takes everything")  # pragma: no cover


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
