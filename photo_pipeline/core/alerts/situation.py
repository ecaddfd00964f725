"""What conditions look at: one installation at one moment."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from photo_pipeline.core.alerts.recent import RecentPhotos
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost.guard import CostGuard, CostStatus


@dataclass(frozen=True)
class Situation:
    """One installation with its state tables, at one moment (UTC)."""

    database: Database
    config: PipelineConfig
    now: datetime

    @cached_property
    def guard(self) -> CostGuard:
        """The cost guard, by the same clock."""
        return CostGuard.of(self.database, self.config, clock=lambda: self.now)

    @cached_property
    def recent_photos(self) -> RecentPhotos:
        """The last photos that were worked on."""
        with self.database.read() as connection:
            return RecentPhotos.read(connection, self.config.alerts.last_photos, self.now)

    @cached_property
    def cost(self) -> CostStatus:
        """Where spending stands."""
        return self.guard.status()
