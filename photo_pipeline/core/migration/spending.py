"""What bringing objects into the store takes, to be reserved before the first request."""

from collections.abc import Sequence

from photo_pipeline.core.cost.units import Amounts, Unit
from photo_pipeline.core.storage.many import PROVEN_AT_ONCE, WORTH_LISTING, pages_for
from photo_pipeline.core.storage.multipart import PART_BYTES

# The weekly look at what the store does (`storage.probe`): 3 PUTs and a listing. More than that (retries)
# is granted on the way, as long as no limit is exceeded.
_PROBE_PUTS = 4


# A multipart upload is begun and completed, and the key is looked at before each of the two.
_BESIDES_PARTS, _LOOKS = 2, 2


def needed_for(sizes: Sequence[int], *, multipart_above: int) -> Amounts:
    """Return what objects of those sizes (bytes) take: their PUTs, proofs and listings, and their storage.

    Args:
        sizes: Of each object.
        multipart_above: Larger ones go in parts, each of which is a PUT.
    """
    in_parts = [size for size in sizes if size > multipart_above]
    parts = sum(-(-size // PART_BYTES) + _BESIDES_PARTS for size in in_parts)
    return {
        Unit.PUTS: len(sizes) - len(in_parts) + parts + _PROBE_PUTS + _listings(len(sizes)),
        Unit.GETS: len(sizes) + _LOOKS * len(in_parts),
        Unit.STORED_BYTES: sum(sizes),
    }


def _listings(objects: int) -> int:
    """Return how many listings may stand for looks (`storage.many`), which are charged like PUTs.

    One over all, one of usually a single page for each group that is proven at once, and one before the end.
    """
    if objects < WORTH_LISTING:
        return 0
    return pages_for(objects) + -(-objects // PROVEN_AT_ONCE) + 1
