"""What is set up on AWS around the bucket that `store` names: its settings, CDN, alarms, budget."""

import re
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from photo_pipeline.core.config.base import KeyPrefix, Settings


class LifecycleSettings(Settings):
    """What becomes of objects as they age. Current originals and served variants are never deleted."""

    cold_after_days: int = Field(
        default=365, ge=1, description="Days until photos and originals move to a cheaper storage class."
    )
    # Only classes that answer at once: what lies in GLACIER or DEEP_ARCHIVE must be restored for hours first,
    # so that the CDN would answer 403 for a photo, and a rollback could not fetch an original.
    cold_class: Literal["GLACIER_IR", "STANDARD_IA"] = Field(
        default="GLACIER_IR", description="GLACIER_IR (Glacier Instant Retrieval) or STANDARD_IA."
    )
    intelligent_tiering: bool = Field(
        default=False, description="Use S3 Intelligent-Tiering from the first day instead of cold_class."
    )
    incoming_prefix: KeyPrefix = Field(default="incoming", description="Key prefix of temporary uploads.")
    incoming_days: int = Field(
        default=1, ge=1, description="Days until temporary uploads are deleted (S3 counts whole days)."
    )
    documents_prefix: KeyPrefix = Field(
        default="documents", description="Key prefix of verification documents."
    )
    documents_days: int = Field(
        default=2557, ge=1, description="Days until verification documents are deleted (7 years)."
    )
    noncurrent_days: int = Field(
        default=30, ge=1, description="Days for which deleted or replaced versions can be brought back."
    )
    abort_multipart_days: int = Field(
        default=7, ge=1, description="Days until an upload in parts that was never completed is dropped."
    )

    @model_validator(mode="after")
    def _s3_takes_it(self) -> Self:
        if self.cold_class == "STANDARD_IA" and self.cold_after_days < 30:
            raise ValueError("cold_after_days must be at least 30 for STANDARD_IA, which S3 insists on")
        return self


class AccessLogSettings(Settings):
    """S3 server access logs of the bucket."""

    enabled: bool = Field(default=True, description="Log who asked the bucket for what.")
    bucket: str | None = Field(
        default=None,
        description="A bucket of yours that takes the logs; null: `<store.bucket>-logs`, which is created.",
    )
    prefix: str = Field(default="s3/", description="Key prefix of the logs.")
    keep_days: int = Field(default=90, ge=1, description="Days until logs are deleted (created bucket only).")


class ReplicationSettings(Settings):
    """A copy of every new object in another bucket, best in another region."""

    bucket: str = Field(description="Name of the destination bucket; it exists and has versioning on.")
    role_arn: str = Field(description="IAM role that S3 takes on to copy.")
    storage_class: Literal["STANDARD", "STANDARD_IA", "GLACIER_IR"] = Field(
        default="STANDARD_IA", description="Storage class of the copies."
    )


class CountrySettings(Settings):
    """Where the CDN delivers to; one of the two lists, of two-letter country codes."""

    allow: tuple[str, ...] = Field(default=(), description="Only to these countries.")
    deny: tuple[str, ...] = Field(default=(), description="Everywhere but to these countries.")

    @model_validator(mode="after")
    def _one_list_of_codes(self) -> Self:
        if self.allow and self.deny:
            raise ValueError("name countries to allow or to deny, not both")
        for code in (*self.allow, *self.deny):
            if not re.fullmatch("[A-Z]{2}", code):
                raise ValueError(f"{code!r} is not a country code of two capital letters, as in DE")
        return self


class DistributionSettings(Settings):
    """The CloudFront distribution in front of the bucket."""

    enabled: bool = Field(default=True, description="Set up a CloudFront distribution (on AWS only).")
    domain: str | None = Field(default=None, description="Your own domain for it, as in cdn.example.com.")
    certificate_arn: str | None = Field(
        default=None, description="ACM certificate (us-east-1) of that domain; null: one is requested."
    )
    price_class: Literal["PriceClass_100", "PriceClass_200", "PriceClass_All"] = Field(
        default="PriceClass_100",
        description="Edge locations: 100 is Europe and North America, the cheapest; All is everywhere.",
    )
    countries: CountrySettings = CountrySettings()
    error_ttl_s: int = Field(
        default=5,
        ge=0,
        le=300,
        description="Seconds for which the CDN keeps an error; its own default is 10.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=("*",), description="Sites whose scripts may read the photos' pixels."
    )
    routing_function: str | None = Field(
        default=None, description="Name or ARN of the published CloudFront Function for `.auto` URLs."
    )


class AlertSettings(Settings):
    """Who is told when something is wrong, and what counts as wrong. null switches an alarm off."""

    enabled: bool = Field(default=True, description="Set up topic, alarms and budget (on AWS only).")
    emails: tuple[str, ...] = Field(
        default=(), description="Addresses to tell; each must confirm AWS's first mail."
    )
    error_rate_percent: float | None = Field(
        default=5,
        gt=0,
        le=100,
        description="Share of the CDN's answers that may be errors, 5 minutes thrice.",
    )
    latency_ms: float | None = Field(
        default=1000,
        gt=0,
        description="Slowest accepted 90th percentile of the bucket's answers to the CDN; switches on "
        "CloudFront's additional metrics, which AWS charges for.",
    )
    unusual_access: float | None = Field(
        default=4, gt=0, description="Width of the band of usual requests, in standard deviations."
    )
    monthly_usd: float | None = Field(
        default=None,
        gt=0,
        description="Budget of the whole account in dollars a month; limits.plan.monthly_usd when left out.",
    )


class ProvisionSettings(Settings):
    """What `photo-pipeline provision` sets up."""

    tags: Mapping[str, str] = Field(
        default_factory=dict, description="Tags for everything that is created, beside managed-by."
    )
    kms_key: str | None = Field(
        default=None, description="ARN of your KMS key for the bucket's default encryption; null: SSE-S3."
    )
    upload_origins: tuple[str, ...] = Field(
        default=(), description="Sites whose pages upload to the bucket directly, as in https://shop.example."
    )
    lifecycle: LifecycleSettings = LifecycleSettings()
    access_logs: AccessLogSettings = AccessLogSettings()
    replication: ReplicationSettings | None = None
    cdn: DistributionSettings = DistributionSettings()
    alerts: AlertSettings = AlertSettings()
