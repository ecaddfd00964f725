"""`photo-pipeline demo`: the whole product on sample photos, without any set-up."""

from pathlib import Path
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, AsJson
from photo_pipeline.terminal import Terminal


def demo(
    photos: Annotated[
        Path | None, typer.Option(help="Use this folder of real photos; it is only read.")
    ] = None,
    home: Annotated[Path, typer.Option(help="The demo's own folder.")] = Path(".photo_pipeline/demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw the last demo away first.")] = False,
    ui: Annotated[bool, typer.Option("--ui", help="Open Dagster on the demo instead of running it.")] = False,
    host: Annotated[str, typer.Option(help="Address for --ui.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for --ui.")] = 3000,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the demo's S3 and CDN.")] = False,
    json_: AsJson = False,
) -> int:
    """Migrate sample photos with an embedded S3, CDN and SQLite database.

    Example: photo-pipeline demo --photos ~/Pictures
    """
    # Imported here: Dagster takes over a second to import, and only the demo needs it.
    from photo_pipeline.demo import report as demo_report
    from photo_pipeline.demo import site as demo_site

    terminal = Terminal(as_json=json_)
    if stop:
        stopped = demo_site.stop_servers(home.resolve())
        terminal.say("The demo's servers are stopped." if stopped else "The demo's servers were not running.")
        terminal.result({"stopped": stopped, "home": home.resolve()})
        return DONE
    if ui:
        from photo_pipeline.demo.ui import dashboard_port, require_free, serve_ui

        require_free(host, port)
        # Servers that a finished demo left running would end by themselves in the middle of the session.
        demo_site.stop_servers(home.resolve())
        dashboard = dashboard_port()
        site = demo_site.prepare(
            home,
            photos=photos,
            fresh=fresh,
            idle_stop_s=None,
            dashboard_url=f"http://127.0.0.1:{dashboard}",
        )
        terminal.note("Dagster is starting, which takes half a minute. Stop it with Ctrl-C.")

        def tell() -> None:
            terminal.say(f"Dagster is open: http://{host}:{port} (Lineage shows the seven steps)")
            terminal.flush()

        try:
            return serve_ui(site, host=host, port=port, dashboard=dashboard, when_open=tell)
        finally:
            demo_site.stop_servers(site.home)
    terminal.note("Making the demo's photos, database and servers ...")
    return demo_report.run_and_report(demo_site.prepare(home, photos=photos, fresh=fresh), terminal)
