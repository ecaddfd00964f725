"""What bringing objects into the store takes, to be reserved before the first request."""

from collections.abc import Sequence

from photo_pipeline.core.cost.units import Amounts, Unit

# The weekly look at what the store does (`storage.probe`): 3 PUTs and a listing. More than that (retries)
# is granted on the way, as long as no limit is exceeded.
_PROBE_PUTS = 4


def needed_for(sizes: Sequence[int]) -> Amounts:
    """Return what objects of those sizes (bytes) take: a PUT and a proof each, and their storage."""
    return {
        Unit.PUTS: len(sizes) + _PROBE_PUTS,
        Unit.GETS: len(sizes),
        Unit.STORED_BYTES: sum(sizes),
    }
