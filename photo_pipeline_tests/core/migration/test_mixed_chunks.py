"""One bad row in a large chunk costs itself; the rows around it are rewritten together all the same."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from photo_pipeline.core.catalog.bulk import array
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.errors import DatabaseError
from photo_pipeline.core.migration import row_chunks
from photo_pipeline.core.migration.ledger_audit import verify_ledger
from photo_pipeline.core.migration.many_rows import ManyRows, findable_keys
from photo_pipeline.core.migration.row_rewrite import RowRewriter
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import rewritten, rolled_back, uploaded
from photo_pipeline_tests.core.migration.test_chunk_rewrite import TRIGGERS
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import Site, item_photo

ROWS = 40


def counted_singles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the rows that are rewritten one by one."""
    keys: list[str] = []
    rewrite = RowRewriter.rewrite

    def noted(self: RowRewriter, connection: Any, photos: list[Any], *arguments: Any) -> Any:
        keys.append(photos[0].row_key)
        return rewrite(self, connection, photos, *arguments)

    monkeypatch.setattr(RowRewriter, "rewrite", noted)
    return keys


def chunk_of_many(make_site: MakeSite, database: str) -> Site:
    rows = [item_photo(n, f"/uploads/items/{n % 4}.jpg") for n in range(ROWS)]
    site = make_site(photos=4, rows=rows, database=database, batch_size=ROWS)
    for statement in TRIGGERS[database]:
        site.execute(statement)
    uploaded(site)
    return site


def edited(site: Site, n: int, assignment: str) -> str:
    key = str(item_photo(n, None)["id"])
    site.execute(f"UPDATE item_photos SET {assignment} WHERE id = :id", id=key)
    return json.dumps([key])


@MOSTLY_SQLITE
def test_edited_rows_alone_leave_the_chunk(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    site = chunk_of_many(make_site, database)
    odd = {edited(site, 3, "original_url = NULL"), edited(site, 20, "original_url = '/other.jpg'")}
    singles = counted_singles(monkeypatch)
    done = rewritten(site)
    assert (done.rewritten, done.conflicts) == (ROWS - 2, 2)
    assert set(singles) == odd


@pytest.mark.parametrize(
    ("database", "alt"),
    [
        *(("sqlite", alt) for alt in ("refuse", "bend", "ignore")),
        ("postgres", "refuse"),
        *(pytest.param("postgres", alt, marks=pytest.mark.slow) for alt in ("bend", "ignore")),
    ],
)
def test_a_row_that_the_database_refuses_leaves_most_rows_together(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, database: str, alt: str
) -> None:
    site = chunk_of_many(make_site, database)
    bad = edited(site, 17, f"alt = '{alt}'")
    singles = counted_singles(monkeypatch)
    done = rewritten(site)
    assert (done.rewritten, done.conflicts + done.failed) == (ROWS - 1, 1)
    assert bad in singles
    assert len(singles) <= 16
    with site.project() as project, project.database.read() as connection:
        verdict = verify_ledger(connection)
    assert (verdict.holds, verdict.unaudited) == (True, 0)


@MOSTLY_SQLITE
def test_a_mixed_chunk_is_taken_back_to_the_byte(make_site: MakeSite, database: str) -> None:
    site = chunk_of_many(make_site, database)
    edited(site, 5, "original_url = NULL")
    edited(site, 6, "alt = 'refuse'")
    before = site.dump()
    assert rewritten(site).rewritten == ROWS - 2
    assert rolled_back(site).rolled_back == ROWS - 2
    assert site.dump() == before


def test_a_row_that_the_application_keeps_locked_holds_nobody_up(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = chunk_of_many(make_site, "postgres")
    singles = counted_singles(monkeypatch)
    monkeypatch.setattr(row_chunks, "ROW_LOCK_TIMEOUT_S", 1)
    key = str(item_photo(7, None)["id"])
    engine = sa.create_engine(site.url)
    with engine.begin() as application:
        application.execute(sa.text("SELECT 1 FROM item_photos WHERE id = :id FOR UPDATE"), {"id": key})
        done = rewritten(site)
    engine.dispose()
    assert (done.rewritten, done.not_ready) == (ROWS - 1, 1)
    assert singles == [json.dumps([key])]


ODD_TABLE = (
    'CREATE TABLE "Order Lines" ("Select" VARCHAR(20), "no" INTEGER, "URL %s" TEXT, a0 INTEGER, r REAL)'
)
ODD_ROWS = [("A", 1, "x'\"\\{}", 5, 1.5), ("a", 2, None, None, None), ("ü,€", 3, "", 0, -0.25)]


def test_odd_names_keys_and_values_are_found_compared_and_set(make_site: MakeSite) -> None:
    """Mixed-case and reserved names, composite keys, NULLs, quotes; PostgreSQL: test_postgres_chunk."""
    site = make_site(photos=0, rows=[])
    site.execute(ODD_TABLE)
    with site.project() as project, project.database.write() as connection:
        table = project.database.table("Order Lines")
        connection.execute(
            sa.insert(table), [dict(zip(table.columns.keys(), row, strict=True)) for row in ODD_ROWS]
        )
        row_keys = [json.dumps([key, no]) for key, no, *_ in ODD_ROWS]
        keys = list(findable_keys(row_keys, is_sqlite=True).values())
        many, names = ManyRows(table, ["Select", "no"], is_sqlite=True), ["URL %s", "a0", "r"]
        cells = many.read(connection, names, keys)
        assert [cells[key][0] for key in keys] == ["x'\"\\{}", None, ""]
        new = ("NULL", 7, None)
        swaps = [(*key, *cells[key], *new) for key in keys]
        # What one row holds is no longer what was read: its number differs.
        swaps[2] = (*keys[2], "", 1, cells[keys[2]][2], *new)
        assert many.swap(connection, names, swaps) == 2
        after = many.read(connection, names, keys, lock=False)
    assert [after[key] for key in keys] == [new, new, cells[keys[2]]]


def test_keys_that_a_comparison_may_not_find_are_left_to_single_rows() -> None:
    keys = ["[1]", '["a"]', "[null]", "[1.5]", '[{"blob":"00"}]', "[1,null]"]
    assert findable_keys(keys, is_sqlite=True) == {"[1]": (1,), '["a"]': ("a",)}


def test_two_rows_under_one_key_and_other_spellings_of_it_are_not_plain(make_site: MakeSite) -> None:
    site = make_site(photos=0, rows=[])
    site.execute("CREATE TABLE loose (k, url TEXT)")
    site.execute("INSERT INTO loose VALUES (1, 'a'), (2, 'b'), (2, 'c'), (3.0, 'd')")
    with site.project() as project, project.database.write() as connection:
        many = ManyRows(project.database.table("loose"), ["k"], is_sqlite=True)
        assert many.read(connection, ["url"], [(1,), (2,), (3,)]) == {(1,): ("a",)}


def test_an_array_has_exactly_its_values(make_site: MakeSite) -> None:
    site = make_site(photos=0, rows=[], database="postgres")
    values = ["", "NULL", "null", None, "a,b", '"', "\\", "{}", "{1}", " x ", "\n\t", "ü€😀", '\\"']
    with site.project() as project:
        assert round_trip(project.database, values) == values
        assert round_trip(project.database, values[:3]) == values[:3]
        assert round_trip(project.database, []) == []
        with pytest.raises(DatabaseError, match="NUL"):
            round_trip(project.database, ["a", "b\0c"])


def round_trip(database: Database, values: list[str | None]) -> list[str | None]:
    with database.read() as connection:
        text = sa.text("SELECT CAST(:a AS TEXT[])")
        return list(connection.execute(text, {"a": array(values)}).scalar_one())
