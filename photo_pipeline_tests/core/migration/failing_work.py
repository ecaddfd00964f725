"""Work on photos that fails, for the worker pool: importable, since workers are forked from a server."""

import os
from pathlib import Path

from photo_pipeline.core.errors import PhotoError, UnsupportedFormatError
from photo_pipeline.core.imaging.pool import PhotoTask, make_variants_task
from photo_pipeline.core.imaging.variants import MadePhoto


def _tried(task: PhotoTask) -> int:
    """Note a try; return how many there were. Beside the uploads, since only paths come here."""
    notes = task.source.parents[1] / f"{task.source.name}.tries"
    with notes.open("a") as file:
        file.write("x")
    return notes.stat().st_size


def tries(uploads: Path, name: str) -> int:
    """How often a photo was tried."""
    notes = uploads / f"{name}.tries"
    return notes.stat().st_size if notes.exists() else 0


def die_the_first_time(task: PhotoTask) -> MadePhoto:
    if _tried(task) == 1 and task.source.name == "0.jpg":
        os._exit(1)
    return make_variants_task(task)


def always_fail(task: PhotoTask) -> MadePhoto:
    _tried(task)
    raise PhotoError(task.source.name, cause="the decoder is confused", fix="replace it")


def never_supported(task: PhotoTask) -> MadePhoto:
    _tried(task)
    raise UnsupportedFormatError(task.source.name, cause="it is a poem", fix="replace it")
