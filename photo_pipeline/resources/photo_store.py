"""The S3 bucket as a Dagster resource."""

import dagster as dg

from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.resources.settings import PipelineSettings


class PhotoStoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The bucket that receives the objects; credentials come from the standard AWS environment."""

    settings: dg.ResourceDependency[PipelineSettings]

    def open(self) -> PhotoStore:
        """Return the store, after checking that the bucket answers.

        Raises:
            ConfigurationError: no credentials, refused credentials, or no such bucket.
            StoreError: it does not answer.
        """
        return PhotoStore.open(self.settings.load().store)
