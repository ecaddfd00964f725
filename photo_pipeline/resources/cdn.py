"""The CDN as a Dagster resource."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import dagster as dg

from photo_pipeline.core.cost.meter import Meter
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.project import open_database
from photo_pipeline.resources.settings import PipelineSettings


class CdnResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The delivery side: what visitors' browsers get under the rewritten URLs."""

    settings: dg.ResourceDependency[PipelineSettings]

    @contextmanager
    def open(self) -> Iterator[Cdn]:
        """Give a client of the CDN, whose requests are counted, and close its connections at the end."""
        config = self.settings.load()
        with (
            closing(open_database(config)) as database,
            closing(Meter(database, tills=config.state.counted_dir)) as meter,
            closing(Cdn(config.cdn.base_url, meter=meter)) as cdn,
        ):
            yield cdn
