"""`photo-pipeline rehearse`: a rollback tried on real rows, without a trace."""

from dataclasses import asdict
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, Batch
from photo_pipeline.cli.project import open_project, require_state
from photo_pipeline.core.migration.rehearsal import rehearse_rollback
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.migration.selection import batches_to_rehearse
from photo_pipeline.terminal import Terminal


def rehearse(
    batch: Batch = None,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="Rows of each batch to try.")] = 20,
    json_: AsJson = False,
) -> int:
    """Prove that rollback restores exact rows, in a transaction that is undone. Nothing is changed.

    Example: photo-pipeline rehearse --batch batch-000001
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        require_state(project)
        done = [
            rehearse_rollback(project.database, project.config, key, rows=rows, run=new_run_id())
            for key in batches_to_rehearse(project.database, wanted=batch)
        ]
    terminal.table(
        ("batch", "rows", "exact", "edited since", "refused", "differing"),
        [[r.batch, r.rows, r.exact, r.edited, len(r.refused), len(r.differing)] for r in done],
    )
    for result in done:
        for line in (*result.refused, *result.differing):
            terminal.say(line)
    terminal.say("All of it was undone; the result is in the audit log (photo-pipeline audit show).")
    terminal.result({"batches": {result.batch: asdict(result) for result in done}})
    return DONE if all(result.holds for result in done) else FINDINGS
