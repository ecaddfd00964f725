"""Commands whose modules are imported when they are called, not to list them or to call another one."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command, get_group

from photo_pipeline.cli.command import CommandGroup, as_command, command_name
from photo_pipeline.cli.manual import ManualCommand, ManualGroup
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.terminal import Terminal


class Listed(NamedTuple):
    """A command, or group of commands, as the help lists it."""

    name: str
    module: str
    """Under `photo_pipeline.cli`; it has a function called like the command, or a group in capitals."""
    summary: str
    """How its own help begins."""


def lazy_group(listed: Sequence[Listed]) -> type[TyperGroup]:
    """Return a class of groups with those commands, in that order."""
    by_name = {each.name: each for each in listed}

    class Lazy(TyperGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.commands.update(dict.fromkeys(by_name))  # type: ignore[arg-type]  # for "did you mean"

        def main(  # type: ignore[override]  # typer calls it by keywords only
            self, args: Any = None, *, standalone_mode: bool = True, **extra: Any
        ) -> Any:
            given = list(sys.argv[1:] if args is None else args)
            if not standalone_mode or "--json" not in given:
                return super().main(given, standalone_mode=standalone_mode, **extra)
            try:
                sys.exit(super().main(given, standalone_mode=False, **extra) or 0)
            except TyperException as error:
                sys.exit(_tell_usage_error(error))

        def list_commands(self, ctx: Any) -> list[str]:
            return list(by_name)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return load(by_name[cmd_name]) if cmd_name in by_name else None

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(each.name, each.summary) for each in listed])

    return Lazy


def _tell_usage_error(error: Any) -> int:
    """Print what the command line does not know as our other errors are printed; return the exit code."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "photo-pipeline"
    cause = error.format_message().rstrip(".?")
    fix = f"see {path} --help"
    if "--json" in cause and context is not None and context.parent is None:
        fix = "put --json after the command"
    Terminal(as_json=True).error(ConfigurationError(path, cause=cause, fix=fix))
    return int(error.exit_code)


def load(listed: Listed) -> Any:
    """Return the command (or group) itself; imports its module."""
    module = import_module(f"photo_pipeline.cli.{listed.module}")
    group: CommandGroup | None = getattr(module, listed.name.upper(), None)
    program = typer.Typer(name=listed.name, rich_markup_mode=None, add_completion=False)
    if group is None:
        program.command(name=listed.name, cls=ManualCommand)(as_command(getattr(module, listed.name)))
        return get_command(program)
    program = typer.Typer(
        name=group.name, help=group.help, cls=ManualGroup, no_args_is_help=True, rich_markup_mode=None
    )
    for function in group.commands:
        program.command(name=command_name(function), cls=ManualCommand)(as_command(function))
    return get_group(program)
