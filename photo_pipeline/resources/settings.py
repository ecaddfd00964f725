"""The configuration file as a Dagster resource; every other resource asks it."""

import dagster as dg
from pydantic import Field

from photo_pipeline.core.config import PipelineConfig, find_config, load_config


class PipelineSettings(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where the configuration file is."""

    config_path: str = Field(
        default="",
        description="Path of photo_pipeline.yaml; empty: $PHOTO_PIPELINE_CONFIG, else ./photo_pipeline.yaml.",
    )

    def load(self) -> PipelineConfig:
        """Return the validated configuration, read anew so that edits count from the next run on.

        Raises:
            ConfigurationError: there is no such file, or it does not validate.
        """
        return load_config(find_config(self.config_path or None))

    def load_before_delivery(self) -> PipelineConfig:
        """Return the configuration, whose CDN URL may be empty, since the CDN may be yet to come.

        Raises:
            ConfigurationError: there is no such file, or it does not validate.
        """
        return load_config(find_config(self.config_path or None), needs_cdn=False)
