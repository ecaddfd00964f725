"""Which page of the documentation helps with which error: the one table of it."""

from collections.abc import Mapping
from typing import Final

from photo_pipeline.core.errors import (
    BudgetError,
    DeliveryError,
    LeaseLostError,
    PausedError,
    PhotoPipelineError,
    StoreError,
)

FALLBACK: Final = "docs/troubleshooting.md"
"""Messages in their own words, and what to do about each."""

RUNBOOKS: Final[Mapping[type[PhotoPipelineError], str]] = {
    BudgetError: "docs/runbooks/budget-exhausted.md",
    PausedError: "docs/runbooks/migration-stuck.md",
    LeaseLostError: "docs/runbooks/migration-stuck.md",
    StoreError: "docs/runbooks/s3-outage.md",
    DeliveryError: "docs/runbooks/s3-outage.md",
}


def runbook(error: PhotoPipelineError) -> str:
    """Return the page for the error's class, or for the closest class that it is made from."""
    pages = (RUNBOOKS.get(kind) for kind in type(error).__mro__)
    return next((page for page in pages if page), FALLBACK)
