"""`photo-pipeline serve`: the live dashboard."""

import os
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, AsJson
from photo_pipeline.cli.project import open_project
from photo_pipeline.core.catalog.schema import ensure_schema, schema_exists
from photo_pipeline.core.config.dashboard import DEFAULT_PORT
from photo_pipeline.terminal import Terminal
from photo_pipeline.web.access import TOKEN_VARIABLE, Access
from photo_pipeline.web.server import DEFAULT_HOST, DashboardServer

Host = Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all of this machine.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 for any that is free.")]
AllowHost = Annotated[
    list[str] | None,
    typer.Option("--allow-host", help="A name by which browsers reach it, behind a proxy say; repeatable."),
]


def serve(
    host: Host = DEFAULT_HOST,
    port: Port = DEFAULT_PORT,
    allow_host: AllowHost = None,
    json_: AsJson = False,
) -> int:
    """Show the migration live in a browser; pause and resume it there. Runs until Ctrl-C.

    Prints two addresses: one to look only, one with a token that works once and lets the browser act. With
    $PHOTO_PIPELINE_SERVE_TOKEN set, that is the token, it works any number of times, and is not printed.

    Example: photo-pipeline serve --port 8321
    """
    terminal = Terminal(as_json=json_)
    given = os.environ.get(TOKEN_VARIABLE)
    access = Access.make(given, hosts=[*(allow_host or []), host])
    with open_project() as project:
        if schema_exists(project.database):
            ensure_schema(project.database)
        server = DashboardServer(project.database, project.config, access, host=host, port=port)
        acting = f"{server.url}open?token=" + (f"<${TOKEN_VARIABLE}>" if given else access.token)
        terminal.say(f"The dashboard, to look: {server.url}")
        terminal.say(f"To pause and resume as well{'' if given else ' (works once)'}: {acting}")
        terminal.result({"url": server.url, "act_url": None if given else acting})
        terminal.flush()
        try:
            server.run()
        except KeyboardInterrupt:  # the way to end it
            terminal.note("The dashboard has ended; the migration goes on without it.")
    return DONE
