"""The one statement that writes a chunk to PostgreSQL sets, marks and lists just the rows that it found."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.rows import row_id
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import PhotoState, photo_table, utc_now
from photo_pipeline.core.migration.chunk_cells import UnusualError, Written
from photo_pipeline.core.migration.many_rows import ManyRows
from photo_pipeline.core.migration.photos import Photo, batch_photos
from photo_pipeline.core.migration.plain_rows import PlainRow
from photo_pipeline.core.migration.postgres_chunk import PostgresChunks
from photo_pipeline_tests.conftest import MakeSite

TABLE = (
    'CREATE TABLE "Order % Lines" ("Select" VARCHAR(20), "no" INTEGER, "URL %s" TEXT, "pp_old_0" TEXT, '
    'a0 NUMERIC(6,2), r REAL, "pp_given" CHAR(4))'
)
ROWS = [
    ("A", 1, "x'\"\\{}", "t1", 5, 1.5, "ab"),
    ("a", 2, "b", "t2", None, None, None),
    ("ü,€", 3, "", "t3", 0, -0.25, ""),
]
NAMES = ["URL %s", "a0", "r", "pp_given"]


@dataclass
class Chunk:
    """Three rows with a photo in each of two columns, as a chunk that was read from the database."""

    database: Database
    many: ManyRows
    rows: list[PlainRow]

    def write(self, connection: sa.Connection) -> Written:
        writer = PostgresChunks(batch="batch-000001", run="r", expected=PhotoState.UPLOADED)
        return writer.write(connection, "lines", self.many, self.rows, utc_now())


@pytest.fixture
def chunk(make_site: MakeSite) -> Any:
    site = make_site(photos=0, rows=[], database="postgres")
    site.execute(TABLE)
    with site.project() as project:
        database = project.database
        ensure_schema(database)
        table = database.table("Order % Lines")
        many = ManyRows(table, ["Select", "no"], is_sqlite=False)
        with database.write() as connection:
            names = table.columns.keys()
            connection.execute(sa.insert(table), [dict(zip(names, row, strict=True)) for row in ROWS])
            connection.execute(
                sa.insert(photo_table), [_photo(n, column) for n in range(3) for column in COLUMNS]
            )
        photos = batch_photos(database, "batch-000001")
        yield Chunk(database, many, [_row(database, many, photos[2 * n : 2 * n + 2]) for n in range(3)])


COLUMNS = ("URL %s", "pp_old_0")


def _photo(n: int, column: str) -> dict[str, Any]:
    key = json.dumps([ROWS[n][0], str(ROWS[n][1])], ensure_ascii=False, separators=(",", ":"))
    # All of one content, which must not be mixed up.
    return {
        "reference_id": f"{n}{column}",
        "source": "lines",
        "row_id": row_id("lines", key),
        "row_key": key,
        "field": column,
        "column": column,
        "role": "primary",
        "value": ROWS[n][2 if column == "URL %s" else 3],
        "sha256": "same",
        "class": "matched",
        "batch": "batch-000001",
        "state": "uploaded",
        "scan": "s",
        "updated_at": utc_now(),
    }


def _row(database: Database, many: ManyRows, photos: list[Photo]) -> PlainRow:
    key = tuple(json.loads(photos[0].row_key))
    names = [*NAMES, "pp_old_0"]
    with database.read() as connection:
        cells = many.read(connection, names, [key], lock=False)[key]
    # The second photo's column says the new value already. What CHAR and NUMERIC store is spelled otherwise.
    changed = {"URL %s": f"NULL'{key[1]}", "a0": "7", "r": None, "pp_given": "x"}
    named = {str(photo.column): photo.id for photo in photos}
    return PlainRow(photos, key, dict(zip(names, cells, strict=True)), changed, named, ["r1", "r2"])


def _left(database: Database) -> dict[str, Any]:
    with database.read() as connection:
        rows = connection.execute(
            sa.text('SELECT "no", "URL %s", a0, r, "pp_given" FROM "Order % Lines" ORDER BY 1')
        )
        photos = connection.execute(sa.text("SELECT id, state, new_value, recipe FROM pp_photo ORDER BY id"))
        ledger = connection.execute(
            sa.text(
                'SELECT row_key, "column", photo_id, before, after, after_type FROM pp_rewrite ORDER BY id'
            )
        )
        return {"rows": rows.all(), "photos": photos.all(), "ledger": ledger.all()}


def test_odd_names_keys_and_values_are_found_compared_set_and_listed_as_stored(chunk: Chunk) -> None:
    with chunk.database.write() as connection:
        written = chunk.write(connection)
    left = _left(chunk.database)
    assert [tuple(row) for row in left["rows"]] == [(n, f"NULL'{n}", 7, None, "x   ") for n in (1, 2, 3)]
    assert [tuple(row)[1:] for row in left["photos"]] == [
        photo for n in (1, 2, 3) for photo in (("migrated", f"NULL'{n}", "r1"), ("migrated", f"t{n}", "r2"))
    ]
    first = [tuple(row)[1:] for row in left["ledger"] if row.row_key == '["A","1"]']
    ids = [photo.id for photo in chunk.rows[0].photos]
    assert first == [
        ("URL %s", ids[0], "x'\"\\{}", "NULL'1", "text"),
        ("a0", None, "5.00", "7.00", "text"),
        ("r", None, "1.5", None, "null"),
        ("pp_given", None, "ab", "x", "text"),
    ]
    assert len(written.rows) == 3
    assert [json.loads(line)[6:8] for line in written.entries.lines] == [
        [row.column, row.before] for row in left["ledger"]
    ]
    assert [json.loads(line)[9] for line in written.entries.lines] == [row.after for row in left["ledger"]]


@pytest.mark.parametrize(
    "edit", ["\"URL %s\" = 'edited'", "a0 = 5.01", "r = NULL", '"no" = 9'], ids=["url", "fact", "null", "key"]
)
def test_the_comparison_is_what_keeps_an_edit(chunk: Chunk, edit: str) -> None:
    """An edit between the read and the write is found by the statement itself; the other rows are written."""
    with chunk.database.write() as connection:
        connection.exec_driver_sql(f'UPDATE "Order %% Lines" SET {edit.replace("%", "%%")} WHERE "no" = 1')
        written = chunk.write(connection)
    assert [row.key[1] for row in written.rows] == ["2", "3"]
    left = _left(chunk.database)
    assert [row.state for row in left["photos"]] == ["uploaded"] * 2 + ["migrated"] * 4
    assert {row.row_key for row in left["ledger"]} == {'["a","2"]', '["ü,€","3"]'}
    assert len(written.entries.ids) == len(left["ledger"]) == 8


def test_nothing_is_written_where_no_row_is_as_it_was(chunk: Chunk) -> None:
    with chunk.database.write() as connection:
        connection.exec_driver_sql('DELETE FROM "Order %% Lines"')
        written = chunk.write(connection)
    assert (written.rows, written.entries.ids, _left(chunk.database)["ledger"]) == ([], [], [])


UNUSUAL = {
    "two rows under one key": ['INSERT INTO "Order % Lines" SELECT * FROM "Order % Lines" WHERE "no" = 2'],
    "a photo in another state": [
        "UPDATE pp_photo SET state = 'pending' WHERE \"column\" = 'pp_old_0' AND id % 3 = 0"
    ],
    "a photo of other content": [
        "UPDATE pp_photo SET sha256 = 'other' WHERE \"column\" = 'URL %s' AND id % 3 = 0"
    ],
    "a trigger before": [
        "CREATE FUNCTION bend() RETURNS trigger LANGUAGE plpgsql AS "
        '$$ BEGIN NEW."URL %s" = NEW."URL %s" || \'#\'; RETURN NEW; END $$',
        'CREATE TRIGGER bend BEFORE UPDATE ON "Order % Lines" FOR EACH ROW EXECUTE FUNCTION bend()',
    ],
    "a trigger after": [
        "CREATE FUNCTION bend() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF pg_trigger_depth() = 1 THEN "
        'UPDATE "Order % Lines" SET a0 = 8 WHERE "no" = NEW."no"; END IF; RETURN NULL; END $$',
        'CREATE TRIGGER bend AFTER UPDATE ON "Order % Lines" FOR EACH ROW EXECUTE FUNCTION bend()',
    ],
}


@pytest.mark.parametrize("case", sorted(UNUSUAL))
def test_what_is_unusual_is_noticed(chunk: Chunk, case: str) -> None:
    with chunk.database.write() as connection:
        for statement in UNUSUAL[case]:
            connection.exec_driver_sql(statement.replace("%", "%%"))
        with pytest.raises(UnusualError):
            chunk.write(connection)


def test_a_trigger_that_changes_nothing_of_it_does_no_harm(chunk: Chunk) -> None:
    with chunk.database.write() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
        )
        connection.exec_driver_sql(
            'CREATE TRIGGER look AFTER UPDATE ON "Order %% Lines" FOR EACH ROW EXECUTE FUNCTION look()'
        )
        assert len(chunk.write(connection).rows) == 3
