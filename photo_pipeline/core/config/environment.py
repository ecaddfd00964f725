"""What the environment adds to the file: bucket, region, CDN domain, and the secrets.

Secrets are never part of the file. Environment variables are read here, and the file's own path in `file`.
"""

import os
import re
from pathlib import Path

from dotenv import dotenv_values

from photo_pipeline.core.config.pipeline import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError


def load_dotenv(path: Path) -> None:
    """Add the variables of a `.env` file, if there is one, where they are not set already."""
    if path.is_file():
        for name, value in dotenv_values(path).items():
            if value is not None:
                os.environ.setdefault(name, value)


def with_environment(config: PipelineConfig, *, needs_cdn: bool = True) -> PipelineConfig:
    """Fill in what the environment may provide: bucket, region and CDN domain.

    With `needs_cdn` False the CDN's URL may stay empty.

    Raises:
        ConfigurationError: neither the file nor the environment names the bucket or the CDN.
    """
    environment = os.environ
    domain = environment.get("AWS_CLOUDFRONT_DOMAIN", "").removeprefix("https://")
    bucket = config.store.bucket or environment.get("AWS_S3_BUCKET_NAME", "")
    base_url = config.cdn.base_url or (f"https://{domain}" if domain else "")
    region = config.store.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if not bucket:
        raise ConfigurationError(
            "store.bucket", cause="no bucket is named", fix="set it in the file or set $AWS_S3_BUCKET_NAME"
        )
    if not re.match(r"^https?://[^/]+", base_url) and (base_url or needs_cdn):
        raise ConfigurationError(
            "cdn.base_url",
            cause=f"{base_url!r} is not an http(s) URL" if base_url else "no CDN URL is named",
            fix="set it in the file, as in https://cdn.example.com, or set $AWS_CLOUDFRONT_DOMAIN",
        )
    return config.model_copy(
        update={
            "store": config.store.model_copy(update={"bucket": bucket, "region": region or "us-east-1"}),
            "cdn": config.cdn.model_copy(update={"base_url": base_url.rstrip("/")}),
        }
    )


def database_url(config: PipelineConfig) -> str:
    """Return the application database's URL from the environment variable that the file names.

    Raises:
        ConfigurationError: the variable is not set.
    """
    url = os.environ.get(config.database.env)
    if not url:
        raise ConfigurationError(
            f"${config.database.env}",
            cause="the environment variable with the database URL is not set",
            fix=f"set it: export {config.database.env}=postgresql://user:password@host/name (or sqlite:////abs/path.db)",
        )
    return url
