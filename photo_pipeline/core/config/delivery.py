"""The CDN, as the application's users will meet it."""

from typing import Annotated

from pydantic import Field

from photo_pipeline.core.config.base import Settings

# What a header may hold; anything else could end it and begin another one.
_HeaderValue = Annotated[str, Field(pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$", max_length=256)]
_FOR_EVER = "public, max-age=31536000, immutable"


class CacheSettings(Settings):
    """How long browsers and the CDN may keep a variant, by its format: Cache-Control values.

    Content-addressed keys never change, so AVIF and WebP may be kept for ever; JPEG, the fallback that other
    sites and mail programs link to, stays refreshable (PRODUCT C1).
    """

    avif: _HeaderValue = Field(default=_FOR_EVER, description="Cache-Control of AVIF files.")
    webp: _HeaderValue = Field(default=_FOR_EVER, description="Cache-Control of WebP files.")
    jpeg: _HeaderValue = Field(default="public, max-age=86400", description="Cache-Control of JPEG files.")


class CdnSettings(Settings):
    """The delivery side: the base URL that rewritten rows will carry."""

    base_url: str = Field(
        default="", description="https://… without a path; https://AWS_CLOUDFRONT_DOMAIN when left out."
    )
    distribution_id: str | None = Field(default=None, description="CloudFront distribution id.")
    cache_control: CacheSettings = Field(
        default=CacheSettings(), description="Cache-Control by format; goes with objects stored from now on."
    )
    earlier_cache_control: tuple[_HeaderValue, ...] = Field(
        default=(),
        description="Values that objects stored earlier may have; the delivery test accepts them.",
    )
