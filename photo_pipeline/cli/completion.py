"""What the shell may complete beside commands and options: batches, presets, helpers.

It runs at each press of the Tab key: whatever fails or takes long completes to nothing, and says nothing.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

_AT_MOST: Final = 200
# A database that is away would be waited for much longer; a person at the Tab key would not.
_PATIENCE_S: Final = 1.5


class _TooSlowError(Exception):
    pass


def batches(ctx: Any, incomplete: str) -> list[str]:
    """Return the keys of batches that begin so; none if the database does not tell at once."""
    found: list[str] = []
    # Anything may be wrong with configuration and database; a traceback in the prompt would help nobody.
    with suppress(Exception), _patience():
        found = _batch_keys(ctx.find_root().params.get("config"), incomplete)
    return found


def presets(incomplete: str) -> list[str]:
    """Return the presets of `init` that begin so."""
    from photo_pipeline.core.sources.presets import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def application_code(incomplete: str) -> list[str]:
    """Return the helpers for applications whose names begin so."""
    from photo_pipeline.core.delivery.application_code import APPLICATION_CODE

    return [name for name in APPLICATION_CODE if name.startswith(incomplete)]


def _batch_keys(config: Any, incomplete: str) -> list[str]:
    import sqlalchemy as sa

    from photo_pipeline.cli.project import choose, open_project
    from photo_pipeline.core.catalog.tables import batch_table

    choose(config)
    key = batch_table.c.key
    chosen = sa.select(key).where(key.startswith(incomplete, autoescape=True)).order_by(key).limit(_AT_MOST)
    with open_project() as project, project.database.read() as connection:
        return list(connection.execute(chosen).scalars())


@contextmanager
def _patience() -> Iterator[None]:
    def give_up(_signal: int, _frame: Any) -> None:
        raise _TooSlowError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
