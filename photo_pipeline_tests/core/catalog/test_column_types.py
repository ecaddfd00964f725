"""What fits a declared column type, as both databases reflect it."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from photo_pipeline.core.catalog.column_types import misfit
from photo_pipeline.core.catalog.database import Database
from photo_pipeline_tests.postgres import PostgresServer

COLUMNS = "s VARCHAR(5), t TEXT, i SMALLINT, n NUMERIC(4,2), b BOOLEAN, j JSON, r TEXT NOT NULL"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    url = f"sqlite:///{tmp_path / 'app.db'}"
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.new_database()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE TABLE things ({COLUMNS})"))
    engine.dispose()
    return Database.open(url)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("s", "12345", None),
        ("s", "123456", "6 characters and column 's' takes 5; widen the column"),
        ("s", "ééééé", None),
        ("t", "x" * 100_000, None),
        ("i", 3, None),
        ("i", "a", "the new value is text and the column was declared SMALLINT"),
        ("i", "12", None),
        ("n", 99.5, None),
        ("n", 100, "more than 2 digits before the point"),
        ("b", 1, None),
        ("b", 2, "neither true nor false"),
        ("j", '{"a": 1}', None),
        ("j", "{", "the new value is not JSON"),
        ("s", None, None),
        ("r", None, "the column does not take NULL"),
    ],
)
def test_a_value_is_held_against_the_declaration(
    database: Database, column: str, value: Any, reason: str | None
) -> None:
    found = misfit(database.table("things").columns[column], value, is_sqlite=database.is_sqlite)
    assert (found is None) if reason is None else (found and reason in found)


def test_whole_numbers_have_the_size_of_their_type_on_postgresql() -> None:
    column = sa.Column("i", sa.SmallInteger)
    assert misfit(column, 32_767, is_sqlite=False) is None
    assert "does not fit into 16 bits" in str(misfit(column, 32_768, is_sqlite=False))
    assert misfit(column, 32_768, is_sqlite=True) is None  # SQLite's hold 64 bits, whatever is declared
    assert "is not one of a, b" in str(misfit(sa.Column("e", sa.Enum("a", "b")), "c", is_sqlite=False))
