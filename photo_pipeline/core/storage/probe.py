"""The store probe: what this server really does, found out before it is trusted (PRODUCT C4).

Some S3-compatible servers ignore the checksum that they are sent, or overwrite in spite of
`If-None-Match` (facts/backends.md, section 1). The answers decide how an upload is proven.
"""

import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from botocore.exceptions import BotoCoreError, ClientError

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import store_table, utc_now
from photo_pipeline.core.errors import StoreError
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.store import PhotoStore

# The probe costs 4 PUT-class requests; a server's nature changes rarely.
_VALID_FOR = timedelta(days=7)
# A younger object may belong to another process's probe, which would draw wrong conclusions without it.
_ABANDONED_AFTER = timedelta(minutes=10)
_BODY = b"photo_pipeline store probe"
_WRONG_CHECKSUM = "A" * 43 + "="  # valid base64 of 32 zero bytes, not the SHA-256 of the body


@dataclass(frozen=True)
class StoreProbe:
    """What the server was seen to do."""

    rejects_wrong_checksum: bool
    reports_checksum: bool
    honours_if_none_match: bool

    @property
    def verification(self) -> str:
        """How an object is proven: `checksum` (one HEAD) or `read_back` (fetch and hash)."""
        trusted = self.rejects_wrong_checksum and self.reports_checksum
        return "checksum" if trusted else "read_back"


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
        page = store.control(lambda: store.s3.list_objects_v2(Bucket=store.bucket, Prefix=prefix))
        for each in page.get("Contents", ()):
            if each["LastModified"] <= datetime.now(UTC) - _ABANDONED_AFTER:
                store.delete(each["Key"])


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
        store.delete(key)
    except (ClientError, BotoCoreError) as error:
        raise StoreError(
            f"s3://{store.bucket}/{key}",
            cause=f"the store refuses an ordinary PUT ({error})",
            fix="grant s3:PutObject, s3:GetObject and s3:DeleteObject on the bucket",
        ) from error
    reports = stored is not None and stored.sha256 == sha256_hex(_BODY)
    return StoreProbe(rejects, reports, conditional)


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
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == status:
                return True
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
    return StoreProbe(row.rejects_wrong_checksum, row.reports_checksum, row.honours_if_none_match)


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
                rejects_wrong_checksum=probe.rejects_wrong_checksum,
                reports_checksum=probe.reports_checksum,
                honours_if_none_match=probe.honours_if_none_match,
                probed_at=utc_now(),
            )
        )
