"""How often Python looks for garbage that refers to itself."""

import gc
from functools import cache

# Most objects of a program like this stay as long as it runs, and each look goes through them: with Python's
# own 700 it looks 200 times while the modules are loaded, a tenth of the time that a command needs to start.
_OBJECTS_BETWEEN_LOOKS = 50_000


def collect_rarely() -> None:
    """Look for it less often; for a program's first line, before it imports the core."""
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS, *gc.get_threshold()[1:])


@cache
def keep_what_is_loaded() -> None:
    """Leave what there is now out of every later look; once in a process, before its first long work.

    Without it the looks take 0.4 s of processor time while 2,000 objects are uploaded. Whether it was done is
    not asked of `gc`, which counts all that is left out for an answer.
    """
    gc.freeze()
