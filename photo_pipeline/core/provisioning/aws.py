"""The way to AWS's control plane: clients, the account, and its errors in our words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from photo_pipeline.core.aws_errors import CREDENTIAL_ERRORS, credential_error, error_code, http_status
from photo_pipeline.core.aws_session import aws_session
from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.cost.hooks import count_boto3
from photo_pipeline.core.cost.meter import UNCOUNTED, RequestMeter
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError, InfrastructureError

GLOBAL_REGION = "us-east-1"
"""Where CloudFront keeps its metrics and takes certificates from, and where billing and budgets are."""

# A call fails over in < 30 s: three tries of at most 3 + 6 s.
_LIMITS: dict[str, Any] = {
    "connect_timeout": 3,
    "read_timeout": 6,
    "retries": {"mode": "standard", "total_max_attempts": 3},
}
_DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "403"}
_CREDENTIALS = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId", "ExpiredToken"),
    "UnrecognizedClientException",
}
_CHANGED = {"PreconditionFailed", "InvalidIfMatchVersion", "OperationAborted", "ConditionalRequestConflict"}
_T = TypeVar("_T")


class Aws:
    """Clients of one account, made when they are needed. Credentials come from the standard environment."""

    def __init__(
        self, store: StoreSettings, *, session: boto3.Session | None = None, meter: RequestMeter = UNCOUNTED
    ) -> None:
        try:
            # Its overloads know services by their literal names only.
            self._session: Any = session or aws_session(store.region)
        except CREDENTIAL_ERRORS as error:
            raise credential_error(error) from error
        self._store = store
        self._meter = meter

    @property
    def is_amazon(self) -> bool:
        """Whether the bucket is at AWS, where there are CloudFront, alarms and budgets."""
        return self._store.endpoint_url is None

    @cached_property
    def s3(self) -> Any:
        """S3, in the bucket's region; the only service here whose requests are charged, and so counted."""
        options: Any = {"addressing_style": "auto" if self.is_amazon else "path"}
        client = self._session.client(
            "s3",
            region_name=self._store.region,
            endpoint_url=self._store.endpoint_url,
            config=Config(**_LIMITS, s3=options),
        )
        count_boto3(client, self._meter)
        return client

    @cached_property
    def cloudfront(self) -> Any:
        """CloudFront."""
        return self._global("cloudfront")

    @cached_property
    def cloudwatch(self) -> Any:
        """CloudWatch, where CloudFront and billing report."""
        return self._global("cloudwatch")

    @cached_property
    def sns(self) -> Any:
        """SNS, beside the alarms that publish to it."""
        return self._global("sns")

    @cached_property
    def acm(self) -> Any:
        """ACM, where CloudFront takes certificates from."""
        return self._global("acm")

    @cached_property
    def budgets(self) -> Any:
        """AWS Budgets."""
        return self._global("budgets")

    @cached_property
    def account(self) -> str:
        """The account's number; everyone may ask for their own."""
        return str(self._global("sts").get_caller_identity()["Account"])

    def _global(self, service: str) -> Any:
        return self._session.client(service, region_name=GLOBAL_REGION, config=Config(**_LIMITS))


def found(call: Callable[[], _T], *missing: str) -> _T | None:
    """Return what the call returns, or None where AWS answers that there is no such thing.

    Args:
        call: The request.
        missing: The codes that mean this; a bucket that does not exist has nothing else either.
    """
    try:
        return call()
    except ClientError as error:
        if error_code(error) in (*missing, "NoSuchBucket"):
            return None
        raise


def is_unsupported(error: ClientError) -> bool:
    """Return whether the server does not know this kind of request (an S3-compatible one, say)."""
    status = http_status(error)
    # rclone takes every PUT on a bucket for its creation.
    mistaken = error_code(error) == "BucketAlreadyExists" and error.operation_name != "CreateBucket"
    return status in (405, 501) or mistaken or error_code(error) in ("NotImplemented", "MethodNotAllowed")


@contextmanager
def aws_errors(thing: str) -> Iterator[None]:
    """Turn the client library's errors into ours.

    Raises:
        ConfigurationError: AWS refuses the credentials or the request.
        GuardRefusedError: somebody else changed the same thing at the same time.
        InfrastructureError: AWS does not answer, or failed.
    """
    try:
        yield
    except CREDENTIAL_ERRORS as error:
        raise credential_error(error) from error
    except ClientError as error:
        raise _in_our_words(thing, error) from error
    except BotoCoreError as error:
        raise InfrastructureError(
            thing,
            cause=f"AWS does not answer ({' '.join(str(error).split())[:200]})",
            fix="check the network, then run again: what is done stays done",
        ) from error


def _in_our_words(
    thing: str, error: ClientError
) -> ConfigurationError | GuardRefusedError | InfrastructureError:
    code, text = error_code(error), " ".join(str(error).split())[:300]
    status = http_status(error)
    if code in _CREDENTIALS:
        return ConfigurationError(
            "AWS credentials", cause=f"AWS refuses them ({text})", fix="check the AWS_* variables or profile"
        )
    if code in _DENIED:
        return ConfigurationError(
            thing,
            cause=f"these credentials may not do it ({text})",
            fix="use an identity with the policy that `photo-pipeline provision policies --role provisioner` "
            "prints",
        )
    if code in _CHANGED:
        return GuardRefusedError(
            thing, cause=f"somebody else is changing it ({text})", fix="run again, and look at the plan anew"
        )
    if status >= 500 or code.startswith("Throttl") or code == "TooManyRequestsException":
        return InfrastructureError(
            thing, cause=f"AWS failed the request ({text})", fix="run again: what is done stays done"
        )
    return ConfigurationError(
        thing, cause=f"AWS refuses the request ({text})", fix="correct the setting under `provision`"
    )
