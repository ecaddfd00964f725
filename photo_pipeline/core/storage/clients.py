"""The two client libraries' clients for one bucket: boto3 for control requests, obstore for bytes.

Both without retries of their own (see `retries`) and with time limits.
"""

from datetime import timedelta
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import NoCredentialsError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.cost.hooks import count_boto3
from photo_pipeline.core.cost.meter import RequestMeter
from photo_pipeline.core.storage.listing_answer import read_quickly
from photo_pipeline.core.storage.retries import CONTROL_TIMEOUTS_S

_CONNECT_TIMEOUT_S = 5


def control_client(
    session: boto3.Session,
    settings: StoreSettings,
    meter: RequestMeter,
    *,
    read_timeout_s: int | None = None,
    tries: int = 1,
) -> Any:
    """Return a boto3 S3 client whose every request is counted.

    Args:
        session: With the credentials.
        settings: The bucket.
        meter: Counts each attempt before it is sent.
        read_timeout_s: How long it waits for an answer; None: as control requests do.
        tries: How often boto3 itself sends a request that fails; one where `PhotoStore` tries again.

    Raises:
        botocore.exceptions.BotoCoreError, ValueError: the settings cannot be used.
    """
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s or CONTROL_TIMEOUTS_S[0],
        retries={"mode": "standard", "total_max_attempts": tries},
        max_pool_connections=64,
        # Presigned URLs would otherwise be of version 2, which newer regions refuse.
        signature_version="s3v4",
        s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
    )
    client = session.client("s3", endpoint_url=settings.endpoint_url, config=config)
    count_boto3(client, meter)
    read_quickly(client)
    return client


def data_client(session: boto3.Session, settings: StoreSettings, *, timeout_s: int) -> S3Store:
    """Return an obstore client each of whose requests may take `timeout_s` seconds.

    Raises:
        NoCredentialsError: the session has none.
    """
    if session.get_credentials() is None:
        raise NoCredentialsError()
    options: dict[str, Any] = {
        "region": settings.region,
        "checksum_algorithm": "SHA256",
        "virtual_hosted_style_request": not settings.endpoint_url,
        "credential_provider": Boto3CredentialProvider(session),
        "client_options": {
            "allow_http": bool(settings.endpoint_url and settings.endpoint_url.startswith("http:")),
            "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
            "timeout": timedelta(seconds=timeout_s),
        },
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=timeout_s)},
    }
    if settings.endpoint_url:
        options["endpoint"] = settings.endpoint_url
    if settings.encryption:
        options["server_side_encryption"] = settings.encryption
    return S3Store(settings.bucket, **options)
