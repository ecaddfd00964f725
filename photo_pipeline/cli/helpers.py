"""`photo-pipeline helpers`: files with which the application shows photos, old rows and new alike."""

from pathlib import Path
from typing import Annotated

import typer

from photo_pipeline.cli import completion
from photo_pipeline.cli.command import DONE, AsJson, CommandGroup
from photo_pipeline.cli.new_file import write_new
from photo_pipeline.cli.project import config_if_any
from photo_pipeline.core.delivery.application_code import APPLICATION_CODE, helper_files, site_settings
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError
from photo_pipeline.terminal import Terminal


def list_(json_: AsJson = False) -> int:
    """Show the helpers and their files.

    Example: photo-pipeline helpers list
    """
    terminal = Terminal(as_json=json_)
    rows = [(name, each.purpose, ", ".join(each.files)) for name, each in APPLICATION_CODE.items()]
    terminal.table(("helper", "for", "files"), rows)
    terminal.say("Take one with `photo-pipeline helpers copy NAME FOLDER`.")
    terminal.result(
        {
            "helpers": {
                name: {"for": each.purpose, "files": each.files} for name, each in APPLICATION_CODE.items()
            }
        }
    )
    return DONE


def copy(
    name: Annotated[
        str,
        typer.Argument(
            help=f"One of: {', '.join(APPLICATION_CODE)}.", autocompletion=completion.application_code
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Where to write its files; it must exist.")] = Path(),
    preset: Annotated[
        str | None, typer.Option("--preset", help="Whose sizes to fill in, if sources have different ones.")
    ] = None,
    json_: AsJson = False,
) -> int:
    """Write a helper's files into a folder of your application; existing files are never replaced.

    CDN, folders and sizes are filled in from photo_pipeline.yaml; without one they are examples to edit.

    Example: photo-pipeline helpers copy django ./myapp/templatetags/
    """
    terminal = Terminal(as_json=json_)
    config = config_if_any()
    if config is None and preset is not None:
        raise ConfigurationError(
            "--preset",
            cause="there is no configuration file to find it in",
            fix="name the file with --config",
        )
    settings = None if config is None else site_settings(config, preset=preset)
    written = _written(folder, helper_files(name, settings))
    terminal.say(f"Wrote {', '.join(map(str, written))}.")
    if config is None:
        terminal.say("No photo_pipeline.yaml was found: edit the lines under “Your site” by hand.")
    elif not config.cdn.base_url:
        terminal.say("The configuration has no cdn.base_url yet: edit CDN under “Your site”.")
    terminal.say(f"Next: {APPLICATION_CODE[name].use}")
    terminal.result({"written": written, "filled_in": config is not None, "use": APPLICATION_CODE[name].use})
    return DONE


def _written(folder: Path, texts: dict[str, str]) -> list[Path]:
    """Write all of the files, or none where one of them is there already."""
    if not folder.is_dir():
        raise ConfigurationError(
            str(folder), cause="it is not a folder", fix="create it, or name another one"
        )
    for name in texts:
        if (folder / name).exists():
            raise GuardRefusedError(
                str(folder / name), cause="it exists already", fix="remove it first, or name another folder"
            )
    for name, text in texts.items():
        write_new(folder / name, text)
    return [folder / name for name in texts]


HELPERS = CommandGroup(
    "helpers",
    "Small files with which your application shows photos, old rows and new ones alike."
    "\n\nExample: photo-pipeline helpers copy react ./src/components/",
    (list_, copy),
)
