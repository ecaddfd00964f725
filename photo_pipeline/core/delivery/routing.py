"""Which image format a browser gets for an ``.auto`` URL, from its Accept header.

A pure function, the reference for the CloudFront Function (`routing_function/auto_format.js`) and the one the
embedded edge uses. URL building and HTTP live elsewhere.
"""

import re
from typing import Final, Literal

DeliveredExtension = Literal["avif", "webp", "jpg"]

AUTO_SUFFIX: Final = ".auto"

ACCEPT_BY_FORMAT: Final = {
    "avif": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
    "webp": "image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5",
    "jpeg": "image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5",
}
"""What a browser sends that gets the format: Chrome's, Safari 14's and Safari 13's header for images."""

_PREFERRED: Final[tuple[tuple[str, DeliveredExtension], ...]] = (
    ("image/avif", "avif"),
    ("image/webp", "webp"),
)
# RFC 9110's qvalue, but with any number of digits. [0-9], since \d takes every script's.
_QUALITY: Final = re.compile(r"0(?:\.[0-9]*)?|1(?:\.0*)?")
_SPACE: Final = " \t"


def negotiate_format(accept: str | None) -> DeliveredExtension:
    """Return the extension of the best format that the client names, without the dot.

    Wildcards are ignored: every browser and most HTTP libraries send ``*/*``, also those that cannot decode
    AVIF. A type named with ``q=0`` is refused; a malformed ``q`` counts as 0, because JPEG is always safe.

    Args:
        accept: The Accept header, or None when the client sent none.
    """
    qualities: dict[str, float] = {}
    for media_range in (accept or "").lower().split(","):
        name, *parameters = (part.strip(_SPACE) for part in media_range.split(";"))
        quality = _quality(parameters)
        qualities[name] = min(qualities.get(name, quality), quality)
    for media_type, extension in _PREFERRED:
        if qualities.get(media_type, 0.0) > 0:
            return extension
    return "jpg"


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip(_SPACE) == "q":
            return float(value) if _QUALITY.fullmatch(value := value.strip(_SPACE)) else 0.0
    return 1.0
