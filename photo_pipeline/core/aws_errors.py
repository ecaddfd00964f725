"""What every caller of AWS reads from boto3's errors, and what is said of missing credentials.

What a failure means for the bucket, the CDN or a set-up is their own modules' to say.
"""

from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError, ProfileNotFound

from photo_pipeline.core.errors import ConfigurationError

CREDENTIAL_ERRORS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound)
"""What boto3 raises before the first request where the environment holds no usable credentials."""


def http_status(error: ClientError) -> int:
    """Return the answer's HTTP status, 0 if it has none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def error_code(error: ClientError) -> str:
    """Return AWS's own word for the error, empty if it has none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def credential_error(error: Exception) -> ConfigurationError:
    """Return one of `CREDENTIAL_ERRORS` as what is to be done about it."""
    if isinstance(error, ProfileNotFound):
        return ConfigurationError("$AWS_PROFILE", cause=str(error), fix="name an existing profile")
    missing = isinstance(error, NoCredentialsError)
    return ConfigurationError(
        "AWS credentials",
        cause="there are none in the environment" if missing else str(error).rstrip("."),
        fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    )
