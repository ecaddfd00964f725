"""Brings the state tables to the version that this code expects."""

from functools import cache

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import VERSION_TABLE
from photo_pipeline.core.errors import ConfigurationError

# Any constant will do, as long as every photo_pipeline process takes the same one.
_POSTGRES_LOCK = 7_405_061


def ensure_schema(database: Database) -> None:
    """Create or upgrade the state tables; concurrent callers wait for each other.

    Raises:
        ConfigurationError: the tables were made by a newer version of photo_pipeline.
    """
    if _current(database) == expected_version():
        return
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _POSTGRES_LOCK})
        _refuse_newer(connection)
        command.upgrade(_config(connection), "head")


def schema_exists(database: Database) -> bool:
    """Return whether the state tables are there at all; writes nothing."""
    return _current(database) is not None


def _current(database: Database) -> str | None:
    with database.read() as connection:
        return stored_version(connection)


def stored_version(connection: Connection) -> str | None:
    """Return the version that the state tables have, or None if there are none."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _refuse_newer(connection: Connection) -> None:
    revision = stored_version(connection)
    if revision is not None and revision not in known_versions():
        raise ConfigurationError(
            "the pp_* state tables",
            cause=f"they have version {revision}, which this photo_pipeline does not know",
            fix="use the newer photo_pipeline that made them",
        )


def known_versions() -> set[str]:
    """Return every version that this code can bring up to date."""
    return {script.revision for script in ScriptDirectory.from_config(_config(None)).walk_revisions()}


@cache
def expected_version() -> str | None:
    """Return the version that this code expects; the migrations' folder is read once, which takes 16 ms."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", "photo_pipeline:core/catalog/migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
