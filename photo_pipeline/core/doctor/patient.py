"""The installation under examination: its parts, opened when a check first asks for them.

Everything that is written (small probe objects under `.doctor/`) is removed at the end. The database is only
written to in transactions that are undone; but requests are counted in it, where that is possible.
"""

import uuid
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from photo_pipeline.core.aws_session import aws_session
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.config import PipelineConfig, StoreSettings, find_config, load_config
from photo_pipeline.core.cost.lenient import LenientMeter
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.project import open_database
from photo_pipeline.core.storage.clients import control_client

PROBE = b"photo_pipeline doctor"


class Patient:
    """One installation; use it as a context manager."""

    def __init__(self, config_path: Path | None = None) -> None:
        self._config_path = config_path
        self._written: dict[str, str | None] = {}

    @cached_property
    def config(self) -> PipelineConfig:
        """The configuration.

        Raises:
            ConfigurationError: there is no file, or it does not validate.
        """
        return load_config(find_config(self._config_path))

    @cached_property
    def session(self) -> boto3.Session:
        """The AWS session of the environment."""
        return aws_session(self.config.store.region)

    @cached_property
    def s3(self) -> Any:
        """A client of the store, which nothing was asked yet."""
        # Two tries of at most 11 s: a server that does not answer is reported within half a minute.
        return control_client(self.session, self.config.store, self.meter, tries=2)

    @cached_property
    def meter(self) -> LenientMeter:
        """Counts the examination's own requests."""
        return LenientMeter(lambda: open_database(self.config))

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.config.store.bucket

    @cached_property
    def database(self) -> Database:
        """The application's database.

        Raises:
            ConfigurationError: its URL is missing or wrong, or the login is refused.
            DatabaseError: it does not answer.
        """
        return open_database(self.config)

    @cached_property
    def cdn(self) -> Cdn:
        """The delivery side."""
        return Cdn(self.config.cdn.base_url, meter=self.meter)

    @cached_property
    def probe_key(self) -> str:
        """Key of the object by which the permissions are tried."""
        return self.new_key(self.config.store.prefix)

    def new_key(self, prefix: str, extension: str = "") -> str:
        """Return a key that nobody else has."""
        return f"{prefix}/.doctor/{uuid.uuid4().hex}{extension}"

    def put(self, key: str, body: bytes = PROBE, **attributes: str) -> None:
        """Store a probe object as uploads do: with a checksum and the configured encryption.

        Raises:
            ClientError: the store refuses it.
            BotoCoreError: the store does not answer.
        """
        encryption = {"ServerSideEncryption": e} if (e := self.config.store.encryption) else {}
        self._written[key] = None
        answer = self.s3.put_object(
            Bucket=self.bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256", **encryption, **attributes
        )
        self._written[key] = answer.get("VersionId")

    def remove(self, key: str) -> None:
        """Delete a probe object, and as far as it is allowed the versions that it leaves.

        Raises:
            ClientError: the store refuses it.
            BotoCoreError: the store does not answer.
        """
        answer = self.s3.delete_object(Bucket=self.bucket, Key=key)
        version = self._written.pop(key, None)
        for each in (version, answer.get("VersionId")):
            if each is not None:
                with suppress(ClientError, BotoCoreError):
                    self.s3.delete_object(Bucket=self.bucket, Key=key, VersionId=each)

    def forget_versions(self, prefix: str) -> None:
        """Remove what deleted objects below the prefix leave in a bucket with versions, as far as allowed."""
        with suppress(ClientError, BotoCoreError):
            answer = self.s3.list_object_versions(Bucket=self.bucket, Prefix=prefix)
            # The versions first: without its marker a deleted object would be back.
            for each in (*answer.get("Versions", ()), *answer.get("DeleteMarkers", ())):
                if "Size" not in each or not each["IsLatest"]:
                    self.s3.delete_object(Bucket=self.bucket, Key=each["Key"], VersionId=each["VersionId"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in list(self._written):
            with suppress(ClientError, BotoCoreError):
                self.remove(key)
        if "meter" in self.__dict__:
            self.meter.close()
        if "database" in self.__dict__:
            self.database.close()
        if "cdn" in self.__dict__:
            self.cdn.close()


def is_aws(store: StoreSettings) -> bool:
    """Return whether the store is AWS's own S3, and not a compatible server."""
    return not store.endpoint_url or ".amazonaws.com" in store.endpoint_url
