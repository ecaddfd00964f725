"""A process that marks, deletes or brings back orphans, and dies between two durable steps when told to.

It follows requests as a process of `faults.processes`; steps are found by `faults.steps`.
"""

import json
from pathlib import Path
from typing import Any

from photo_pipeline.core.config import find_config
from photo_pipeline.core.project import Project
from photo_pipeline_tests.core.cleanup.scene import Scene, later_bucket
from photo_pipeline_tests.faults.steps import Death, Steps

IMPORTED_LATE = (
    "boto3.s3.inject",
    "sqlalchemy.dialects.sqlite.pysqlite",
)


def follow(request: dict[str, Any]) -> None:
    """Do `step`, `hours` ahead of the store's time, and die right before the n-th durable step (0: live)."""
    steps = Steps(Death(request["n"]))
    with Project.load(find_config(None)) as project:
        scene = Scene(None, project, later_bucket(project))  # type: ignore[arg-type]
        scene.later(hours=request["hours"])
        steps.begin()
        getattr(scene, request["step"])()
        steps.about_to("end")
    Path(request["report"]).write_text(json.dumps(steps.taken), encoding="utf-8")
