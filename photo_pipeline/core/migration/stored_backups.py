"""Reads every backup file of a folder or of the bucket, as a restore needs them."""

from typing import Any

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration.backup import local_backups
from photo_pipeline.core.migration.backup_file import BackupFile, decode, is_backup_name
from photo_pipeline.core.storage.store import PhotoStore


def read_local_backups(config: PipelineConfig, folder: Any = None) -> list[BackupFile]:
    """Return the content of every backup file in the folder (`state.backup_dir` unless another is given).

    Raises:
        ConfigurationError: there is none, or one is damaged; the message names it.
    """
    where = folder or config.state.backup_dir
    paths = local_backups(where)
    if not paths:
        raise _no_backup(str(where))
    return [decode(str(path), path.read_bytes()) for path in paths]


def read_bucket_backups(config: PipelineConfig, store: PhotoStore) -> list[BackupFile]:
    """Return the content of every backup file in the bucket.

    Raises:
        ConfigurationError: there is none, or one is damaged; the message names it.
        StoreError: the store cannot be asked.
    """
    prefix = f"{config.store.backups_prefix}/"
    found = []
    for key, size in store.list(prefix):
        if is_backup_name(key):
            data = store.read(key, size=size)
            found.append(decode(f"s3://{store.bucket}/{key}", data or b""))
    if not found:
        raise _no_backup(f"s3://{store.bucket}/{prefix}")
    return found


def _no_backup(where: str) -> ConfigurationError:
    return ConfigurationError(
        where,
        cause="there is no backup file",
        fix="name the folder with --from, or take the copies in the bucket with --from-bucket",
    )
