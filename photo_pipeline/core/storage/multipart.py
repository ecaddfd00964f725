"""Large files in parts: each part carries its SHA-256, the whole is checked before it becomes an object.

By boto3, since obstore's multipart uploads cannot be conditional. Completing is conditional
(`If-None-Match`), so that nothing is overwritten, and looked at before where that is ignored; whatever fails,
the parts that were sent are aborted.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from photo_pipeline.core.errors import PhotoChangedError, StoreError
from photo_pipeline.core.storage.faults import (
    CutAnswerError,
    MissingObjectError,
    RefusedConditionError,
    is_worth_a_retry,
    store_errors,
    timed_out,
)
from photo_pipeline.core.storage.keys import checked_key
from photo_pipeline.core.storage.retries import Patience, data_timeouts_s
from photo_pipeline.core.storage.store import PhotoStore

# S3 takes parts from 5 MiB on, and at most 10,000: 160 GB at this size. One thread holds one part in memory.
PART_BYTES = 16 * 1024**2
_T = TypeVar("_T")


@dataclass(frozen=True)
class SentInParts:
    """What became of a multipart upload.

    Attributes:
        created: Whether this call stored the object; False: the key exists, compare it.
        parts_sha256: Hex; the SHA-256 of the parts' SHA-256s, as S3 reports it for the object it created.
    """

    created: bool
    parts_sha256: str


def put_parts(
    store: PhotoStore,
    key: str,
    file: BinaryIO,
    *,
    sha256: str,
    content_type: str,
    cache_control: str | None = None,
    metadata: Mapping[str, str] | None = None,
    part_bytes: int = PART_BYTES,
    sent: Callable[[int], None] = lambda _size: None,
    count: Callable[[str], None] = lambda _kind: None,
) -> SentInParts:
    """Send the file in parts and make them one object, unless the key exists or the file is another one.

    Args:
        store: The bucket.
        key: The object's key.
        file: Read once, from where it stands to its end.
        sha256: Hex, of all of it; computed anew while it is read.
        content_type: As it will be delivered.
        cache_control: Likewise.
        metadata: User metadata.
        part_bytes: Size of all parts but the last.
        sent: Called with each part's size when the store has it.
        count: Called with `PUT` for each request of that class: one a part, and two more.

    Raises:
        PhotoChangedError: the file's content has another SHA-256; no object was made.
        StoreError: the store failed or refused a request after retries; no object was made by it.
        ObjectKeyError: the key cannot mean the same object to every request; nothing was asked.
    """
    if store.look(key) is not None:
        return SentInParts(created=False, parts_sha256="")
    upload = _Upload(store, checked_key(key), part_bytes)
    count("PUT")
    upload.begin(content_type, cache_control, metadata or {})
    try:
        digest = hashlib.sha256()
        while data := file.read(part_bytes):
            digest.update(data)
            count("PUT")
            upload.send(data)
            sent(len(data))
        if digest.hexdigest() != sha256:
            raise PhotoChangedError(
                getattr(file, "name", key), cause="its content is not the one that was catalogued"
            )
        count("PUT")
        # Looked at once more: Ceph completes over an object in spite of the condition.
        created = store.look(key) is None and upload.complete()
    except BaseException:
        upload.abort()
        raise
    if not created:
        upload.abort()
    return SentInParts(created, upload.parts_sha256)


class _Upload:
    """One multipart upload."""

    def __init__(self, store: PhotoStore, key: str, part_bytes: int) -> None:
        self._store = store
        self._where = {"Bucket": store.bucket, "Key": key}
        self._thing = f"s3://{store.bucket}/{key}"
        self._timeouts_s = data_timeouts_s(part_bytes)
        self._s3 = store.body_client(self._timeouts_s[-1])
        self._parts: list[dict[str, Any]] = []
        self._digests = b""

    @property
    def parts_sha256(self) -> str:
        return hashlib.sha256(self._digests).hexdigest()

    def begin(self, content_type: str, cache_control: str | None, metadata: Mapping[str, str]) -> None:
        options: dict[str, Any] = {"ContentType": content_type, "Metadata": dict(metadata)}
        if cache_control:
            options["CacheControl"] = cache_control
        if self._store.settings.encryption:
            options["ServerSideEncryption"] = self._store.settings.encryption
        with store_errors(self._thing):
            answer = self._store.control(
                lambda: self._store.s3.create_multipart_upload(
                    **self._where, ChecksumAlgorithm="SHA256", **options
                )
            )
        self._where |= {"UploadId": answer["UploadId"]}

    def send(self, data: bytes) -> None:
        digest, number = hashlib.sha256(data).digest(), len(self._parts) + 1
        checksum = base64.b64encode(digest).decode()
        self._store.bandwidth.wait_for(len(data))

        def put() -> str:
            answer = self._s3.upload_part(
                **self._where, PartNumber=number, Body=data, ChecksumSHA256=checksum
            )
            if "ETag" not in answer:
                # Python's HTTP client takes headers that end early for complete ones.
                raise CutAnswerError(error=f"the answer's headers about part {number} were cut off")
            return str(answer["ETag"])

        with store_errors(self._thing):
            etag = self._patiently(put)
        self._digests += digest
        self._parts.append({"PartNumber": number, "ETag": etag, "ChecksumSHA256": checksum})

    def complete(self) -> bool:
        """Make the parts an object; return False if the key exists, maybe by an earlier try of this call."""
        try:
            with store_errors(self._thing):
                self._patiently(
                    lambda: self._s3.complete_multipart_upload(
                        **self._where, MultipartUpload={"Parts": self._parts}, IfNoneMatch="*"
                    )
                )
        except (RefusedConditionError, MissingObjectError):
            return False
        return True

    def abort(self) -> None:
        """Let the store forget the parts; what it does not forget now, the bucket's lifecycle does."""
        with suppress(StoreError, MissingObjectError), store_errors(self._thing):
            self._store.control(lambda: self._store.s3.abort_multipart_upload(**self._where))

    def _patiently(self, request: Callable[[], _T]) -> _T:
        return Patience(self._timeouts_s, timed_out=timed_out).run(request, is_worth_a_retry)
