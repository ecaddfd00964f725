"""The S3 bucket as a Dagster resource."""

import dagster as dg
from pydantic import PrivateAttr

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cost.meter import Meter
from photo_pipeline.core.project import open_database
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.resources.settings import PipelineSettings


class PhotoStoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The bucket that receives the objects; credentials come from the standard AWS environment."""

    settings: dg.ResourceDependency[PipelineSettings]

    # The request ledger is written through connections of their own, which live as long as the run.
    _opened: list[tuple[Meter, Database]] = PrivateAttr(default_factory=list)

    def open(self) -> PhotoStore:
        """Return the store, after checking that the bucket answers. Its requests are counted.

        Raises:
            ConfigurationError: no credentials, refused credentials, or no such bucket.
            StoreError: it does not answer.
        """
        config = self.settings.load()
        database = open_database(config)
        meter = Meter(database, tills=config.state.counted_dir)
        self._opened.append((meter, database))
        return PhotoStore.open(config.store, meter=meter)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Give back what was counted ahead, and close the connections."""
        while self._opened:
            meter, database = self._opened.pop()
            meter.close()
            database.close()
