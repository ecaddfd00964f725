"""How often Python looks for garbage that refers to itself."""

import gc

# Most objects of a program like this stay as long as it runs, and each look goes through them: with Python's
# own 700 it looks 200 times while the modules are loaded, a tenth of the time that a command needs to start.
_OBJECTS_BETWEEN_LOOKS = 50_000


def collect_rarely() -> None:
    """Look for it less often; for a program's first line, before it imports the core."""
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS, *gc.get_threshold()[1:])
