"""Sizes as people write them: `100 KB`."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

# Binary multiples: the variant budget "100 KB" is 102,400 bytes (facts/imaging.md).
_UNITS = {
    "": 1,
    "b": 1,
    "kb": 1024,
    "kib": 1024,
    "mb": 1024**2,
    "mib": 1024**2,
    "gb": 1024**3,
    "gib": 1024**3,
}
# ASCII digits, and few enough of them that no float overflows.
_SIZE = re.compile(r"^\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([a-z]*)\s*$", re.IGNORECASE)


def parse_size(value: object) -> int:
    """Turn `102400` or `"100 KB"` into bytes (KB = 1,024 bytes).

    Raises:
        ValueError: the text is not a number with an optional unit of B, KB, MB or GB.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(
            f"{value!r} is not a size; write bytes or a number with B, KB, MB or GB, as in 100 KB"
        )
    return round(float(match[1]) * _UNITS[match[2].lower()])


SizeBytes = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
