"""How long-running core functions tell a face how far they are."""

from typing import Protocol


class Progress(Protocol):
    """Called often and cheaply; must not raise."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Report `done` of `total` (None: unknown) items of `stage`."""


def no_progress(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""
