"""The store probe: what this server really does, found out before it is trusted (PRODUCT C4).

Some S3-compatible servers ignore the checksum that they are sent, or overwrite in spite of
`If-None-Match` (facts/backends.md, section 1). The answers decide how an upload is proven.
"""

import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from botocore.exceptions import BotoCoreError, ClientError

from photo_pipeline.core.aws_errors import http_status
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import store_table, utc_now
from photo_pipeline.core.errors import StoreError
from photo_pipeline.core.storage.checksum import md5_hex, sha256_hex
from photo_pipeline.core.storage.listing import list_objects
from photo_pipeline.core.storage.store import PhotoStore

# The probe costs 3 PUT-class requests; a server's nature changes rarely.
_VALID_FOR = timedelta(days=7)
# A younger object may belong to another process's probe, which would draw wrong conclusions without it.
_ABANDONED_AFTER = timedelta(minutes=10)
_BODY = b"photo_pipeline store probe"
_ANOTHER_ETAG = "0" * 32
_UNKNOWN_HEADER = (400, 501)  # how servers say that they do not know the condition
_WRONG_CHECKSUM = "A" * 43 + "="  # valid base64 of 32 zero bytes, not the SHA-256 of the body


_PROVEN = {
    "checksum": "by the SHA-256 that the server checks and reports",
    "etag": "by the MD5 that the server reports of what it holds, or by reading them back",
    "read_back": "by reading them back",
}
_LACKING = {
    "rejects_wrong_checksum": "stores bytes that do not have the checksum that came with them",
    "honours_if_none_match": "overwrites in spite of If-None-Match",
    "honours_if_match": "deletes in spite of If-Match",
}


@dataclass(frozen=True)
class StoreProbe:
    """What the server was seen to do."""

    rejects_wrong_checksum: bool
    reports_checksum: bool
    honours_if_none_match: bool
    # The MD5 was never sent, so that a server can only have it from the bytes themselves.
    reports_md5: bool = False
    # On DELETE; S3 has it since 2025, and few others (docs/s3-servers.md).
    honours_if_match: bool = False

    @property
    def verification(self) -> str:
        """How an object is proven: `checksum` or `etag` (one HEAD), or `read_back` (fetch and hash).

        `checksum` is SHA-256, by servers that refuse a wrong one; `etag` is MD5. An object that was sent in
        parts, and one whose MD5 is not known any more, is read back where `etag` is the answer.
        """
        if self.rejects_wrong_checksum and self.reports_checksum:
            return "checksum"
        return "etag" if self.reports_md5 else "read_back"

    @property
    def lacking(self) -> list[str]:
        """What the server was seen not to do, as the rest of a sentence about it each."""
        return [text for name, text in _LACKING.items() if not getattr(self, name)]

    @property
    def sentence(self) -> str:
        """How objects are proven, and what the server lacks, for people."""
        lacks = f" The server {'; '.join(self.lacking)} (docs/s3-servers.md)." if self.lacking else ""
        return f"Objects are proven {_PROVEN[self.verification]}.{lacks}"


def probe_store(database: Database, store: PhotoStore) -> StoreProbe:
    """Return the probe's answers, at most a week old; asks the server when there are none.

    Raises:
        StoreError: the server refuses even an ordinary PUT.
    """
    known = _remembered(database, store)
    if known is not None:
        return known
    probe = ask_store(store)
    _remember(database, store, probe)
    _sweep(store)
    return probe


def _sweep(store: PhotoStore) -> None:
    """Delete what probes that died have left behind; where that is not allowed, it stays."""
    with suppress(ClientError, BotoCoreError, StoreError):
        prefix = f"{store.settings.prefix}/.probe/"
        for each in list_objects(store, prefix):
            if each.last_modified <= datetime.now(UTC) - _ABANDONED_AFTER:
                store.delete(each.key)


def ask_store(store: PhotoStore) -> StoreProbe:
    """Return what the server does at this moment; nothing is remembered. Leaves no object behind.

    Raises:
        StoreError: the server refuses even an ordinary PUT.
    """
    key = f"{store.settings.prefix}/.probe/{uuid.uuid4().hex}"
    try:
        rejects = _is_refused(store, key, 400, ChecksumSHA256=_WRONG_CHECKSUM)
        if rejects:
            _put(store, key, ChecksumAlgorithm="SHA256")
        conditional = _is_refused(store, key, 412, IfNoneMatch="*")
        stored = store.head(key)
        deletes_blindly = not _refuses_to_delete_another(store, key)
        if not deletes_blindly:
            store.delete(key)
    except (ClientError, BotoCoreError) as error:
        raise StoreError(
            f"s3://{store.bucket}/{key}",
            cause=f"the store refuses an ordinary PUT ({error})",
            fix="grant s3:PutObject, s3:GetObject and s3:DeleteObject on the bucket",
        ) from error
    return StoreProbe(
        rejects_wrong_checksum=rejects,
        reports_checksum=stored is not None and stored.sha256 == sha256_hex(_BODY),
        honours_if_none_match=conditional,
        reports_md5=stored is not None and stored.etag == md5_hex(_BODY),
        honours_if_match=not deletes_blindly,
    )


def _put(store: PhotoStore, key: str, **conditions: Any) -> None:
    store.control(lambda: store.s3.put_object(Bucket=store.bucket, Key=key, Body=_BODY, **conditions))


def _is_refused(store: PhotoStore, key: str, status: int, **conditions: Any) -> bool:
    """Return whether the server refuses, with that HTTP status, a PUT that it ought to refuse.

    Other failures pass through.
    """

    def ask() -> bool:
        try:
            store.s3.put_object(Bucket=store.bucket, Key=key, Body=_BODY, **conditions)
        except ClientError as error:
            # The answer that was asked for; elsewhere a wrong checksum means damage on the way: tried again.
            if http_status(error) == status:
                return True
            raise
        return False

    return store.control(ask)


def _refuses_to_delete_another(store: PhotoStore, key: str) -> bool:
    """Return whether a DELETE that means another object (by its ETag) is refused; if not, ours is gone."""

    def ask() -> bool:
        try:
            store.s3.delete_object(Bucket=store.bucket, Key=key, IfMatch=f'"{_ANOTHER_ETAG}"')
        except ClientError as error:
            if http_status(error) == 412:
                return True
            if http_status(error) in _UNKNOWN_HEADER:
                store.delete(key)
                return False
            raise
        return False

    return store.control(ask)


def _remembered(database: Database, store: PhotoStore) -> StoreProbe | None:
    columns = store_table.c
    with database.read() as connection:
        row = connection.execute(
            sa.select(store_table).where(
                columns.endpoint == store.endpoint,
                columns.bucket == store.bucket,
                columns.probed_at > utc_now() - _VALID_FOR,
            )
        ).one_or_none()
    if row is None:
        return None
    return remembered_answers(row)


def remembered_answers(row: Any) -> StoreProbe:
    """Return the answers that a row of `pp_store` holds."""
    return StoreProbe(**{each.name: getattr(row, each.name) for each in fields(StoreProbe)})


def _remember(database: Database, store: PhotoStore, probe: StoreProbe) -> None:
    columns = store_table.c
    with database.write() as connection:
        connection.execute(
            sa.delete(store_table).where(columns.endpoint == store.endpoint, columns.bucket == store.bucket)
        )
        connection.execute(
            sa.insert(store_table).values(
                endpoint=store.endpoint,
                bucket=store.bucket,
                **asdict(probe),
                probed_at=utc_now(),
            )
        )
