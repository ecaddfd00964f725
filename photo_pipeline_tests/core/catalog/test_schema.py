"""The state tables' versions, beside whatever else the database holds."""

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.command import downgrade, upgrade
from alembic.runtime.migration import MigrationContext

from photo_pipeline.core.catalog import tables
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import _config, ensure_schema, schema_exists
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.meter import Meter
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline_tests import quicker
from photo_pipeline_tests.postgres import PostgresServer


@pytest.fixture(autouse=True)
def alembic_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    quicker.real_migrations(monkeypatch)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres").new_database())
    (tmp_path / "app.db").touch()
    return f"sqlite:///{tmp_path / 'app.db'}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    yield opened
    opened.close()


def names(database: Database) -> set[str]:
    return set(sa.inspect(database.engine).get_table_names())


def test_the_migrations_make_exactly_the_declared_tables(database: Database) -> None:
    assert not schema_exists(database)
    assert names(database) == set()
    ensure_schema(database)
    assert schema_exists(database)
    with database.read() as connection:
        options = {"version_table": tables.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []
    assert names(database) == {*tables.metadata.tables, "pp_alembic_version"}
    assert all(name.startswith("pp_") for name in names(database))


def test_a_second_time_changes_nothing(database: Database) -> None:
    ensure_schema(database)
    with database.write() as connection:
        connection.execute(
            sa.insert(tables.migration_table).values(
                name="default", status="pending", updated_at=tables.utc_now()
            )
        )
    ensure_schema(database)
    with database.read() as connection:
        assert connection.execute(sa.select(tables.migration_table.c.name)).all() == [("default",)]


def test_references_and_ledger_of_an_earlier_version_are_carried_over(database: Database) -> None:
    with database.write() as connection:
        upgrade(_config(connection), "0003")
        for statement in OF_AN_EARLIER_VERSION:
            connection.exec_driver_sql(statement)
    ensure_schema(database)
    with database.read() as connection:
        photos = connection.exec_driver_sql(
            'SELECT field, "column", locator, variant FROM pp_photo ORDER BY id'
        )
        assert photos.all() == [("url", "url", None, None), (None, None, None, None)]
        links = connection.exec_driver_sql("SELECT rewrite_id, photo_id FROM pp_rewrite_photo")
        assert links.all() == [(1, 1)], "what was written back concerns no photo"
        assert connection.exec_driver_sql("SELECT control FROM pp_migration").all() == [("running",)]


OF_AN_EARLIER_VERSION = (
    "INSERT INTO pp_migration (name, status, updated_at) VALUES ('default', 'running', '2026-01-01')",
    *(
        "INSERT INTO pp_photo (id, reference_id, source, field, class, state, scan, updated_at) "
        f"VALUES ({values}, 'matched', 'migrated', 's', '2026-01-01')"
        for values in ("1, 'a', 'photos', 'url'", "2, 'b', NULL, NULL")
    ),
    *(
        "INSERT INTO pp_rewrite "
        '(id, batch, photo_id, source, row_id, row_key, "column", run, outcome) '
        f"VALUES ({values}, 'r', 'applied')"
        for values in (
            "1, 'b', 1, 'photos', 'i', '[1]', 'url'",
            "2, 'b', NULL, 'photos', 'i', '[1]', 'width'",
        )
    ),
)


def test_what_an_earlier_version_counted_goes_on_being_counted(database: Database) -> None:
    with database.write() as connection:
        upgrade(_config(connection), "0013")
        connection.exec_driver_sql(
            "INSERT INTO pp_usage (month, kind, amount, updated_at) "
            "VALUES ('2026-11', 'invalidation_paths', 7, '2026-11-02')"
        )
    # Before the upgrade requests are kept in memory, and not written to a table of other columns.
    meter = Meter(database, clock=lambda: datetime(2026, 11, 3, tzinfo=UTC))
    meter.count(Unit.GETS)
    ensure_schema(database)
    meter.count(Unit.INVALIDATION_PATHS, 2)
    meter.close()
    with database.write() as connection:
        assert ledger.used_in(connection, "2026-11") == {Unit.INVALIDATION_PATHS: 9, Unit.GETS: 1}
        downgrade(_config(connection), "0013")
        kept = connection.exec_driver_sql("SELECT kind, amount FROM pp_usage WHERE kind LIKE 'inv%%'")
        assert kept.all() == [("invalidation_paths", 9)]


UPGRADE = """
import sys
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema
sys.stdin.readline()
ensure_schema(Database.open(sys.argv[1]))
"""


def test_processes_that_upgrade_at_once_all_succeed(url: str, database: Database) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert set(tables.metadata.tables) < names(database)


def test_tables_of_a_newer_version_are_refused_and_left(database: Database) -> None:
    ensure_schema(database)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE pp_alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="version 9999, which this photo_pipeline does not know"):
        ensure_schema(database)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM pp_alembic_version").all() == [("9999",)]


def test_the_applications_own_alembic_version_is_untouched(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('app-7')")
    ensure_schema(database)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").all() == [("app-7",)]


def test_the_record_of_migrations_that_other_tests_use_makes_the_same_tables(
    database: Database, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer, tmp_path: Path
) -> None:
    quicker.record_migrations(monkeypatch)
    made = []
    for number in range(2):
        if database.is_sqlite:
            path = tmp_path / f"{number}.db"
            path.touch()
            url = f"sqlite:///{path}"
        else:
            url = postgres.new_database()
        opened = Database.open(url)
        ensure_schema(opened)
        made.append(described(opened))
        opened.close()
    ensure_schema(database)
    assert made[0] == made[1] == described(database)


def described(database: Database) -> list[str]:
    with database.read() as connection:
        version = connection.exec_driver_sql("SELECT version_num FROM pp_alembic_version").all()
        inspector = sa.inspect(connection)
        parts = [
            (name, inspect(name))
            for name in sorted(inspector.get_table_names())
            for inspect in (
                inspector.get_columns,
                inspector.get_pk_constraint,
                inspector.get_foreign_keys,
                inspector.get_unique_constraints,
                inspector.get_check_constraints,
                inspector.get_indexes,
            )
        ]
        rows = [
            (name, connection.exec_driver_sql(f"SELECT COUNT(*) FROM {name}").scalar())
            for name in names(database)
        ]
    return [repr(version), *map(_spelled, parts), *sorted(map(repr, rows))]


def _spelled(part: object) -> str:
    """Spell a part so that it is the same for the same tables; a partial index's condition is an object."""
    return re.sub(r"<(\S+) object at \w+>", r"<\1>", repr(part))
