"""One installation, opened: its configuration, database, store, CDN and worker pool.

For faces that run whole operations by themselves (the CLI, the demo). Dagster opens the same parts as
resources. Parts that an operation does not need are not opened.
"""

import os
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.config import PipelineConfig, database_url, load_config
from photo_pipeline.core.cost.meter import Meter
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.storage.store import PhotoStore

if TYPE_CHECKING:  # What few operations need, and takes a while to load, is loaded when it is.
    from photo_pipeline.core.catalog.scratch import ScratchDatabase
    from photo_pipeline.core.imaging.pool import ImageWorkers


class Project:
    """An opened installation; use it as a context manager."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config

    @classmethod
    def load(cls, path: Path, *, needs_cdn: bool = True, needs_sources: bool = True) -> Self:
        """Return the project that the configuration file at `path` declares; needs are as for `load_config`.

        Raises:
            ConfigurationError: the file does not validate.
        """
        return cls(load_config(path, needs_cdn=needs_cdn, needs_sources=needs_sources))

    @cached_property
    def database(self) -> Database:
        """The application's database.

        Raises:
            ConfigurationError: its URL is missing or wrong, or the login is refused.
            DatabaseError: it does not answer.
        """
        return open_database(self.config)

    @cached_property
    def store(self) -> PhotoStore:
        """The object store.

        Raises:
            ConfigurationError: no credentials, refused credentials, or no such bucket.
            StoreError: it does not answer.
        """
        return PhotoStore.open(self.config.store, meter=self.meter)

    @cached_property
    def cdn(self) -> Cdn:
        """The delivery side."""
        return Cdn(self.config.cdn.base_url, meter=self.meter)

    @cached_property
    def meter(self) -> Meter:
        """Counts what the store and the CDN are asked for.

        Raises:
            ConfigurationError, DatabaseError: as `database`.
        """
        return Meter(self.database, tills=self.config.state.counted_dir)

    def workers(self) -> "ImageWorkers":
        """Return a new pool of image workers, to be used as a context manager."""
        return open_workers(self.config)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "meter" in self.__dict__:
            self.meter.close()
        if "database" in self.__dict__:
            self.database.close()
        if "cdn" in self.__dict__:
            self.cdn.close()


def open_database(config: PipelineConfig) -> Database:
    """Return the application's database, opened by the URL in the environment.

    Raises:
        ConfigurationError: its URL is missing or wrong, or the login is refused.
        DatabaseError: it does not answer.
    """
    return Database.open(database_url(config), name=f"the database in ${config.database.env}")


def open_scratch(config: PipelineConfig) -> "ScratchDatabase":
    """Return the application's database with temporary state tables, refusing every other write.

    Raises:
        ConfigurationError: as `open_database`; or the state tables are another version's.
        DatabaseError: it does not answer.
    """
    from photo_pipeline.core.catalog.scratch import ScratchDatabase  # Alembic: 0.2 s

    return ScratchDatabase.open_scratch(database_url(config), name=f"the database in ${config.database.env}")


def worker_count(config: PipelineConfig) -> int:
    """Return how many image worker processes the configuration asks for: one per core unless it says."""
    return config.workers.processes or len(os.sched_getaffinity(0))


def open_workers(config: PipelineConfig) -> "ImageWorkers":
    """Return a new pool of image workers within the configured limits."""
    from photo_pipeline.core.imaging.pool import ImageWorkers  # numpy and the encoders: 0.3 s

    settings = config.workers
    return ImageWorkers(
        worker_count(config), timeout_s=settings.timeout_s, memory_bytes=settings.memory_bytes
    )
