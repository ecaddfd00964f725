"""The configuration file: one YAML, validated as a whole before anything is opened.

One module per part of the file, `pipeline` for the whole; reading it is `file`, and the environment's share
is `environment`: nowhere else are they read. Secrets are never part of the file. The source mapping's models
live in `core.sources.mapping`; opening databases or stores does not belong here.

A new part is one module, one field of `PipelineConfig`, and its names below.
"""

from photo_pipeline.core.config.alerts import AlertingSettings, EmailSettings, SnsSettings
from photo_pipeline.core.config.cleanup import CleanupSettings
from photo_pipeline.core.config.dashboard import DashboardSettings
from photo_pipeline.core.config.database import DatabaseSettings, RewriteSettings
from photo_pipeline.core.config.delivery import CacheSettings, CdnSettings
from photo_pipeline.core.config.environment import database_url
from photo_pipeline.core.config.file import CONFIG_ENV, DEFAULT_CONFIG_NAME, find_config, load_config
from photo_pipeline.core.config.images import (
    DEFAULT_VARIANTS,
    ImageSettings,
    VariantSettings,
    WatermarkSettings,
)
from photo_pipeline.core.config.inventory import BatchSettings, InventorySettings
from photo_pipeline.core.config.limits import Limits, PlanLimits
from photo_pipeline.core.config.orphans import OrphanSettings
from photo_pipeline.core.config.pipeline import PipelineConfig
from photo_pipeline.core.config.provision import ProvisionSettings
from photo_pipeline.core.config.quality import QualitySettings
from photo_pipeline.core.config.size import SizeBytes, parse_size
from photo_pipeline.core.config.state import StateSettings
from photo_pipeline.core.config.store import StoreSettings, UploadSettings
from photo_pipeline.core.config.validation import ValidationSettings
from photo_pipeline.core.config.workers import WorkerSettings

__all__ = [
    "CONFIG_ENV",
    "DEFAULT_CONFIG_NAME",
    "DEFAULT_VARIANTS",
    "AlertingSettings",
    "BatchSettings",
    "CacheSettings",
    "CdnSettings",
    "CleanupSettings",
    "DashboardSettings",
    "DatabaseSettings",
    "EmailSettings",
    "ImageSettings",
    "InventorySettings",
    "Limits",
    "OrphanSettings",
    "PipelineConfig",
    "PlanLimits",
    "ProvisionSettings",
    "QualitySettings",
    "RewriteSettings",
    "SizeBytes",
    "SnsSettings",
    "StateSettings",
    "StoreSettings",
    "UploadSettings",
    "ValidationSettings",
    "VariantSettings",
    "WatermarkSettings",
    "WorkerSettings",
    "database_url",
    "find_config",
    "load_config",
    "parse_size",
]
