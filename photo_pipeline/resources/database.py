"""The application's database as a Dagster resource."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.project import open_database
from photo_pipeline.resources.settings import PipelineSettings


class ApplicationDatabase(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The database with the application's rows and the pp_* state tables; its URL is in the environment."""

    settings: dg.ResourceDependency[PipelineSettings]

    @contextmanager
    def open(self) -> Iterator[Database]:
        """Give the opened database, and close it at the end.

        Raises:
            ConfigurationError: its URL is missing or wrong, or the login is refused.
            DatabaseError: it does not answer.
        """
        database = open_database(self.settings.load())
        try:
            yield database
        finally:
            database.close()
