"""Who is told when something goes wrong, over which channels, and from which values on."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from photo_pipeline.core.config.base import Settings

Channel = Literal["log", "email", "slack", "sns"]


class EmailSettings(Settings):
    """The mail server; user and password are in the environment."""

    host: str = Field(min_length=1, description="Name of the mail server.")
    port: int = Field(default=587, ge=1, le=65535, description="Its port: 587 takes STARTTLS, 465 TLS.")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        description="starttls (refused if the server does not offer it), tls from the first byte, or none.",
    )
    sender: str = Field(description="The address that the mails come from.")
    recipients: tuple[str, ...] = Field(min_length=1, description="The addresses that they go to.")

    @field_validator("sender", "recipients")
    @classmethod
    def _are_addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (value,) if isinstance(value, str) else value:
            if not re.fullmatch(r"[^@\s<>,;:\"]+@[^@\s<>,;:\"]+", address):
                raise ValueError(f"{address!r} is no mail address, as in ops@shop.example")
        return value


class SnsSettings(Settings):
    """The topic that is published to; `provision` makes one, and shows its ARN."""

    topic_arn: str = Field(
        pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+$",
        description="ARN of the SNS topic, as in arn:aws:sns:us-east-1:123456789012:photo-pipeline.",
    )


class AlertingSettings(Settings):
    """Which channels are told, how often, and from which values on. null switches a threshold off."""

    channels: tuple[Channel, ...] = Field(
        default=("log",),
        description="Of log, email, slack (its URL is in $PHOTO_PIPELINE_SLACK_WEBHOOK_URL) and sns.",
    )
    repeat_hours: float = Field(
        default=24, gt=0, description="Hours after which an alert that is still open is sent again."
    )
    email: EmailSettings | None = Field(default=None, description="For the channel email.")
    sns: SnsSettings | None = Field(default=None, description="For the channel sns.")
    failure_rate: float | None = Field(
        default=0.1, gt=0, lt=1, description="Share of the last photos that may fail."
    )
    slow_photo_s: float | None = Field(
        default=20, gt=0, description="Seconds that the slowest twentieth of the last photos may take."
    )
    last_photos: int = Field(
        default=200,
        ge=20,
        le=10_000,
        description="How many photos the two look at, of those of the last 24 hours.",
    )
    audit_hours: float | None = Field(
        default=24,
        gt=0,
        description="Hours after which the audit log and the ledger are proven again (audit verify).",
    )
    drift_hours: float | None = Field(
        default=None,
        gt=0,
        description="Hours after which bucket, CDN and alarms are compared with the configuration again "
        "(provision drift). For what `provision apply` has set up; null: never.",
    )

    @model_validator(mode="after")
    def _channels_are_set_up(self) -> Self:
        if len(set(self.channels)) < len(self.channels):
            raise ValueError("channels: one is named twice")
        for name, settings in (("email", self.email), ("sns", self.sns)):
            if name in self.channels and settings is None:
                raise ValueError(f"channels names {name}, and the section alerts.{name} is missing")
        return self
