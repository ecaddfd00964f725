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
    """How photos are grouped into partitions, and how the driver works through these."""

    size: int = Field(default=100, gt=0, le=10_000, description="Photo references per batch.")
    at_once: int = Field(
        default=2, gt=0, le=256, description="Batches that the sensor migration_driver lets run at once."
    )
    rescan: bool = Field(
        default=True,
        description="Whether that sensor also launches inventories, until one finds nothing left.",
    )
