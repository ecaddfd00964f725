"""The steps of a deletion by name, for tests that let something happen right before or after one."""

from typing import Any

from photo_pipeline.core.cleanup import deletion
from photo_pipeline.core.cleanup.deletion_objects import ObjectDeletion
from photo_pipeline.core.cleanup.deletion_rows import RowDeletion


def place_of(step: str) -> tuple[Any, str]:
    """Return what has that step as an attribute, and the attribute's name.

    Raises:
        AttributeError: no deletion has such a step.
    """
    name = "_end" if step == "end" else step
    for place in (RowDeletion, ObjectDeletion, deletion):
        if hasattr(place, name):
            return place, name
    raise AttributeError(f"a deletion has no step {step!r}")
