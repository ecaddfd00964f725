"""Which image format a browser gets for an ``.auto`` URL, from its Accept header.

A pure function, the reference for the CloudFront Function and the one the embedded edge uses. URL building
and HTTP live elsewhere.
"""

import re
from typing import Final, Literal

DeliveredExtension = Literal["avif", "webp", "jpg"]

AUTO_SUFFIX: Final = ".auto"

_PREFERRED: Final[tuple[tuple[str, DeliveredExtension], ...]] = (
    ("image/avif", "avif"),
    ("image/webp", "webp"),
)
_QUALITY: Final = re.compile(r"[01](?:\.[0-9]*)?")


def negotiate_format(accept: str | None) -> DeliveredExtension:
    """Return the extension of the best format that the client names, without the dot.

    Wildcards are ignored: every browser and most HTTP libraries send ``*/*``, also those that cannot decode
    AVIF. A type named with ``q=0`` is refused; a malformed ``q`` counts as 0, because JPEG is always safe.

    Args:
        accept: The Accept header, or None when the client sent none.
    """
    qualities: dict[str, float] = {}
    for media_range in (accept or "").lower().split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        quality = _quality(parameters)
        qualities[name] = min(qualities.get(name, quality), quality)
    for media_type, extension in _PREFERRED:
        if qualities.get(media_type, 0.0) > 0:
            return extension
    return "jpg"


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            return float(value) if _QUALITY.fullmatch(value := value.strip()) else 0.0
    return 1.0
