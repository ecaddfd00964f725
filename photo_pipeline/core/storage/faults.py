"""What the client libraries' errors mean: another try, an answer that was expected, or an error of ours.

Both libraries' errors are known only here and in `opening`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    ConnectTimeoutError,
    HTTPClientError,
    ReadTimeoutError,
)
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from photo_pipeline.core.aws_errors import error_code, http_status
from photo_pipeline.core.errors import StoreError, StoreRefusedError, StoreUnreachableError

_DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
# Answers below 500 that say nothing of the request itself: it was damaged or held up on its way.
_TRANSIENT_CODES = {
    "RequestTimeout",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "IncompleteBody",
    "SlowDown",
    "Throttling",
}
_NOT_IMPLEMENTED = 501
# In the place of a code, where no answer came.
_NO_ANSWER = "no answer"
_MISSING_CODES = {"404", "NoSuchKey", "NoSuchVersion", "NoSuchUpload", "NotFound"}
_REFUSED_CONDITION_CODES = {"412", "PreconditionFailed"}


class CutAnswerError(HTTPClientError):
    """An answer that lacks what every answer of its kind has; counts as one of boto3's connection errors."""


class MissingObjectError(Exception):
    """The key does not exist: a signal within this package, not an error."""


class RefusedConditionError(Exception):
    """The condition of a request does not hold (HTTP 412): a signal within this package, not an error."""


def is_worth_a_retry(error: BaseException) -> bool:
    """Return whether the same request may succeed now."""
    if isinstance(error, ClientError):
        return is_transient_answer(error)
    return _is_conflict(error) or isinstance(error, GenericError | HTTPClientError | ConnectionError)


def is_transient_answer(error: ClientError) -> bool:
    """Return whether the answer says something of the moment, and not of the request."""
    status = http_status(error)
    return (
        (status >= 500 and status != _NOT_IMPLEMENTED)
        or status in (408, 409, 429)
        or error_code(error) in _TRANSIENT_CODES
    )


def timed_out(error: BaseException) -> bool:
    """Return whether the request ended because no answer came in time."""
    # The kind of a failure is in obstore's text only.
    if isinstance(error, GenericError):
        return "kind: Timeout" in str(error) or "TimedOut" in str(error)
    return isinstance(error, ReadTimeoutError | ConnectTimeoutError)


def _is_conflict(error: BaseException) -> bool:
    """Return whether this is S3's 409 (two writers at once), which obstore reports as "already exists"."""
    return isinstance(error, AlreadyExistsError) and "409 Conflict" in str(error)


@contextmanager
def store_errors(thing: str) -> Iterator[None]:
    """Turn the two client libraries' errors into ours, but for the answers that callers expect.

    Raises:
        StoreError: the store failed or refused the request.
        AlreadyExistsError: a conditional PUT met an object.
        FileNotFoundError, MissingObjectError: there is no such object (obstore's and boto3's way to say so).
        RefusedConditionError: another condition does not hold.
    """
    try:
        yield
    except (AlreadyExistsError, FileNotFoundError) as error:
        if _is_conflict(error):
            raise _request_error(thing, "", "HTTP 409, another write to it is under way") from error
        raise
    except ClientError as error:
        code = error_code(error)
        if code in _MISSING_CODES:
            raise MissingObjectError(thing) from error
        if code in _REFUSED_CONDITION_CODES:
            raise RefusedConditionError(thing) from error
        raise _request_error(thing, code, str(error)) from error
    except (BotoCoreError, BaseError) as error:
        denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        text = " ".join(str(error).partition("Debug source")[0].split())
        code = "AccessDenied" if denied else _NO_ANSWER if _is_without_answer(error) else ""
        raise _request_error(thing, code, text) from error


def _is_without_answer(error: BotoCoreError | BaseError) -> bool:
    """Return whether the request failed on its way: what the server answered, if anything, is not known."""
    if isinstance(error, BotoCoreError):
        return isinstance(error, ConnectionError | HTTPClientError)
    # obstore tells the two apart in its text only: "HTTP error: …" or "Server returned …".
    return isinstance(error, GenericError) and "HTTP error" in str(error).partition("Debug source")[0]


def _request_error(thing: str, code: str, text: str) -> StoreError:
    cause = f"the store failed the request ({text[:300]})"
    if code in _DENIED:
        fix = "check the credentials and the bucket's permissions, then run again"
        return StoreRefusedError(thing, cause=cause, fix=fix)
    fix = "check the network and the server, then run again: what is stored is kept"
    kind = StoreUnreachableError if code == _NO_ANSWER else StoreError
    return kind(thing, cause=cause, fix=fix)
