"""Commands whose modules are imported when they are called, not to list them or to call another one."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from photo_pipeline.cli.command import CommandGroup, as_command, command_name


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

        def list_commands(self, ctx: Any) -> list[str]:
            return list(by_name)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return load(by_name[cmd_name]) if cmd_name in by_name else None

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(each.name, each.summary) for each in listed])

    return Lazy


def load(listed: Listed) -> Any:
    """Return the command (or group) itself; imports its module."""
    module = import_module(f"photo_pipeline.cli.{listed.module}")
    group: CommandGroup | None = getattr(module, listed.name.upper(), None)
    program = typer.Typer(name=listed.name, rich_markup_mode=None, add_completion=False)
    if group is None:
        program.command(name=listed.name)(as_command(getattr(module, listed.name)))
        return get_command(program)
    program = typer.Typer(name=group.name, help=group.help, no_args_is_help=True, rich_markup_mode=None)
    for function in group.commands:
        program.command(name=command_name(function))(as_command(function))
    return get_group(program)
