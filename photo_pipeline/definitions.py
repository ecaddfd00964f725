"""Everything that Dagster knows of photo_pipeline: a table of contents. Each list is beside what it lists."""

import dagster as dg

from photo_pipeline.assets import ASSETS
from photo_pipeline.checks import CHECKS
from photo_pipeline.jobs import JOBS
from photo_pipeline.resources.cdn import CdnResource
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.image_workers import ImageWorkersResource
from photo_pipeline.resources.photo_store import PhotoStoreResource
from photo_pipeline.resources.settings import PipelineSettings
from photo_pipeline.schedules import SCHEDULES
from photo_pipeline.sensors import SENSORS

settings = PipelineSettings()

defs = dg.Definitions(
    assets=ASSETS,
    asset_checks=CHECKS,
    jobs=JOBS,
    schedules=SCHEDULES,
    sensors=SENSORS,
    resources={
        "settings": settings,
        "database": ApplicationDatabase(settings=settings),
        "photo_store": PhotoStoreResource(settings=settings),
        "cdn": CdnResource(settings=settings),
        "image_workers": ImageWorkersResource(settings=settings),
    },
    # Batch work runs in its own process pool; a process per step would cost 1.3 to 1.6 s each (facts A3).
    executor=dg.in_process_executor,
)
