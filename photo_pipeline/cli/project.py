"""The project that a command works on, by the option --config."""

import os
from pathlib import Path

from photo_pipeline.core.catalog.schema import ensure_schema, schema_exists
from photo_pipeline.core.config import (
    CONFIG_ENV,
    DEFAULT_CONFIG_NAME,
    PipelineConfig,
    find_config,
    load_config,
)
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.project import Project


class _Chosen:
    config: Path | None = None


def choose(config: Path | None) -> None:
    """Remember the option, which stands before the command."""
    _Chosen.config = config


def chosen_config() -> Path | None:
    """Return the path that the option gave, or None."""
    return _Chosen.config


def open_project() -> Project:
    """Return the project of the chosen configuration file.

    Raises:
        ConfigurationError: there is no such file, or it does not validate.
    """
    return Project.load(find_config(_Chosen.config))


def open_unmapped_project() -> Project:
    """Return the project as `open_project` does; its sources may be yet to be written, and its CDN to come.

    Raises:
        ConfigurationError: there is no such file, or it does not validate.
    """
    return Project.load(find_config(_Chosen.config), needs_cdn=False, needs_sources=False)


def open_config() -> PipelineConfig:
    """Return the chosen configuration alone; its CDN's URL may be empty, since the CDN may be yet to come.

    Raises:
        ConfigurationError: there is no such file, or it does not validate.
    """
    return load_config(find_config(_Chosen.config), needs_cdn=False)


def config_if_any() -> PipelineConfig | None:
    """Return the configuration as `open_config` does; None if none was named and there is none here.

    Raises:
        ConfigurationError: the named file is not there, or the file does not validate.
    """
    named = _Chosen.config is not None or CONFIG_ENV in os.environ
    return open_config() if named or Path(DEFAULT_CONFIG_NAME).is_file() else None


def require_state(project: Project) -> None:
    """Check that there is something to work on, and bring an earlier version's state tables up to date.

    Raises:
        ConfigurationError: nothing has been migrated yet.
    """
    if not schema_exists(project.database):
        raise ConfigurationError(
            "the migration", cause="nothing has been migrated yet", fix="run `photo-pipeline migrate` first"
        )
    # An earlier version may have migrated; taking it back must not need an inventory first.
    ensure_schema(project.database)
