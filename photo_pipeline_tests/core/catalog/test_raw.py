"""Raw values survive the ledger and the way through a table without a changed byte, whatever the type."""

from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline_tests.examples import examples
from photo_pipeline_tests.postgres import PostgresServer

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30)
SQLITE_VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    TEXT,
    TEXT.map(lambda text: text.replace("\0", "")),
    st.binary(max_size=30),
)


@given(SQLITE_VALUES)
def test_the_ledgers_text_gives_the_same_value_back(value: RawValue) -> None:
    back = raw.decode(*raw.encode(value))
    assert (type(back), repr(back)) == (type(value), repr(value))


@given(st.lists(SQLITE_VALUES, min_size=1, max_size=4))
def test_a_row_key_gives_the_same_values_back(values: list[RawValue]) -> None:
    back = raw.decode_key(raw.encode_key(values))
    assert [(type(v), repr(v)) for v in back] == [(type(v), repr(v)) for v in values]


@given(st.lists(SQLITE_VALUES, min_size=2, max_size=2, unique_by=lambda v: (type(v), repr(v))))
def test_different_values_have_different_keys_and_ledger_texts(values: list[RawValue]) -> None:
    one, other = values
    assert raw.encode(one) != raw.encode(other)
    assert raw.encode_key([one]) != raw.encode_key([other])


def swap(database: Database, table: sa.Table, before: RawValue, after: RawValue) -> int:
    """Compare and swap column `v` of row 1 as the rewrite does; return how many rows matched."""
    column, is_sqlite = table.c.v, database.is_sqlite
    statement = (
        sa.update(table)
        .where(
            raw.key_equals(table.c.id, 1 if is_sqlite else "1", is_sqlite=is_sqlite),
            raw.equals(column, before, is_sqlite=is_sqlite),
        )
        .values({column: raw.write_expression(column, after, is_sqlite=is_sqlite)})
    )
    with database.write() as connection:
        return connection.execute(statement).rowcount


def value_of(database: Database, table: sa.Table) -> RawValue:
    expression = raw.read_expression(table.c.v, is_sqlite=database.is_sqlite)
    with database.read() as connection:
        return connection.execute(sa.select(expression)).scalar_one()


DECLARED = ["TEXT", "INTEGER", "REAL", "NUMERIC", "BLOB", "", "DATETIME", "BOOLEAN", "VARCHAR(10)", "JSON"]


@pytest.fixture(scope="module")
def sqlite_tables(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A database with one table for each way to declare a column."""
    path = tmp_path_factory.mktemp("raw") / "app.db"
    path.touch()
    database = Database.open(f"sqlite:///{path}")
    with database.write() as connection:
        for number, declared in enumerate(DECLARED):
            connection.exec_driver_sql(f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, v {declared})")
            connection.exec_driver_sql(f"INSERT INTO t{number} VALUES (1, NULL)")
    yield database
    database.close()


@examples(60, deadline=None)
@given(number=st.integers(0, len(DECLARED) - 1), value=SQLITE_VALUES, other=SQLITE_VALUES)
def test_any_sqlite_value_is_restored_with_its_storage_class(
    sqlite_tables: Database, number: int, value: RawValue, other: RawValue
) -> None:
    table = sqlite_tables.table(f"t{number}")
    with sqlite_tables.write() as connection:
        connection.exec_driver_sql(f"UPDATE t{number} SET v = ?", (value,))

    def stored() -> Any:
        with sqlite_tables.read() as connection:
            return connection.exec_driver_sql(f"SELECT typeof(v), hex(v), quote(v) FROM t{number}").one()

    original, before = stored(), value_of(sqlite_tables, table)
    ledger = raw.encode(before)
    assert swap(sqlite_tables, table, before, other) == 1
    after = value_of(sqlite_tables, table)
    assert swap(sqlite_tables, table, after, raw.decode(*ledger)) == 1
    assert stored() == original


def test_a_number_and_its_text_are_different_sqlite_values(sqlite_tables: Database) -> None:
    table = sqlite_tables.table(f"t{DECLARED.index('')}")
    assert swap(sqlite_tables, table, value_of(sqlite_tables, table), 1) == 1
    assert swap(sqlite_tables, table, "1", "stolen") == 0
    assert swap(sqlite_tables, table, 1.0, "stolen") == 0
    assert swap(sqlite_tables, table, None, "stolen") == 0
    assert value_of(sqlite_tables, table) == 1


# PostgreSQL type to a value that its text form must carry exactly, and another to be swapped in.
POSTGRES = {
    "uuid": ("00000000-0000-4000-8000-00000000000A", "11111111-0000-4000-8000-000000000000"),
    "json": ('{"b": 1,  "a": [1, 2.50, null], "b": 2}', "{}"),
    "jsonb": ('{"b": 1, "a": [1, 2.50, "é\\"\\u0001"]}', "{}"),
    "numeric(30,10)": ("12345678901234567890.0123456789", "1"),
    "numeric": ("1.500", "NaN"),
    "timestamptz": ("2024-05-01 10:00:00.123456+05:30", "infinity"),
    "timestamp": ("2024-05-01 10:00:00.000001", "2024-05-01 10:00:00"),
    "date": ("0044-03-15 BC", "2024-02-29"),
    "interval": ("1 year -2 mons +3 days -04:05:06.789", "0"),
    "time with time zone": ("10:00:00+02", "11:00:00-03"),
    "bytea": ("\\x00ff27", "\\x"),
    "boolean": ("true", "false"),
    "integer": ("-2147483648", "0"),
    "bigint": ("9223372036854775807", "0"),
    "real": ("0.1", "-0"),
    "double precision": ("0.30000000000000004", "1e308"),
    "text[]": ('{a,"b,c","d\\"e",NULL,"NULL",""}', "{}"),
    "integer[][]": ("{{1,2},{3,4}}", "{}"),
    "varchar(12)": ("naïve ' \" \\ ", "x"),
    "char(8)": ("ab", "cd"),
    "text": ("line\nbreak\ttab  ", ""),
    "mood": ("so so", "happy"),
    '"Shop".size': ("L", "M"),
    "inet": ("192.168.0.1/24", "::1"),
    "int4range": ("[1,5)", "empty"),
    "bit varying": ("0101", ""),
}


@pytest.fixture(scope="module")
def postgres_database(postgres: PostgresServer) -> Any:
    """A database with types of its own."""
    database = Database.open(postgres.new_database())
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TYPE mood AS ENUM ('happy', 'so so')")
        connection.exec_driver_sql('CREATE SCHEMA "Shop"')
        connection.exec_driver_sql("CREATE TYPE \"Shop\".size AS ENUM ('M', 'L')")
    yield database
    database.close()


@pytest.mark.parametrize("declared", POSTGRES)
def test_any_postgres_type_is_restored_exactly(postgres_database: Database, declared: str) -> None:
    database, name = postgres_database, f"t{sorted(POSTGRES).index(declared)}"
    value, other = POSTGRES[declared]
    with database.write() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v {declared})")
        connection.execute(sa.text(f"INSERT INTO {name} VALUES (1, CAST(:v AS {declared}))"), {"v": value})

    def stored() -> Any:
        text = f"SELECT v::text, pg_column_size(v), encode(textsend(v::text), 'hex') FROM {name}"
        with database.read() as connection:
            return connection.exec_driver_sql(text).one()

    table = database.table(name)
    original, before = stored(), value_of(database, table)
    assert isinstance(before, str)
    ledger = raw.encode(before)
    assert swap(database, table, "no such value", other) == 0
    assert swap(database, table, before, other) == 1
    after = value_of(database, table)
    assert after != before
    assert swap(database, table, after, None) == 1
    assert swap(database, table, None, raw.decode(*ledger)) == 1
    assert stored() == original


def test_a_postgres_key_of_each_usual_type_finds_its_row(postgres_database: Database) -> None:
    keys = {
        "uuid": "gen_random_uuid()",
        "bigint": "7",
        "text": "'a''b'",
        "timestamptz": "now()",
        "boolean": "true",
    }
    for declared, value in keys.items():
        name = f"k_{declared}"
        with postgres_database.write() as connection:
            connection.exec_driver_sql(f"CREATE TABLE {name} (id {declared} PRIMARY KEY)")
            connection.exec_driver_sql(f"INSERT INTO {name} VALUES ({value})")
        column = postgres_database.table(name).c.id
        with postgres_database.read() as connection:
            key = connection.execute(sa.select(raw.read_expression(column, is_sqlite=False))).scalar_one()
            (again,) = raw.decode_key(raw.encode_key([key]))
            found = sa.select(sa.func.count()).where(raw.key_equals(column, again, is_sqlite=False))
            assert connection.execute(found).scalar_one() == 1
