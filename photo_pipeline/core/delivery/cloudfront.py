"""The CloudFront API, opened by the standard AWS environment, with its failures in our words.

`AWS_ENDPOINT_URL_CLOUDFRONT` is honoured, as everywhere in boto3. What is asked of the API is the callers'
business; fetching what the CDN delivers is `cdn`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from photo_pipeline.core.aws_errors import CREDENTIAL_ERRORS, credential_error, error_code
from photo_pipeline.core.aws_session import aws_session
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError, InfrastructureError

# Three tries of at most 9 s: a request fails over in < 30 s, as everywhere (FACTS).
_TIMEOUTS = Config(connect_timeout=3, read_timeout=6, retries={"mode": "standard", "total_max_attempts": 3})
_DENIED = ("AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "403")
_MALFORMED = ("InvalidArgument", "InvalidRelativePath", "MalformedXML", "BatchTooLarge", "ValidationError")


def open_cloudfront() -> Any:
    """Return a client of the CloudFront API; nothing is requested yet.

    Raises:
        ConfigurationError: there are no AWS credentials in the environment.
    """
    try:
        session = aws_session()
        if session.get_credentials() is None:
            raise NoCredentialsError()
        # CloudFront is a global service whose API lives in us-east-1.
        return session.client("cloudfront", region_name="us-east-1", config=_TIMEOUTS)
    except CREDENTIAL_ERRORS as error:
        raise credential_error(error) from error


def distribution_id(config: PipelineConfig) -> str:
    """Return the id of the distribution.

    Raises:
        ConfigurationError: the configuration names none.
    """
    if not config.cdn.distribution_id:
        raise ConfigurationError(
            "cdn.distribution_id",
            cause="no distribution is named",
            fix="set it to the CloudFront distribution's id, as in E2EXAMPLE123",
        )
    return config.cdn.distribution_id


@contextmanager
def cloudfront_errors(thing: str, *, permission: str) -> Iterator[None]:
    """Turn the client library's errors into ours.

    Args:
        thing: What is worked on, as messages name it.
        permission: The IAM action that the calls inside need.

    Raises:
        ConfigurationError: CloudFront refuses the credentials, or the request itself.
        InfrastructureError: CloudFront does not answer, or failed.
    """
    try:
        yield
    except CREDENTIAL_ERRORS as error:
        raise credential_error(error) from error
    except ClientError as error:
        code, text = error_code(error), " ".join(str(error).split())[:300]
        if code in _DENIED:
            raise ConfigurationError(
                thing, cause=f"CloudFront refuses it ({text})", fix=f"allow {permission} to these credentials"
            ) from error
        if code.startswith("NoSuch"):
            raise ConfigurationError(
                thing, cause=f"CloudFront does not know it ({text})", fix="correct its name or id"
            ) from error
        if code in _MALFORMED:
            raise ConfigurationError(
                thing, cause=f"CloudFront refuses the request ({text})", fix="correct it"
            ) from error
        raise InfrastructureError(
            thing, cause=f"CloudFront failed the request ({text})", fix="run again in a minute"
        ) from error
    except BotoCoreError as error:
        raise InfrastructureError(
            thing,
            cause=f"the CloudFront API does not answer ({' '.join(str(error).split())[:200]})",
            fix="check the network, then run again",
        ) from error
