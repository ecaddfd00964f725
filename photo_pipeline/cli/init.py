"""`photo-pipeline init`: a configuration file to start from."""

from pathlib import Path
from typing import Annotated

import typer

from photo_pipeline.cli import completion
from photo_pipeline.cli.command import DONE, AsJson
from photo_pipeline.cli.new_file import write_new
from photo_pipeline.core.config import DEFAULT_CONFIG_NAME
from photo_pipeline.core.sources.presets import CUSTOM, PRESETS, preset_text
from photo_pipeline.terminal import Terminal


def init(
    preset: Annotated[
        str, typer.Option(help=f"One of: {', '.join(PRESETS)}.", autocompletion=completion.presets)
    ] = "item_photos",
    output: Annotated[Path, typer.Option(help="Where to write it.")] = Path(DEFAULT_CONFIG_NAME),
    list_: Annotated[bool, typer.Option("--list", help="Show the presets and write nothing.")] = False,
    json_: AsJson = False,
) -> int:
    """Write a commented configuration file to start from.

    Example: photo-pipeline init --preset item_photos
    """
    if list_:
        return _list_presets(Terminal(as_json=json_))
    text = preset_text(preset)
    write_new(output, text)
    terminal = Terminal(as_json=json_)
    following = "mapping suggest" if preset == CUSTOM else "doctor"
    terminal.say(f"Wrote {output}. Edit the marked lines, then run: photo-pipeline {following}")
    terminal.result({"written": output, "preset": preset})
    return DONE


def _list_presets(terminal: Terminal) -> int:
    terminal.table(("preset", "fits"), list(PRESETS.items()))
    terminal.result({"presets": PRESETS})
    return DONE
