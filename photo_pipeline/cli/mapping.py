"""`photo-pipeline mapping`: help with the source mapping."""

from pathlib import Path
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, CommandGroup
from photo_pipeline.cli.new_file import write_new
from photo_pipeline.cli.project import open_unmapped_project
from photo_pipeline.core.sources.suggest import suggest_mapping
from photo_pipeline.terminal import Terminal


def suggest(
    sample: Annotated[int, typer.Option(min=2, help="Values to look at per column.")] = 200,
    output: Annotated[Path | None, typer.Option(help="Write it to this new file.")] = None,
    json_: AsJson = False,
) -> int:
    """Propose a mapping: which columns of the database name files of the configured roots.

    Reads the database and the roots of the configuration file; changes neither.

    Example: photo-pipeline mapping suggest --output mapping.yaml
    """
    terminal = Terminal(as_json=json_)
    with open_unmapped_project() as project:
        made = suggest_mapping(project.database, project.config, sample=sample)
    if output is not None:
        write_new(output, made.text)
        terminal.say(f"Wrote {output}: {len(made.tables)} tables name photos.")
    else:
        terminal.say(made.text)
    terminal.result(
        {
            "tables_looked_at": made.tables_looked_at,
            "columns_looked_at": made.columns_looked_at,
            "tables": made.tables,
            "yaml": made.text,
        }
    )
    return DONE if made.tables else FINDINGS


MAPPING = CommandGroup(
    "mapping",
    "Help with the source mapping.\n\nExample: photo-pipeline mapping suggest",
    (suggest,),
)
