"""The program: the option before the command, and the list of commands in the order of its help.

A new command (or group of commands) is one module, and here one import and one entry.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from photo_pipeline.cli import project
from photo_pipeline.cli.audit import AUDIT
from photo_pipeline.cli.command import as_command, command_name
from photo_pipeline.cli.control import abort, pause, resume
from photo_pipeline.cli.demo import demo
from photo_pipeline.cli.init import init
from photo_pipeline.cli.mapping import MAPPING
from photo_pipeline.cli.migrate import migrate
from photo_pipeline.cli.plan import plan
from photo_pipeline.cli.rebuild import rebuild
from photo_pipeline.cli.rehearse import rehearse
from photo_pipeline.cli.repoint import repoint
from photo_pipeline.cli.report import report
from photo_pipeline.cli.restore import restore
from photo_pipeline.cli.rollback import rollback
from photo_pipeline.cli.status import status
from photo_pipeline.cli.validate import validate
from photo_pipeline.core.config import DEFAULT_CONFIG_NAME

COMMANDS = (
    *(demo, init, plan, migrate, status, pause, resume, abort, rollback, validate, report),
    *(restore, rebuild, repoint, rehearse),
)
GROUPS = (AUDIT, MAPPING)

app = typer.Typer(
    name="photo-pipeline",
    help="Moves an application's photos from local disk to S3 + CloudFront, and can take any of it back.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help=f"Configuration file; default ${{PHOTO_PIPELINE_CONFIG}} or {DEFAULT_CONFIG_NAME}.",
        ),
    ] = None,
) -> None:
    """Moves an application's photos from local disk to S3 + CloudFront, and can take any of it back."""
    project.choose(config)


for function in COMMANDS:
    app.command(name=command_name(function))(as_command(function))
for group in GROUPS:
    subcommands = typer.Typer(help=group.help, no_args_is_help=True, rich_markup_mode=None)
    for function in group.commands:
        subcommands.command(name=command_name(function))(as_command(function))
    app.add_typer(subcommands, name=group.name)


def main() -> None:
    """Run the command line."""
    app(prog_name="photo-pipeline", args=sys.argv[1:])
