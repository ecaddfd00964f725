"""How long browsers and the CDN may keep what the store serves."""

from photo_pipeline.core.config import CdnSettings

# Originals are never served.
NOT_SERVED = "private"


def cache_control(cdn: CdnSettings, image_format: str) -> str:
    """Return the Cache-Control value of variants in that format: avif, webp or jpeg."""
    return str(getattr(cdn.cache_control, image_format))
