"""What bringing objects into the store takes, to be reserved before the first request."""

from collections.abc import Sequence

from photo_pipeline.core.cost.units import Amounts, Unit
from photo_pipeline.core.storage.multipart import PART_BYTES

# The weekly look at what the store does (`storage.probe`): 3 PUTs and a listing. More than that (retries)
# is granted on the way, as long as no limit is exceeded.
_PROBE_PUTS = 4


# A multipart upload is begun and completed, and the key is looked at before each of the two.
_BESIDES_PARTS, _LOOKS = 2, 2


def needed_for(sizes: Sequence[int], *, multipart_above: int) -> Amounts:
    """Return what objects of those sizes (bytes) take: their PUTs, a proof each, and their storage.

    Args:
        sizes: Of each object.
        multipart_above: Larger ones go in parts, each of which is a PUT.
    """
    in_parts = [size for size in sizes if size > multipart_above]
    parts = sum(-(-size // PART_BYTES) + _BESIDES_PARTS for size in in_parts)
    return {
        Unit.PUTS: len(sizes) - len(in_parts) + parts + _PROBE_PUTS,
        Unit.GETS: len(sizes) + _LOOKS * len(in_parts),
        Unit.STORED_BYTES: sum(sizes),
    }
