"""The object store: one bucket on S3 or a compatible server.

Data goes through obstore (sync API, threads: 1.4 to 1.7 times rclone's speed, FACTS), control requests
through boto3. Nothing is ever overwritten: every PUT is conditional. What is stored under which key
is decided in `core.migration.naming`, and when it counts as proven in `core.migration.proof`. What is done
with whole files, versions and many objects are modules of their own in this package (docs/storage.md).
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

import boto3
import obstore
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from photo_pipeline.core.aws_session import aws_session
from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.cost.meter import UNCOUNTED, RequestMeter
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.storage.bandwidth import Bandwidth
from photo_pipeline.core.storage.checksum import checksum_from_base64, sha256_hex
from photo_pipeline.core.storage.clients import control_client, data_client
from photo_pipeline.core.storage.faults import (
    CutAnswerError,
    MissingObjectError,
    is_transient_answer,
    is_worth_a_retry,
    store_errors,
    timed_out,
)
from photo_pipeline.core.storage.keys import checked_key
from photo_pipeline.core.storage.listing import list_objects
from photo_pipeline.core.storage.objects import ListedObject, StoredObject
from photo_pipeline.core.storage.opening import opening_errors
from photo_pipeline.core.storage.retries import CONTROL_TIMEOUTS_S, Patience, data_timeouts_s

# Bytes that came damaged are asked for again this often.
_READS = 3
_T = TypeVar("_T")


class PhotoStore:
    """One bucket. Thread-safe; must not cross a fork (obstore)."""

    def __init__(
        self,
        settings: StoreSettings,
        *,
        s3: Any,
        session: boto3.Session,
        meter: RequestMeter = UNCOUNTED,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        self.settings = settings
        self.s3 = s3
        self.session = session
        self.meter = meter
        self.bandwidth = bandwidth or Bandwidth(settings.max_bandwidth)
        self._data: dict[int, S3Store] = {}
        self._bodies: dict[int, Any] = {}
        self._bodies_lock = threading.Lock()
        # The first one is made here, where missing credentials are looked for.
        self._data_client(data_timeouts_s(0)[0])

    @classmethod
    def open(cls, settings: StoreSettings, *, meter: RequestMeter = UNCOUNTED) -> "PhotoStore":
        """Connect with the standard AWS credentials and check that the bucket answers.

        Args:
            settings: The bucket.
            meter: Counts every request from this one on.

        Raises:
            ConfigurationError: no credentials, refused credentials, or no such bucket.
            StoreError: the server does not answer.
        """
        with opening_errors(settings):
            session = aws_session(settings.region)
            store = cls(settings, s3=control_client(session, settings, meter), session=session, meter=meter)
            store.control(
                lambda: store.s3.head_bucket(Bucket=settings.bucket), unless=EndpointConnectionError
            )
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
            ObjectKeyError: the key cannot mean the same object to every request; nothing was asked.
        """
        checked_key(key)
        attributes = {"Content-Type": content_type, **(metadata or {})}
        if cache_control:
            attributes["Cache-Control"] = cache_control

        def put(client: S3Store) -> None:
            # A multipart SHA-256 is composite and proves nothing by itself.
            obstore.put(
                client, key, data, attributes=cast(Any, attributes), mode="create", use_multipart=False
            )

        try:
            with store_errors(f"s3://{self.bucket}/{key}"):
                self.transfer(put, len(data), unit=Unit.PUTS)
        except AlreadyExistsError:
            return False
        return True

    def transfer(self, request: Callable[[S3Store], _T], size: int, *, unit: Unit) -> _T:
        """Return what the data request returns, tried again as its size allows; errors pass unchanged.

        Each try is counted before it is sent.

        Args:
            request: The call, with the client that it should use.
            size: Bytes that it carries one way or the other; what they may take, and the cap's share.
            unit: What it is charged as: `PUTS` carry bytes in, all others out.
        """
        self.bandwidth.wait_for(size)
        patience = Patience(data_timeouts_s(size), timed_out=timed_out)

        def attempt() -> _T:
            self.meter.count(unit)
            self.meter.count(Unit.BYTES_IN if unit is Unit.PUTS else Unit.BYTES_OUT, size)
            try:
                return request(self._data_client(patience.timeout_s))
            except BaseError as error:
                if is_worth_a_retry(error):
                    # It may have carried everything; the next one's bytes come on top.
                    self.bandwidth.book(size)
                raise

        return patience.run(attempt, is_worth_a_retry)

    def _data_client(self, timeout_s: int) -> S3Store:
        """Return the data client with that time limit (obstore has one a client)."""
        if timeout_s not in self._data:
            self._data[timeout_s] = data_client(self.session, self.settings, timeout_s=timeout_s)
        return self._data[timeout_s]

    def body_client(self, timeout_s: int) -> Any:
        """Return a boto3 client that waits so long for an answer: for requests that take a body's time."""
        # Sessions are not thread-safe, clients are.
        with self._bodies_lock:
            if timeout_s not in self._bodies:
                self._bodies[timeout_s] = control_client(
                    self.session, self.settings, self.meter, read_timeout_s=timeout_s
                )
            return self._bodies[timeout_s]

    def control(self, request: Callable[[], _T], *, unless: type[Exception] | tuple[()] = ()) -> _T:
        """Return what the boto3 call returns, tried again with a budget of its own; errors pass unchanged.

        Args:
            request: The call.
            unless: Errors that are final although another try might help.
        """
        return Patience(CONTROL_TIMEOUTS_S, timed_out=timed_out).run(
            request, lambda error: is_worth_a_retry(error) and not isinstance(error, unless)
        )

    def is_answering(self) -> bool:
        """Return whether the store answers at all, with one short request for the bucket."""
        try:
            self.s3.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            return not is_transient_answer(error)
        except BotoCoreError:
            return False
        return True

    def head(self, key: str) -> StoredObject | None:
        """Return what the store knows of `key`, or None if there is no such object.

        Raises:
            StoreError: the store failed or refused the request.
            ObjectKeyError: as for `put_new`.
        """
        checked_key(key)
        try:
            with store_errors(f"s3://{self.bucket}/{key}"):
                answer = self.control(lambda: self._head(key))
        except MissingObjectError:
            return None
        reported = answer.get("ChecksumSHA256") or ""
        # A multipart object's SHA-256 is one of its parts' checksums; some servers leave out its "-N".
        composite = "-" in reported or "-" in answer.get("ETag", "")
        return StoredObject(
            key=key,
            size=int(answer["ContentLength"]),
            sha256=None if composite else checksum_from_base64(reported),
            parts_sha256=checksum_from_base64(reported.partition("-")[0]) if composite else None,
            content_type=answer.get("ContentType"),
            cache_control=answer.get("CacheControl"),
            metadata={name.lower(): value for name, value in answer.get("Metadata", {}).items()},
            etag=answer.get("ETag", "").strip('"'),
            version_id=answer.get("VersionId"),
            last_modified=answer.get("LastModified"),
        )

    def look(self, key: str) -> ListedObject | None:
        """Return size, time and ETag of `key`, or None if there is no such object.

        A HEAD without the checksum, at a tenth of the processor time of `head`.

        Raises:
            StoreError: the store failed or refused the request after retries.
            ObjectKeyError: as for `put_new`.
        """
        checked_key(key)
        try:
            with store_errors(f"s3://{self.bucket}/{key}"):
                found = self.transfer(lambda client: obstore.head(client, key), 0, unit=Unit.GETS)
        except FileNotFoundError:
            return None
        return ListedObject(key, found["size"], found["last_modified"], (found["e_tag"] or "").strip('"'))

    def _head(self, key: str) -> Any:
        answer = self.s3.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        if "ContentLength" not in answer:
            # Python's HTTP client takes headers that end early for complete ones.
            raise CutAnswerError(error=f"the answer's headers about {key} were cut off")
        return answer

    def read(self, key: str, *, size: int = 0, sha256: str | None = None) -> bytes | None:
        """Return the object's bytes, or None if there is no such object.

        Args:
            key: The object's key.
            size: In bytes, as far as it is known; sets the time limit.
            sha256: Hex. Where the bytes do not have it they are asked for again, since they may have been
                damaged on their way; what came last is returned, right or wrong.

        Raises:
            StoreError: the store failed or refused the request after retries.
            ObjectKeyError: as for `put_new`.
        """
        checked_key(key)
        try:
            with store_errors(f"s3://{self.bucket}/{key}"):
                for _ in range(_READS):
                    data = self.transfer(
                        lambda client: obstore.get(client, key).bytes().to_bytes(), size, unit=Unit.GETS
                    )
                    self.meter.count(Unit.BYTES_OUT, len(data) - size)
                    if sha256 is None or sha256_hex(data) == sha256:
                        break
                return data
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        """Delete whatever is there; an absent one is no error. For our own short-lived objects only.

        Anything that somebody may need goes through `deletion.delete_object`.

        Raises:
            StoreError: the store failed or refused the request.
            ObjectKeyError: as for `put_new`.
        """
        checked_key(key)
        with store_errors(f"s3://{self.bucket}/{key}"):
            self.control(lambda: self.s3.delete_object(Bucket=self.bucket, Key=key))

    def list(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield (key, size in bytes) of every object below the folder, in constant memory.

        Times, ETags and plain prefixes: `listing.list_objects`.

        Raises:
            StoreError: the store failed or refused the request.
        """
        for each in list_objects(self, f"{folder.rstrip('/')}/"):
            yield each.key, each.size
