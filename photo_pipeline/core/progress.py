"""How long-running core functions tell a face how far they are."""

from typing import Final, Protocol

BYTES_SENT: Final = "bytes sent"
"""The stage by which an upload tells, beside its objects, how many bytes it has sent (no total)."""


class Progress(Protocol):
    """Called often and cheaply; must not raise."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Report `done` of `total` (None: unknown) items of `stage`."""


def no_progress(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""
