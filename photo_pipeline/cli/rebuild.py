"""`photo-pipeline rebuild`: lost state tables, made anew from the bucket."""

from dataclasses import asdict

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson
from photo_pipeline.cli.project import open_project
from photo_pipeline.core.migration.rebuild import rebuild_state
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.migration.stored_backups import read_bucket_backups
from photo_pipeline.terminal import Terminal


def rebuild(json_: AsJson = False) -> int:
    """Make lost state tables anew, from objects' metadata and the copies of the catalog in the bucket.

    Example: photo-pipeline rebuild
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project, terminal.progress("rebuild") as progress:
        files = read_bucket_backups(project.config, project.store)
        done = rebuild_state(
            project.database, project.config, project.store, files, run=new_run_id(), progress=progress
        )
    names = ("objects", "recipes", "batches", "photos", "rewrites", "rolled_back_since", "unproven")
    terminal.table(("rebuilt", "count"), [[name.replace("_", " "), getattr(done, name)] for name in names])
    for key in done.foreign:
        terminal.say(f"{key}: not one of our objects; it was left alone")
    for batch in done.without_copy:
        terminal.say(
            f"{batch}: its last rewrites are in no copy; take its rows back with: photo-pipeline restore"
        )
    for what in done.not_rebuilt:
        terminal.say(f"Not rebuilt: {what}")
    terminal.result({"rebuilt": asdict(done)})
    return FINDINGS if done.has_findings else DONE
