"""The object store: one bucket on S3 or a compatible server.

Data goes through obstore (sync API, threads: 1.4 to 1.7 times rclone's speed, FACTS), control requests
through boto3. Nothing is ever overwritten: every PUT is conditional. What is stored under which key
is decided in `core.migration.photos`, and when it counts as proven in `core.migration.proof`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import boto3
import obstore
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    ProfileNotFound,
)
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.errors import ConfigurationError, StoreError
from photo_pipeline.core.storage.checksum import checksum_from_base64

# A black-holed request must fail over in under 30 s (FACTS, "S3, CloudFront and their doubles"). Control
# requests are small: three tries of 8 s. A data request is not tried again when its time is over; it gets
# more time the more it carries, so that many large originals can share a slow uplink (32 KB/s each).
_CONNECT_TIMEOUT_S = 5
_CONTROL_TIMEOUT_S = 8
_DATA_TIMEOUTS_S = {512 * 1024: 20, 4 * 1024**2: 128, 32 * 1024**2: 1024}
_LONGEST_DATA_TIMEOUT_S = 4 * 3600
# Network failures: three tries, exponential from one second (PRODUCT L4).
_ATTEMPTS = 3
_DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}


@dataclass(frozen=True)
class StoredObject:
    """What the store says of one object. `sha256` is hex, or None where the server keeps no checksum."""

    key: str
    size: int
    sha256: str | None
    content_type: str | None
    cache_control: str | None
    metadata: Mapping[str, str]


class PhotoStore:
    """One bucket. Thread-safe; must not cross a fork (obstore)."""

    def __init__(self, settings: StoreSettings, *, s3: Any, session: boto3.Session) -> None:
        self.settings = settings
        self.s3 = s3
        self._session = session
        self._data = _data_store(session, settings, timeout_s=data_timeout_s(0))
        self._patient: dict[int, S3Store] = {}

    @classmethod
    def open(cls, settings: StoreSettings) -> "PhotoStore":
        """Connect with the standard AWS credentials and check that the bucket answers.

        Raises:
            ConfigurationError: no credentials, refused credentials, or no such bucket.
            StoreError: the server does not answer.
        """
        try:
            session = boto3.Session(region_name=settings.region)
            store = cls(settings, s3=_control_client(session, settings), session=session)
            store.s3.head_bucket(Bucket=settings.bucket)
        except NoCredentialsError as error:
            raise _no_credentials() from error
        except ProfileNotFound as error:
            raise ConfigurationError(
                "$AWS_PROFILE", cause=str(error), fix="name an existing profile"
            ) from error
        except ClientError as error:
            raise _bucket_error(settings, error) from error
        except (ParamValidationError, ValueError) as error:
            raise _malformed(error) from error
        except BotoCoreError as error:
            raise _unreachable(settings, error) from error
        return store

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.settings.bucket

    @property
    def endpoint(self) -> str:
        """The server that is spoken to, as messages and records name it."""
        return self.settings.endpoint_url or f"s3.{self.settings.region}.amazonaws.com"

    def put_new(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        cache_control: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> bool:
        """Store `data` under `key` unless the key exists; return whether this call stored it.

        The request carries the body's SHA-256 and `If-None-Match: *`. False means that the key was there,
        possibly from an earlier attempt of ours whose answer was lost: compare it, then adopt it.

        Raises:
            StoreError: the store failed or refused the request after retries.
        """
        attributes = {"Content-Type": content_type, **(metadata or {})}
        if cache_control:
            attributes["Cache-Control"] = cache_control
        try:
            with _store_errors(f"s3://{self.bucket}/{key}"):
                for attempt in _retries():
                    with attempt:
                        obstore.put(
                            self._data_for(len(data)),
                            key,
                            data,
                            attributes=cast(Any, attributes),
                            mode="create",
                            # A multipart SHA-256 is composite and proves nothing by itself.
                            use_multipart=False,
                        )
        except AlreadyExistsError:
            return False
        return True

    def _data_for(self, size: int) -> S3Store:
        """Return the data client whose time limit suits a body of `size` bytes (obstore has one a client)."""
        timeout_s = data_timeout_s(size)
        if timeout_s == data_timeout_s(0):
            return self._data
        if timeout_s not in self._patient:
            self._patient[timeout_s] = _data_store(self._session, self.settings, timeout_s=timeout_s)
        return self._patient[timeout_s]

    def head(self, key: str) -> StoredObject | None:
        """Return what the store knows of `key`, or None if there is no such object.

        Raises:
            StoreError: the store failed or refused the request.
        """
        try:
            with _store_errors(f"s3://{self.bucket}/{key}"):
                answer = self.s3.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        except _MissingObject:
            return None
        # A multipart object's SHA-256 is one of its parts' checksums; some servers leave out its "-N".
        composite = "-" in answer.get("ChecksumSHA256", "") or "-" in answer.get("ETag", "")
        checksum = None if composite else checksum_from_base64(answer.get("ChecksumSHA256"))
        return StoredObject(
            key=key,
            size=int(answer["ContentLength"]),
            sha256=checksum,
            content_type=answer.get("ContentType"),
            cache_control=answer.get("CacheControl"),
            metadata={name.lower(): value for name, value in answer.get("Metadata", {}).items()},
        )

    def read(self, key: str, *, size: int = 0) -> bytes | None:
        """Return the object's bytes, or None if there is no such object; `size` sets the time limit.

        Raises:
            StoreError: the store failed or refused the request after retries.
        """
        try:
            with _store_errors(f"s3://{self.bucket}/{key}"):
                for attempt in _retries():
                    with attempt:
                        return obstore.get(self._data_for(size), key).bytes().to_bytes()
        except FileNotFoundError:
            return None
        raise AssertionError("tenacity re-raises the last error")  # pragma: no cover

    def delete(self, key: str) -> None:
        """Delete the object; an absent one is no error.

        Raises:
            StoreError: the store failed or refused the request.
        """
        with _store_errors(f"s3://{self.bucket}/{key}"):
            self.s3.delete_object(Bucket=self.bucket, Key=key)

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield (key, size in bytes) of every object below `prefix`, in constant memory.

        Raises:
            StoreError: the store failed or refused the request.
        """
        with _store_errors(f"s3://{self.bucket}/{prefix}"):
            for page in obstore.list(self._data, prefix=prefix):
                for item in page:
                    yield item["path"], item["size"]


def data_timeout_s(size: int) -> int:
    """Return how many seconds a request that carries `size` bytes may take."""
    return next((s for limit, s in _DATA_TIMEOUTS_S.items() if size <= limit), _LONGEST_DATA_TIMEOUT_S)


def _retries() -> Retrying:
    return Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential_jitter(initial=1, max=8, jitter=1),
        retry=retry_if_exception(_is_worth_a_retry),
        reraise=True,
    )


def _is_worth_a_retry(error: BaseException) -> bool:
    # The kind of a failure is in obstore's text only.
    timed_out = "kind: Timeout" in str(error)
    return _is_conflict(error) or (isinstance(error, GenericError) and not timed_out)


def _is_conflict(error: BaseException) -> bool:
    """Return whether this is S3's 409 (two writers at once), which obstore reports as "already exists"."""
    return isinstance(error, AlreadyExistsError) and "409 Conflict" in str(error)


def _control_client(session: boto3.Session, settings: StoreSettings) -> Any:
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_CONTROL_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=64,
        s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
    )
    return session.client("s3", endpoint_url=settings.endpoint_url, config=config)


def _data_store(session: boto3.Session, settings: StoreSettings, *, timeout_s: int) -> S3Store:
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
        "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=timeout_s)},
    }
    if settings.endpoint_url:
        options["endpoint"] = settings.endpoint_url
    if settings.encryption:
        options["server_side_encryption"] = settings.encryption
    return S3Store(settings.bucket, **options)


class _MissingObject(Exception):  # noqa: N818 - a signal inside this module, not an error
    """The key does not exist."""


@contextmanager
def _store_errors(thing: str) -> Iterator[None]:
    """Turn the two client libraries' errors into ours; let the two answers that callers expect pass."""
    try:
        yield
    except (AlreadyExistsError, FileNotFoundError) as error:
        if _is_conflict(error):
            raise _request_error(thing, "", "HTTP 409, another write to it is under way") from error
        raise
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in ("404", "NoSuchKey", "NotFound"):
            raise _MissingObject(thing) from error
        raise _request_error(thing, code, str(error)) from error
    except (BotoCoreError, BaseError) as error:
        denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        text = " ".join(str(error).partition("Debug source")[0].split())
        raise _request_error(thing, "AccessDenied" if denied else "", text) from error


def _request_error(thing: str, code: str, text: str) -> StoreError:
    if code in _DENIED:
        fix = "check the credentials and the bucket's permissions, then run again"
    else:
        fix = "check the network and the server, then run again: what is stored is kept"
    return StoreError(thing, cause=f"the store failed the request ({text[:300]})", fix=fix)


def _bucket_error(settings: StoreSettings, error: ClientError) -> ConfigurationError | StoreError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
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
    return _unreachable(settings, error)


def _no_credentials() -> ConfigurationError:
    return ConfigurationError(
        "AWS credentials",
        cause="there are none in the environment",
        fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    )


def _malformed(error: Exception) -> ConfigurationError:
    return ConfigurationError(
        "store",
        cause=f"its settings cannot be used ({' '.join(str(error).split())[:200]})",
        fix="correct store.bucket, store.region or store.endpoint_url (http://host:port)",
    )


def _unreachable(settings: StoreSettings, error: Exception) -> StoreError:
    return StoreError(
        f"object store {settings.endpoint_url or 'AWS S3'}",
        cause=f"it does not answer ({' '.join(str(error).split())[:200]})",
        fix="check store.endpoint_url and that the server is up, then run again",
    )
