"""The bucket: where objects go, and how they travel."""

from typing import Literal, Self

from pydantic import Field, model_validator

from photo_pipeline.core.config.base import Settings, is_key_prefix
from photo_pipeline.core.config.size import SizeBytes


class StoreSettings(Settings):
    """The S3 (or compatible) bucket that receives the objects."""

    bucket: str = Field(
        default="", description="Bucket name; AWS_S3_BUCKET_NAME is used when it is left out."
    )
    region: str = Field(default="", description="Bucket region; AWS_REGION is used when it is left out.")
    endpoint_url: str | None = Field(default=None, description="For S3-compatible servers; null means AWS.")
    prefix: str = Field(default="photos", description="Key prefix of the variants that the CDN serves.")
    originals: Literal["keep", "discard"] = Field(
        default="keep", description="Keep the untouched original under originals_prefix."
    )
    originals_prefix: str = Field(
        default="originals", description="Key prefix of the originals; the CDN must never serve it."
    )
    encryption: Literal["AES256", "aws:kms"] | None = Field(
        default="AES256", description="Server-side encryption; null leaves it to the bucket's default."
    )

    max_bandwidth: SizeBytes | None = Field(
        default=None,
        description="Bytes a second to and from the store, per process, e.g. 5 MB; null means no cap.",
    )

    @property
    def backups_prefix(self) -> str:
        """Key prefix of the backups of rows: beside the originals, so that no CDN serves it.

        Not below them: whoever looks for originals that nobody needs any more must not come across it.
        """
        return f"{self.originals_prefix}-backups"

    @model_validator(mode="after")
    def _prefixes_are_apart(self) -> Self:
        for name in ("prefix", "originals_prefix"):
            value = getattr(self, name)
            if not is_key_prefix(value):
                raise ValueError(
                    f"{name} {value!r} must be plain path segments without a slash at either end"
                )
        first, second = f"{self.prefix}/", f"{self.originals_prefix}/"
        if first.startswith(second) or second.startswith(first):
            raise ValueError(
                "prefix and originals_prefix must not contain each other: the CDN serves only one"
            )
        return self


class UploadSettings(Settings):
    """How objects travel."""

    concurrency: int = Field(default=16, gt=0, le=128, description="Parallel uploads.")
    multipart_above: SizeBytes = Field(
        default=32 * 1024**2,
        description="Larger files are sent in parts of 16 MB, each read and checked by itself, e.g. 32 MB.",
    )
