"""The configuration as a whole: its parts, and whether they fit together."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from photo_pipeline.core.config.alerts import AlertingSettings
from photo_pipeline.core.config.base import Settings
from photo_pipeline.core.config.cleanup import CleanupSettings
from photo_pipeline.core.config.dashboard import DashboardSettings
from photo_pipeline.core.config.database import DatabaseSettings, RewriteSettings
from photo_pipeline.core.config.delivery import CdnSettings
from photo_pipeline.core.config.images import DEFAULT_VARIANTS, ImageSettings, VariantSettings
from photo_pipeline.core.config.inventory import BatchSettings, InventorySettings
from photo_pipeline.core.config.limits import Limits
from photo_pipeline.core.config.orphans import OrphanSettings
from photo_pipeline.core.config.provision import ProvisionSettings
from photo_pipeline.core.config.quality import QualitySettings
from photo_pipeline.core.config.state import StateSettings
from photo_pipeline.core.config.store import StoreSettings, UploadSettings
from photo_pipeline.core.config.validation import ValidationSettings
from photo_pipeline.core.config.workers import WorkerSettings
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.sources.mapping import Root, Source
from photo_pipeline.core.sources.overlap import shared_column


class PipelineConfig(Settings):
    """The whole configuration, valid as a unit; paths are absolute after `load_config`."""

    version: Literal[1] = Field(description="Version of this file's format.")
    database: DatabaseSettings
    roots: tuple[Root, ...] = Field(min_length=1)
    sources: tuple[Source, ...] = Field(
        default=(), description="Where the database names photos; `mapping suggest` proposes them."
    )
    store: StoreSettings = StoreSettings()
    cdn: CdnSettings = CdnSettings()
    variants: Annotated[
        Mapping[str, Mapping[str, VariantSettings]], AfterValidator(lambda own: {**DEFAULT_VARIANTS, **own})
    ] = Field(default=DEFAULT_VARIANTS, description="Presets by name, beside the shipped ones.")
    images: Mapping[str, ImageSettings] = Field(
        default_factory=dict, description="How pixels are made, by preset; one left out has the defaults."
    )
    batches: BatchSettings = BatchSettings()
    inventory: InventorySettings = InventorySettings()
    workers: WorkerSettings = WorkerSettings()
    quality: QualitySettings = QualitySettings()
    upload: UploadSettings = UploadSettings()
    rewrite: RewriteSettings = RewriteSettings()
    validation: ValidationSettings = ValidationSettings()
    orphans: OrphanSettings = OrphanSettings()
    cleanup: CleanupSettings = CleanupSettings()
    limits: Limits | None = None
    alerts: AlertingSettings = AlertingSettings()
    dashboard: DashboardSettings = DashboardSettings()
    provision: ProvisionSettings = ProvisionSettings()
    state: StateSettings = StateSettings()

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        _require_unique("roots", [root.name for root in self.roots])
        _require_unique("sources", [source.name for source in self.sources])
        roots = {root.name for root in self.roots}
        unknown = sorted(self.images.keys() - self.variants.keys())
        if unknown:
            raise ValueError(f"images: preset {unknown[0]!r} is not among {sorted(self.variants)}")
        for source in self.sources:
            source.check_against(roots=roots, presets=self.variants)
        return self

    @model_validator(mode="after")
    def _no_cell_has_two_writers(self) -> Self:
        if found := shared_column(self.sources):
            one, other, column = found
            raise ValueError(
                f"sources {one.name!r} and {other.name!r} both write column {column!r} of table "
                f"{one.table!r}, and neither could be rolled back alone: make one source of them (it may "
                "have several fields), let one of them leave that column out, or tell their rows apart with "
                "`where`"
            )
        return self

    @model_validator(mode="after")
    def _what_expires_is_apart_from_what_stays(self) -> Self:
        lifecycle, store = self.provision.lifecycle, self.store
        kept = (store.prefix, store.originals_prefix, store.backups_prefix)
        for name in ("incoming_prefix", "documents_prefix"):
            expiring = getattr(lifecycle, name)
            for prefix in kept:
                if _overlap(expiring, prefix):
                    raise ValueError(
                        f"provision.lifecycle.{name} {expiring!r} and {prefix!r} must not contain each "
                        "other: what is below the one is deleted by age, what is below the other never"
                    )
        return self

    def image_settings(self, preset: str) -> ImageSettings:
        """Return how the preset's pixels are made; one that the file leaves out has the defaults."""
        return self.images.get(preset, ImageSettings())

    def root(self, name: str) -> Root:
        """Return the root called `name` (its existence was checked when the file was loaded)."""
        return next(root for root in self.roots if root.name == name)

    def source(self, name: str) -> Source:
        """Return the source called `name`.

        Raises:
            ConfigurationError: the file no longer has such a source, although the state tables do.
        """
        for source in self.sources:
            if source.name == name:
                return source
        raise ConfigurationError(
            f"source {name!r}",
            cause="the state tables hold photos of it but the configuration no longer names it",
            fix="put the source back, or roll its photos back first",
        )


def _require_unique(where: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: the name {twice[0]!r} is used twice")


def _overlap(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
