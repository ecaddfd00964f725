"""The configuration as sensors read it: what is missing or wrong is a reason to skip, and no failed tick."""

import dagster as dg

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.resources.settings import PipelineSettings


def configured(settings: PipelineSettings, *, else_say: str = "") -> PipelineConfig | dg.SkipReason:
    """Return the configuration, or why there is none: a fresh installation, before its file is written.

    Args:
        settings: Where the file is.
        else_say: What the reason begins with.
    """
    try:
        return settings.load()
    except ConfigurationError as error:
        return dg.SkipReason(f"{else_say}{error}")
