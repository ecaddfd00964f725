"""`photo-pipeline validate`: migrated photos, checked from outside."""

from dataclasses import asdict
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, Batch
from photo_pipeline.cli.project import open_project, require_state
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.migration.selection import batches_to_validate
from photo_pipeline.core.migration.validate import Validated, validate_batch
from photo_pipeline.core.project import Project
from photo_pipeline.terminal import Terminal


def validate(
    batch: Batch = None,
    sample: Annotated[float, typer.Option(min=0.0001, max=1.0, help="Share of photos to check.")] = 1.0,
    json_: AsJson = False,
) -> int:
    """Check migrated photos from outside: row, URL, delivered bytes, dimensions, metadata.

    Example: photo-pipeline validate --sample 0.1
    """
    terminal = Terminal(as_json=json_)
    with open_project() as project:
        require_state(project)
        keys = batches_to_validate(project.database, wanted=batch)
        results = validate_batches(project, terminal, keys, sample=sample)
    terminal.table(
        ("batch", "photos", "checked", "passed", "failed"),
        [[key, r.photos, r.checked, r.passed, r.failed] for key, r in results.items()],
    )
    for result in results.values():
        for finding in result.findings:
            terminal.say(f"{finding.source} {finding.row_key} {finding.path}: {'; '.join(finding.problems)}")
    terminal.result({"batches": {key: asdict(result) for key, result in results.items()}})
    return FINDINGS if any(result.failed for result in results.values()) else DONE


def validate_batches(
    project: Project, terminal: Terminal, keys: list[str], *, sample: float
) -> dict[str, Validated]:
    """Validate the batches and return what was found, by batch key."""
    results = {}
    for key in keys:
        with terminal.progress(key) as progress:
            results[key] = validate_batch(
                project.database,
                project.config,
                project.cdn,
                key,
                run=new_run_id(),
                sample=sample,
                progress=progress,
            )
    return results
