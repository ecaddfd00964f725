"""A database whose state tables are temporary: work on it leaves no trace in the real one.

The temporary `pp_*` tables hide the real ones by their names, so that the same code that a migration runs
can be run for a forecast. The connection itself is read-only: the database refuses any other write.
What the forecast is made of is `core.migration.plan`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError

from photo_pipeline.core.catalog.database import WRITES_NOTHING, Database
from photo_pipeline.core.catalog.faults import one_line
from photo_pipeline.core.catalog.schema import expected_version, stored_version
from photo_pipeline.core.catalog.tables import (
    VERSION_TABLE,
    batch_table,
    file_table,
    metadata,
    migration_table,
    object_table,
    photo_table,
    recipe_table,
    store_table,
)
from photo_pipeline.core.errors import ConfigurationError, DatabaseError

# What the next migration would take into account. Ledger, backups and the audit log are only written.
_CONTINUED = (
    file_table,
    photo_table,
    batch_table,
    migration_table,
    object_table,
    recipe_table,
    store_table,
)


class ScratchDatabase(Database):
    """The application's database, read-only, with temporary state tables that start as copies.

    All transactions share one connection, since temporary tables belong to theirs: not for several threads.
    """

    def __init__(self, engine: sa.Engine, *, name: str) -> None:
        super().__init__(engine, name=name)
        self._left_behind = _files_beside(engine)
        self._connection = engine.connect().execution_options(**{WRITES_NOTHING: True})

    @classmethod
    def open_scratch(cls, url: str, *, name: str) -> "ScratchDatabase":
        """Connect to `url` and make the temporary tables.

        Raises:
            ConfigurationError: a wrong URL, a refused login, or state tables of another version.
            DatabaseError: it does not answer, or temporary tables may not be made.
        """
        plain = Database.open(url, name=name, read_only=True)
        scratch = cls(plain.engine, name=name)
        try:
            scratch._prepare()
        except BaseException:
            scratch.close()
            raise
        return scratch

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give the connection in a transaction."""
        with self._transaction() as connection:
            yield connection

    @contextmanager
    def write(self, *, lock_timeout_s: int | None = None) -> Iterator[Connection]:
        """Give the connection in a transaction that can write to the temporary tables only."""
        with self._transaction() as connection:
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._explained():
            if self._connection.in_transaction():
                yield self._connection
            else:
                with self._connection.begin():
                    yield self._connection

    def close(self) -> None:
        """Close the connection, and the temporary tables with it."""
        self._connection.close()
        super().close()
        for path in self._left_behind:
            _remove_if_unused(path)

    def _prepare(self) -> None:
        with self.read() as connection:
            version = stored_version(connection)
            if version not in (None, expected_version()):
                raise ConfigurationError(
                    "the pp_* state tables",
                    cause=f"they have version {version}, and nothing may be written to bring them up to date",
                    fix="run `photo-pipeline status`, which does that, with the newest photo_pipeline",
                )
            schema = connection.dialect.default_schema_name
        with self.write() as connection:
            try:
                if not self.is_sqlite:
                    connection.exec_driver_sql("SET TRANSACTION READ WRITE")
                self._create(connection)
                if version is not None:
                    self._copy(connection, schema or "main")
            except ProgrammingError as error:
                raise DatabaseError(
                    self.name,
                    cause=f"temporary tables cannot be made ({one_line(error)})",
                    fix="grant the user TEMPORARY on the database",
                ) from error

    def _create(self, connection: Connection) -> None:
        temporary = sa.MetaData()
        for table in metadata.sorted_tables:
            copied = table.to_metadata(temporary)
            copied._prefixes = ["TEMPORARY"]
        sa.Table(VERSION_TABLE, temporary, sa.Column("version_num", sa.String(32)), prefixes=["TEMPORARY"])
        temporary.create_all(connection, checkfirst=False)
        connection.execute(sa.insert(temporary.tables[VERSION_TABLE]).values(version_num=expected_version()))

    def _copy(self, connection: Connection, schema: str) -> None:
        for table in _CONTINUED:
            real = table.to_metadata(sa.MetaData(), schema=schema)
            names = [column.name for column in table.columns]
            connection.execute(sa.insert(table).from_select(names, sa.select(real)))
        if not self.is_sqlite:
            # New rows are numbered after the copied ones.
            connection.exec_driver_sql(
                "SELECT setval(pg_get_serial_sequence('pg_temp.pp_photo', 'id'), "
                "(SELECT coalesce(max(id), 1) FROM pg_temp.pp_photo))"
            )


def _files_beside(engine: sa.Engine) -> list[Path]:
    """Return what is not there yet of the files that a reader makes beside a SQLite file in WAL mode."""
    if engine.dialect.name != "sqlite":
        return []
    path = Path(str(engine.url.database).removeprefix("file:"))
    return [] if Path(f"{path}-wal").exists() else [path]


def _remove_if_unused(path: Path) -> None:
    """Let SQLite itself remove an empty write-ahead log that only we have used.

    A read-only connection makes one but cannot remove it; the last ordinary one to leave does, and only then.
    """
    if not Path(f"{path}-wal").exists():
        return
    engine = sa.create_engine(make_url("sqlite://").set(database=str(path)))
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA schema_version")
    engine.dispose()
