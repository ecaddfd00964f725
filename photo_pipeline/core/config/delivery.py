"""The CDN, as the application's users will meet it."""

from pydantic import Field

from photo_pipeline.core.config.base import Settings


class CdnSettings(Settings):
    """The delivery side: the base URL that rewritten rows will carry."""

    base_url: str = Field(
        default="", description="https://… without a path; https://AWS_CLOUDFRONT_DOMAIN when left out."
    )
    distribution_id: str | None = Field(default=None, description="CloudFront distribution id.")
