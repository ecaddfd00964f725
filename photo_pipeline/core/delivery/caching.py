"""How long browsers and the CDN may keep what the store serves."""

# Content-addressed keys never change, so AVIF and WebP may be kept for ever; JPEG, the fallback that other
# sites and mail programs link to, stays refreshable (PRODUCT C1).
CACHE_CONTROL = {
    "avif": "public, max-age=31536000, immutable",
    "webp": "public, max-age=31536000, immutable",
    "jpeg": "public, max-age=86400",
}
# Originals are never served.
NOT_SERVED = "private"
