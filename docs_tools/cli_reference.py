"""`docs/reference/cli.md`, written from the program itself."""

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from photo_pipeline.cli.lazy import Listed, load
from photo_pipeline.cli.program import COMMANDS

_HEAD = """\
# Commands

<!-- Written by `make docs-reference` from the program's own help; a test compares. Do not edit. -->

    .venv/bin/photo-pipeline [--config FILE] COMMAND [OPTIONS]

`--config` names the configuration file; left out, it is `$PHOTO_PIPELINE_CONFIG` or `photo_pipeline.yaml` in the
current folder. Every command has `--help`, and `--json`, with which standard output is exactly one JSON document; progress and
errors go to standard error. Errors, also of usage, are such a document with `thing`, `cause`, `fix` and `exit_code`.
Only `status --watch --json` prints several: one per change, each on one line.
`--install-completion` sets up completion for your shell: commands, options, batches, presets.

Colours follow `NO_COLOR`, `FORCE_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE` and `TERM=dumb`. In a pipe tables have their full width
unless `COLUMNS` says otherwise; in a narrow terminal each value gets a line of its own rather than being cut.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | finished, with quarantined photos or other findings |
| 2 | usage or configuration (also wrong credentials, no such bucket) |
| 3 | refused by a guard, or paused; nothing was damaged |
| 4 | something outside is down: run the same command again to continue |
| 130 | interrupted by Ctrl-C: run the same command again to continue |
"""
_WORDS = {int: "NUMBER", float: "NUMBER", Path: "PATH"}
_EXAMPLE = re.compile(r"^Examples?: *", re.MULTILINE)


def cli_reference() -> str:
    """Return the page as Markdown."""
    return "\n".join([_HEAD, *(_command_or_group(each) for each in COMMANDS)])


def _command_or_group(listed: Listed) -> str:
    loaded = load(listed)
    commands = getattr(loaded, "commands", None)
    if not commands:
        return _command(listed.name, loaded, level=2)
    head = f"## {listed.name}\n\n{(loaded.help or listed.summary).strip()}\n"
    return "\n".join([head, *(_command(f"{listed.name} {name}", each, 3) for name, each in commands.items())])


def _command(name: str, command: Any, level: int) -> str:
    text, example = _text_and_example(command.help or "")
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = " ".join(["photo-pipeline", name, *(_argument_usage(each) for each in arguments), "[OPTIONS]"])
    parts = [f"{'#' * level} {name}\n\n{text}\n", f"    {usage}\n"]
    parts += [_table([*map(_argument_row, arguments), *map(_option_row, options)])]
    if example:
        lines = "\n".join(f"    {line}" for line in example.splitlines())
        parts.append(f"For example:\n\n{lines}\n")
    return "\n".join(parts)


def _text_and_example(help_text: str) -> tuple[str, str]:
    text, *examples = _EXAMPLE.split(help_text.strip())
    return text.strip(), "\n".join(" ".join(each.split()) for each in examples)


def _table(rows: list[tuple[str, str]]) -> str:
    lines = [f"| {name} | {meaning} |" for name, meaning in rows]
    return "\n".join(["| | meaning |", "| --- | --- |", *lines, ""])


def _argument_usage(argument: Any) -> str:
    name = argument.name.upper()
    shown = f"{name}..." if argument.nargs != 1 else name
    return shown if argument.required else f"[{shown}]"


def _argument_row(argument: Any) -> tuple[str, str]:
    return f"`{argument.name.upper()}`", _meaning(argument)


def _option_row(option: Any) -> tuple[str, str]:
    value = "" if option.is_flag else f" {_value(option)}"
    names = ", ".join(f"`{name}{value}`" for name in (*option.opts, *option.secondary_opts))
    return names, _meaning(option)


def _value(parameter: Any) -> str:
    return "/".join(_choices(parameter)) or _WORDS.get(_annotation(parameter), "TEXT")


def _annotation(parameter: Any) -> Any:
    """Return the type of one value, out of `X | None` and `list[X]`."""
    annotation = parameter.type_descriptor.annotation
    while get_args(annotation) and get_origin(annotation) is not Literal:
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    return annotation


def _choices(parameter: Any) -> list[str]:
    annotation = _annotation(parameter)
    return [str(each) for each in get_args(annotation)] if get_origin(annotation) is Literal else []


def _meaning(parameter: Any) -> str:
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    choices = _choices(parameter)
    if choices and parameter.param_type_name == "argument":
        text += f" One of: {', '.join(f'`{each}`' for each in choices)}."
    if parameter.required:
        return f"{text} Required."
    if isinstance(parameter.default, bool) or parameter.default in (None, "", (), []):
        return text
    return f"{text} Default: `{parameter.default}`."
