"""The pool of image worker processes as a Dagster resource."""

import dagster as dg

from photo_pipeline.core.imaging.pool import ImageWorkers
from photo_pipeline.core.project import open_workers
from photo_pipeline.resources.settings import PipelineSettings


class ImageWorkersResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Processes that make variants, each photo within its limits of time and memory."""

    settings: dg.ResourceDependency[PipelineSettings]

    def open(self) -> ImageWorkers:
        """Return a new pool, to be used as a context manager."""
        return open_workers(self.settings.load())
