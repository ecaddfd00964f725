"""`photo-pipeline report`: the migration report."""

from photo_pipeline.cli.command import DONE, AsJson
from photo_pipeline.cli.project import open_project, require_state
from photo_pipeline.core.report.write import write_report
from photo_pipeline.terminal import Terminal


def report(json_: AsJson = False) -> int:
    """Write the migration report: one HTML page, and the same as JSON, CSV and Parquet.

    Example: photo-pipeline report
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        require_state(project)
        files = write_report(project.database, project.config, project.cdn)
    terminal.say(f"Report: {files.html}")
    terminal.result({name: getattr(files, name) for name in ("html", "json", "csv", "parquet")})
    return DONE
