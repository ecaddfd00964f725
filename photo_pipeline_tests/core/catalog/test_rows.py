"""Rows are read in pages of their key: none is lost or doubled, and no transaction stays open between."""

import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from photo_pipeline.core.catalog import rows
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.rows import read_rows
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.sources.mapping import Source
from photo_pipeline_tests.core.catalog.small_site import throwaway_folder
from photo_pipeline_tests.examples import examples
from photo_pipeline_tests.postgres import PostgresServer

DECLARED = ["TEXT", "INTEGER", "REAL", "NUMERIC", "BLOB", "", "TEXT COLLATE NOCASE", "TEXT COLLATE RTRIM"]
# Few different values, so that keys are often equal, or equal but spelled differently.
KEYS = st.one_of(
    st.none(),
    st.integers(-2, 12),
    st.sampled_from([1.0, 1.5, -0.0, 2.0**63, 2**63 - 1, float("inf")]),
    st.sampled_from(["", "a", "A", "a ", "b", "B", "5", "1e400", "é", "z\0"]),
    st.sampled_from([b"", b"a", b"\xff"]),
)
# SQLite stores these as text although they are none; "!" sorts before the digits.
UNDECODABLE = st.sampled_from([b"\xff", b"!\xff", b"5\xe9", b"a\xe9"])


def source(*key: str, **more: Any) -> Source:
    fields = [{"kind": "url", "column": "v", "root": "uploads"}]
    return Source.model_validate(
        {"name": "things", "table": "t", "key": key, "fields": fields, "rewrite": {"mode": "url"}} | more
    )


def numbers(database: Database, read: Source) -> list[int]:
    """The rows' own numbers, in the order in which they are read."""
    return [int(str(row.values["v"])) for chunk in read_rows(database, read) for row in chunk]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_CHUNK_ROWS", 3)


@pytest.fixture
def sqlite(tmp_path: Path, small_pages: None) -> Iterator[Database]:
    (tmp_path / "app.db").touch()
    database = Database.open(f"sqlite:///{tmp_path / 'app.db'}")
    yield database
    database.close()


@pytest.fixture
def postgresql(postgres: PostgresServer, small_pages: None) -> Iterator[Database]:
    database = Database.open(postgres.new_database())
    yield database
    database.close()


def fill(database: Database, create: str, *insert: str) -> None:
    with database.write() as connection:
        connection.exec_driver_sql(create)
        for statement in insert:
            connection.exec_driver_sql(statement)


def test_the_write_ahead_log_can_be_shortened_while_a_source_is_read(sqlite: Database) -> None:
    values = ", ".join(f"({n}, '{n}')" for n in range(20))
    fill(sqlite, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", f"INSERT INTO t VALUES {values}")
    for count, _ in enumerate(read_rows(sqlite, source("id"))):
        fill(sqlite, f"CREATE TABLE other{count} (id INTEGER)")
        with sqlite.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 0")
            # busy, pages in the log, pages moved: nothing is in the way and the log is empty.
            assert connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one() == (0, 0, 0)
    assert count == 6


def test_a_row_that_appears_behind_the_present_page_is_read(sqlite: Database) -> None:
    values = ", ".join(f"({n}, '{n}')" for n in range(7))
    fill(sqlite, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", f"INSERT INTO t VALUES {values}")
    pages = read_rows(sqlite, source("id"))
    assert [row.row_key for row in next(pages)] == ["[0]", "[1]", "[2]"]
    fill(sqlite, "INSERT INTO t VALUES (100, '100')", "DELETE FROM t WHERE id IN (0, 2, 4)")
    assert [row.row_key for page in pages for row in page] == ["[3]", "[5]", "[6]", "[100]"]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[tuple[tuple[Any, bool], ...]]]:
    declared = draw(st.lists(st.sampled_from(DECLARED), min_size=1, max_size=3))
    value = st.tuples(KEYS, st.just(False)) | st.tuples(UNDECODABLE, st.just(True))
    return declared, draw(st.lists(st.tuples(*[value] * len(declared)), max_size=25))


@examples(150, deadline=None)
@given(tables())
def test_every_sqlite_row_is_read_once_whatever_its_key(table: Any) -> None:
    declared, keys = table
    names = [f"k{i}" for i in range(len(declared))]
    with throwaway_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "_CHUNK_ROWS", 3)
        plain = sqlite3.connect(folder / "app.db", isolation_level=None)
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, declared, strict=True))
        plain.execute(f"CREATE TABLE t ({columns}, v TEXT)")
        for number, key in enumerate(keys):
            marks = ", ".join("CAST(? AS TEXT)" if as_text else "?" for _, as_text in key)
            plain.execute(f"INSERT INTO t VALUES ({marks}, ?)", (*(value for value, _ in key), number))
        exact = ", ".join(f"typeof({name}), hex({name})" for name in names)
        plain.execute(f"DELETE FROM t WHERE rowid NOT IN (SELECT min(rowid) FROM t GROUP BY {exact})")
        # A blob and a text of the same bytes that are no UTF-8 have one row_key; they cannot be told apart.
        as_blob = ", ".join(f"typeof({name}) IN ('text', 'blob'), hex({name})" for name in names)
        plain.execute(f"DELETE FROM t WHERE rowid NOT IN (SELECT min(rowid) FROM t GROUP BY {as_blob})")
        expected = [int(number) for (number,) in plain.execute("SELECT v FROM t")]
        plain.close()
        database = Database.open(f"sqlite:///{folder / 'app.db'}")
        assert sorted(numbers(database, source(*names))) == expected
        database.close()


def test_numbers_and_text_that_is_no_utf_8_keep_their_order_in_an_untyped_key(sqlite: Database) -> None:
    # Bound as a blob, the bytes would come after all text; compared as text, the numbers after "!".
    keys = ["1", "2", "3", "4", "5", "CAST(x'21ff' AS TEXT)", "CAST(x'22ff' AS TEXT)", "'5'", "'a'", "x'00'"]
    values = ", ".join(f"({key}, '{number}')" for number, key in enumerate(keys))
    fill(sqlite, "CREATE TABLE t (k, v TEXT)", f"INSERT INTO t VALUES {values}")
    pages = list(islice(rows._KeyPages(sqlite, sqlite.table("t"), source("k")), 10))
    assert [len(page) for page in pages] == [0, 3, 3, 3, 1]
    assert [row.values["v"] for page in pages for row in page] == [str(n) for n in range(10)]


# Type of the key, and values of it in their order: more than one page, some equal but spelled differently.
POSTGRES = {
    "bigint": [str(n) for n in range(-4, 8)],
    "uuid": [f"00000000-0000-4000-8000-{n:012x}" for n in range(10)],
    "numeric": ["-1", "1", "1.0", "1.00", "1.000", "2", "10", "NaN"],
    "double precision": ["-Infinity", "-0.1", "0.1", "0.30000000000000004", "1", "9", "10", "NaN"],
    "text": [f"{n}%s'\\" for n in range(8)],
    'text COLLATE "C"': ["A", "B", "Z", "a", "b", "c", "z", "é"],
    "varchar(9)": ["a", "b", "c", "d", "e", "f", "g"],
    "char(4)": ["a", "b", "c", "d", "e", "f", "g"],
    "timestamptz": [f"2024-05-01 10:00:00.00000{n}+05:30" for n in range(8)],
    "mood": ["so so", "happy", "glad", "wild"],
    "bytea": [f"\\x{n:02x}ff" for n in range(8)],
}


@pytest.mark.parametrize("declared", POSTGRES)
def test_every_postgres_row_is_read_in_the_keys_own_order(postgresql: Database, declared: str) -> None:
    fill(
        postgresql,
        "CREATE TYPE mood AS ENUM ('so so', 'happy', 'glad', 'wild')",
        f"CREATE TABLE t (k {declared}, v TEXT)",
    )
    with postgresql.write() as connection:
        for number, value in enumerate(POSTGRES[declared]):
            statement = f"INSERT INTO t VALUES (CAST(:k AS {declared.partition(' COLLATE')[0]}), :v)"
            connection.execute(sa.text(statement), {"k": value, "v": number})
    read = numbers(postgresql, source("k"))
    if declared == "numeric":
        read[1:5] = sorted(read[1:5])  # Equal keys have no order.
    assert read == list(range(len(POSTGRES[declared])))


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_rows_with_a_composite_key_and_nulls_in_it_are_all_read(
    engine: str, request: pytest.FixtureRequest
) -> None:
    database: Database = request.getfixturevalue(engine)
    keys = [(a, b) for a in ("1", "2", "NULL") for b in ("'x'", "'y'", "'z'", "NULL")]
    values = ", ".join(f"({a}, {b}, '{number}')" for number, (a, b) in enumerate(keys))
    fill(database, "CREATE TABLE t (a INTEGER, b TEXT, v TEXT)", f"INSERT INTO t VALUES {values}")
    read = numbers(database, source("a", "b"))
    with_null = [number for number, key in enumerate(keys) if "NULL" in key]
    assert sorted(read[: len(with_null)]) == with_null
    assert read[len(with_null) :] == [0, 1, 2, 4, 5, 6]
    only = source("a", "b", where=[{"column": "b", "op": "ne", "value": "y"}])
    assert sorted(numbers(database, only)) == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
@pytest.mark.parametrize("twice", ["0", "2", "3", "8", "NULL"])
def test_a_key_that_two_rows_share_is_refused_wherever_a_page_ends(
    engine: str, twice: str, request: pytest.FixtureRequest
) -> None:
    database: Database = request.getfixturevalue(engine)
    values = ", ".join(f"({key}, 'x')" for key in [*range(9), "NULL", twice])
    fill(database, "CREATE TABLE t (k INTEGER, v TEXT)", f"INSERT INTO t VALUES {values}")
    named = twice if engine == "sqlite" else f'"{twice}"'
    shown = "null" if twice == "NULL" else named
    with pytest.raises(ConfigurationError, match="appears more than once") as refused:
        list(read_rows(database, source("k")))
    assert f"[{shown}] appears" in str(refused.value)


def test_a_key_that_two_rows_share_is_found_behind_another_spelling(sqlite: Database) -> None:
    spelled = "('a', '0'), ('A', '1'), ('a', '2'), ('b', '3')"
    fill(sqlite, "CREATE TABLE t (k TEXT COLLATE NOCASE, v TEXT)", f"INSERT INTO t VALUES {spelled}")
    with pytest.raises(ConfigurationError, match="appears more than once"):
        list(read_rows(sqlite, source("k")))


# What SQLite columns may hold for x and y, whatever their declared type, and the point that it means.
POINTS_ON_SQLITE: dict[str, tuple[float, float] | None] = {
    "0.25, 0.75": (0.25, 0.75),
    "0, 1": (0.0, 1.0),
    "'0.25', ' 0.75 '": (0.25, 0.75),
    "0.333333, 0.666666": (0.33, 0.67),
    "x'302e35', 0.5": (0.5, 0.5),
    "NULL, NULL": None,
    "0.5, NULL": None,
    "NULL, 0.5": None,
    "'', 0.5": None,
    "'left', 0.5": None,
    "'0,5', 0.5": None,
    "'nan', 0.5": None,
    "1e999, 0.5": None,
    "-0.1, 0.5": None,
    "0.5, 1.1": None,
    "50, 50": None,
    "-0.001, 1.0000001": (0.0, 1.0),  # an application's rounding error
    "CAST(x'ff' AS TEXT), 0.5": None,
}


def points(database: Database) -> list[tuple[float, float] | None]:
    read = source("id", focal_point={"x": "x", "y": "y"})
    return [row.focal_point for chunk in read_rows(database, read) for row in chunk]


@pytest.mark.parametrize("written", POINTS_ON_SQLITE)
def test_a_focal_point_is_read_from_whatever_sqlite_holds_or_counts_as_not_chosen(
    sqlite: Database, written: str
) -> None:
    fill(sqlite, "CREATE TABLE t (id INTEGER, v TEXT, x, y)", f"INSERT INTO t VALUES (1, 'v', {written})")
    assert points(sqlite) == [POINTS_ON_SQLITE[written]]


@pytest.mark.parametrize("declared", ["real", "double precision", "numeric(5, 3)", "varchar(9)", "text"])
def test_a_focal_point_is_read_from_every_type_that_postgres_has_for_it(
    postgresql: Database, declared: str
) -> None:
    values = "(1, 'v', '0.1', '0.9'), (2, 'v', '0.333', '1'), (3, 'v', NULL, '0.5'), (4, 'v', '7', '0.5')"
    fill(
        postgresql,
        f"CREATE TABLE t (id INTEGER, v TEXT, x {declared}, y {declared})",
        f"INSERT INTO t VALUES {values}",
    )
    assert points(postgresql) == [(0.1, 0.9), (0.33, 1.0), None, None]


def test_columns_that_hold_no_numbers_give_no_focal_point_on_postgres(postgresql: Database) -> None:
    declared = "x boolean, y jsonb"
    fill(postgresql, f"CREATE TABLE t (id INTEGER, v TEXT, {declared})")
    fill(
        postgresql, "INSERT INTO t VALUES (1, 'v', true, '0.5')", "INSERT INTO t VALUES (2, 'v', NULL, '{}')"
    )
    assert points(postgresql) == [None, None]


@pytest.mark.parametrize("zero", ["'-0.0'", "'-0'", "-0.001", "'0'", "0"])
def test_zero_has_one_form_since_each_point_names_objects_of_its_own(sqlite: Database, zero: str) -> None:
    fill(sqlite, "CREATE TABLE t (id INTEGER, v TEXT, x, y)")
    fill(sqlite, f"INSERT INTO t VALUES (1, 'v', {zero}, {zero})")
    assert repr(points(sqlite)) == "[(0.0, 0.0)]"


def test_a_focal_point_column_that_does_not_exist_is_named(sqlite: Database) -> None:
    fill(sqlite, "CREATE TABLE t (id INTEGER, v TEXT, x REAL)")
    with pytest.raises(ConfigurationError, match="column 'y'"):
        points(sqlite)


def test_a_source_without_focal_columns_has_no_focal_points(sqlite: Database) -> None:
    fill(sqlite, "CREATE TABLE t (id INTEGER, v TEXT, x REAL, y REAL)", "INSERT INTO t VALUES (1, 'v', 0, 0)")
    assert [row.focal_point for chunk in read_rows(sqlite, source("id")) for row in chunk] == [None]
