"""`photo-pipeline warm`: fetch files through the CDN before visitors do."""

from dataclasses import asdict
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, Batch
from photo_pipeline.cli.project import open_project, require_state
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.migration.warm import Selection, batches_to_warm
from photo_pipeline.core.migration.warm import warm as fetch
from photo_pipeline.terminal import Terminal, human_bytes


def warm(
    batch: Batch = None,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Only this variant; may be repeated.")
    ] = None,
    image_format: Annotated[
        list[str] | None, typer.Option("--format", help="Only avif, webp or jpeg; may be repeated.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Requests at a time.")] = 8,
    json_: AsJson = False,
) -> int:
    """Fetch stored files through the CDN, so that it has them when visitors come.

    Example: photo-pipeline warm --variant thumb --format avif
    """
    terminal = Terminal(as_json=json_)
    known = [each.value for each in ImageFormat]
    for name in image_format or ():
        if name not in known:
            raise ConfigurationError(
                f"--format {name}", cause="there is no such format", fix=f"use {', '.join(known)}"
            )
    with open_project() as project:
        require_state(project)
        selection = Selection(
            batches_to_warm(project.database, wanted=batch), variant or (), image_format or ()
        )
        with terminal.progress("warm") as progress:
            warmed = fetch(
                project.database,
                project.config,
                project.cdn,
                selection,
                concurrency=concurrency,
                progress=progress,
            )
    terminal.say(
        f"{warmed.urls:,} files ({human_bytes(warmed.bytes)}) fetched; the CDN had {warmed.hits:,} of them; "
        f"{warmed.failed:,} were not delivered as they were stored."
    )
    for problem in warmed.problems:
        terminal.say(problem)
    terminal.result(asdict(warmed))
    return FINDINGS if warmed.failed else DONE
