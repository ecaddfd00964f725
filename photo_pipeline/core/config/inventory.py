"""What the inventory accepts, and how it groups photos."""

from pydantic import Field

from photo_pipeline.core.config.base import Settings
from photo_pipeline.core.config.size import SizeBytes


class InventorySettings(Settings):
    """Limits of what the inventory accepts."""

    max_file_bytes: SizeBytes = Field(
        default=50 * 1024**2, description="Larger files are classed too_large, e.g. 50 MB."
    )


class BatchSettings(Settings):
    """How photos are grouped into partitions."""

    size: int = Field(default=100, gt=0, le=10_000, description="Photo references per batch.")
