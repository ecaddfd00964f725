"""What the processes that work on photos may take."""

from pydantic import Field

from photo_pipeline.core.config.base import Settings
from photo_pipeline.core.config.size import SizeBytes


class WorkerSettings(Settings):
    """Limits of the image worker processes, per photo."""

    processes: int | None = Field(default=None, gt=0, description="Worker processes; null: one per core.")
    timeout_s: float = Field(default=30, gt=0, description="Seconds before a photo's worker is killed.")
    memory_bytes: SizeBytes = Field(default=512 * 1024**2, description="Memory growth allowed per photo.")
    max_pixels: int = Field(
        default=100_000_000,
        gt=0,
        le=178_956_970,  # Pillow's own ceiling
        description="Photos with more pixels are refused from their header, before they are decoded.",
    )
