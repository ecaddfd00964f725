"""The CDN as a Dagster resource."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.resources.settings import PipelineSettings


class CdnResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The delivery side: what visitors' browsers get under the rewritten URLs."""

    settings: dg.ResourceDependency[PipelineSettings]

    @contextmanager
    def open(self) -> Iterator[Cdn]:
        """Give a client of the CDN, and close its connections at the end."""
        cdn = Cdn(self.settings.load().cdn.base_url)
        try:
            yield cdn
        finally:
            cdn.close()
