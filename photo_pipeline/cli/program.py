"""The program: the option before the command, and the list of commands in the order of its help.

A new command (or group of commands) is one module and one entry here. Nothing heavy is imported: with every
command's module, `--help` took 1.2 s; without, 0.2 s.
"""

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from photo_pipeline.cli.lazy import Listed, lazy_group
from photo_pipeline.core.garbage import collect_rarely

COMMANDS = (
    Listed("demo", "demo", "Migrate sample photos with an embedded S3, CDN and SQLite database."),
    Listed("init", "init", "Write a commented configuration file to start from."),
    Listed(
        "doctor",
        "doctor",
        "Check every prerequisite, and say how to mend what is wrong. Leaves nothing behind.",
    ),
    Listed(
        "plan",
        "plan",
        "Show what `migrate` would do and cost. Writes nothing: no table, no state, no object.",
    ),
    Listed(
        "migrate",
        "migrate",
        "Inventory, then migrate and validate every open batch. Safe to run again at any time.",
    ),
    Listed("status", "status", "Show where the migration stands. Writes nothing."),
    Listed(
        "serve",
        "serve",
        "Show the migration live in a browser; pause and resume it there. Runs until Ctrl-C.",
    ),
    Listed("pause", "control", "Let every run stop after the photo in hand, here and on other machines."),
    Listed("resume", "control", "Allow work again after a pause or an abort. Starts nothing by itself."),
    Listed(
        "abort",
        "control",
        "End the migration after the photo in hand. What is migrated stays until it is rolled back.",
    ),
    Listed(
        "rollback",
        "rollback",
        "Point rows back to the local files, exactly as they were. Objects in S3 stay.",
    ),
    Listed(
        "validate",
        "validate",
        "Check migrated photos from outside: row, URL, delivered bytes, dimensions, metadata.",
    ),
    Listed(
        "report",
        "report",
        "Write the migration report: one HTML page, and the same as JSON, CSV and Parquet.",
    ),
    Listed(
        "restore",
        "restore",
        "Set rows back from the backup files alone, for when the state tables are lost. Dry run by default.",
    ),
    Listed(
        "rebuild",
        "rebuild",
        "Make lost state tables anew, from objects' metadata and the copies of the catalog in the bucket.",
    ),
    Listed(
        "repoint",
        "repoint",
        "Move migrated rows to the CDN address and prefix that the configuration has now.",
    ),
    Listed(
        "rehearse",
        "rehearse",
        "Prove that rollback restores exact rows, in a transaction that is undone. Nothing is changed.",
    ),
    Listed(
        "cost",
        "cost",
        "Show what was used this month, the limits, and the forecast; or override the limits on purpose.",
    ),
    Listed(
        "provision",
        "provision",
        "Set up bucket, CDN, alarms and budget as configured, and see what was changed since.",
    ),
    Listed(
        "orphans",
        "orphans",
        "Find objects that nothing refers to, and rows whose object is gone; mark, delete, bring back.",
    ),
    Listed(
        "cleanup",
        "cleanup",
        "Move local files of validated photos to the trash, and delete them later. Dry run by default.",
    ),
    Listed(
        "delete",
        "delete",
        "Delete photos: their rows' references and what is theirs alone in S3. Plans first, then confirms.",
    ),
    Listed("warm", "warm", "Fetch stored files through the CDN, so that it has them when visitors come."),
    Listed("routing", "routing", "The CloudFront function that chooses the format of .auto URLs."),
    Listed("invalidate", "invalidate", "Let the CDN forget files whose bytes change under the same name."),
    Listed("sign", "sign", "Print a URL (or cookies) that opens a private file of the CDN for a while."),
    Listed("alerts", "alerts", "What is wrong, who was told, and whether the channels work."),
    Listed("metrics", "metrics", "Print the metrics of this moment, for Prometheus or CloudWatch."),
    Listed("audit", "audit", "Show who did what, and prove that the log of it is unbroken."),
    Listed("mapping", "mapping", "Help with the source mapping."),
    Listed(
        "helpers",
        "helpers",
        "Small files with which your application shows photos, old rows and new ones alike.",
    ),
)

app = typer.Typer(
    name="photo-pipeline",
    help="Moves an application's photos from local disk to S3 + CloudFront, and can take any of it back.",
    cls=lazy_group(COMMANDS),
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
            help="Configuration file; default ${PHOTO_PIPELINE_CONFIG} or photo_pipeline.yaml.",
        ),
    ] = None,
) -> None:
    """Moves an application's photos from local disk to S3 + CloudFront, and can take any of it back."""
    from photo_pipeline.cli import project  # opens projects, so it imports the core

    project.choose(config)


def main() -> None:
    """Run the command line."""
    collect_rarely()
    for stream in (sys.stdout, sys.stderr):
        # A file's name may be anything, and a locale may lack most letters: shown as \xNN, never a crash.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="photo-pipeline", args=sys.argv[1:])
