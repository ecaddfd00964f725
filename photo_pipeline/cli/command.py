"""What every command has in common: its options, its exit code, and what becomes of our errors."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from photo_pipeline.cli import completion
from photo_pipeline.core.errors import PhotoPipelineError
from photo_pipeline.terminal import Terminal

DONE, FINDINGS = 0, 1

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Batch = Annotated[
    list[str] | None,
    typer.Option("--batch", help="A batch key; may be repeated.", autocompletion=completion.batches),
]


@dataclass(frozen=True)
class CommandGroup:
    """Commands that share a first word, such as `audit verify`."""

    name: str
    help: str
    commands: tuple[Callable[..., int], ...]


def command_name(function: Callable[..., int]) -> str:
    """Return how the function is called on the command line."""
    return function.__name__.rstrip("_").replace("_", "-")


def as_command(function: Callable[..., int]) -> Callable[..., None]:
    """Make a command of a function that returns its exit code and may raise our errors."""

    @wraps(function)
    def run(**arguments: Any) -> None:
        terminal = Terminal(as_json=arguments.get("json_", False))
        try:
            code = function(**arguments)
        except PhotoPipelineError as error:
            terminal.error(error)
            code = error.exit_code
        except KeyboardInterrupt:
            terminal.note("Interrupted. Run the same command again to continue where it stopped.")
            code = 130
        raise typer.Exit(code)

    return run
