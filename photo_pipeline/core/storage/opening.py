"""Why a bucket cannot be opened, said so that it can be mended: credentials, bucket, region, endpoint."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ParamValidationError,
)

from photo_pipeline.core.aws_errors import CREDENTIAL_ERRORS, credential_error, http_status
from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.errors import ConfigurationError, StoreError, StoreUnreachableError


@contextmanager
def opening_errors(settings: StoreSettings) -> Iterator[None]:
    """Turn what the client libraries raise at the first request into what is to be done about it.

    Raises:
        ConfigurationError: no credentials, refused credentials, no such bucket, or unusable settings.
        StoreError: the server does not answer.
    """
    try:
        yield
    except CREDENTIAL_ERRORS as error:
        raise credential_error(error) from error
    except ClientError as error:
        raise _bucket_error(settings, error) from error
    except (ParamValidationError, ValueError) as error:
        raise _malformed(error) from error
    except BotoCoreError as error:
        raise _unreachable(settings, error, StoreUnreachableError) from error


def _bucket_error(settings: StoreSettings, error: ClientError) -> ConfigurationError | StoreError:
    status = http_status(error)
    if status == 404:
        return ConfigurationError(
            f"bucket {settings.bucket!r}",
            cause=f"it does not exist at {settings.endpoint_url or 'AWS'}",
            fix="create it, or correct store.bucket",
        )
    if status in (401, 403):
        return ConfigurationError(
            f"bucket {settings.bucket!r}",
            cause="the store refuses these credentials (HTTP 403)",
            fix="check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and the bucket's policy",
        )
    if status in (301, 307, 400):
        return ConfigurationError(
            f"bucket {settings.bucket!r}",
            cause=f"the store answers HTTP {status} in region {settings.region!r}",
            fix="set store.region to the bucket's region",
        )
    return _unreachable(settings, error, StoreError)


def _malformed(error: Exception) -> ConfigurationError:
    return ConfigurationError(
        "store",
        cause=f"its settings cannot be used ({' '.join(str(error).split())[:200]})",
        fix="correct store.bucket, store.region or store.endpoint_url (http://host:port)",
    )


def _unreachable(settings: StoreSettings, error: Exception, kind: type[StoreError]) -> StoreError:
    return kind(
        f"object store {settings.endpoint_url or 'AWS S3'}",
        cause=f"it does not answer ({' '.join(str(error).split())[:200]})",
        fix="check store.endpoint_url and that the server is up, then run again",
    )
