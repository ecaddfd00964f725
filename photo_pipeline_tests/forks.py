"""A server of forks that a test starts for itself.

A process has one such server, which whoever came first has started: often the image workers of an earlier
test. Its forks have that moment's environment (so the credentials of that test, or none), and import for
themselves what it has not imported, which takes 1 to 3 s each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext


@contextmanager
def server_of_forks(*modules: str) -> Iterator[ForkServerContext]:
    """While the body runs, processes are forked from a new server that has imported the modules.

    Its environment is that of the first process's start. It does nothing but import: obstore does not survive
    a fork.
    """
    _stop()
    context = get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    try:
        yield context
    finally:
        _stop()


def _stop() -> None:
    """End the server of this process, if there is one; the next process that is wanted starts another."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
