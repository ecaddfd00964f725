"""A chunk that is rewritten as a whole ends as if each of its rows had been rewritten by itself."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from photo_pipeline.core.migration.chunk_rewrite import ChunkRewriter
from photo_pipeline.core.migration.many_rows import ManyRows, findable_keys
from photo_pipeline.core.migration.row_rewrite import RowRewriter
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import rewritten, uploaded
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo

ROWS = 6
# What the application may have done to a row between its upload and its rewrite.
EDITS = {
    "nothing": "",
    "url": "UPDATE item_photos SET original_url = '/uploads/items/0.jpg?edited' WHERE id = :id",
    "null": "UPDATE item_photos SET original_url = NULL WHERE id = :id",
    "gone": "DELETE FROM item_photos WHERE id = :id",
    "thumbnail": "UPDATE item_photos SET thumbnail_url = '/elsewhere.jpg' WHERE id = :id",
    "size": "UPDATE item_photos SET file_size = 12345 WHERE id = :id",
    "mime": "UPDATE item_photos SET mime_type = 'image/jpeg' WHERE id = :id",
    "time": "UPDATE item_photos SET updated_at = NULL WHERE id = :id",
    "refused": "UPDATE item_photos SET alt = 'refuse' WHERE id = :id",
    "bent": "UPDATE item_photos SET alt = 'bend' WHERE id = :id",
    "ignored": "UPDATE item_photos SET alt = 'ignore' WHERE id = :id",
    "superseded": "UPDATE pp_photo SET state = 'superseded' WHERE row_key = :key",
    "other content": "UPDATE pp_photo SET sha256 = 'other' WHERE row_key = :key",
}
TRIGGERS = {
    "sqlite": (
        "CREATE TRIGGER refuse BEFORE UPDATE OF original_url ON item_photos WHEN OLD.alt = 'refuse' "
        "BEGIN SELECT RAISE(ABORT, 'no change here'); END",
        "CREATE TRIGGER bend AFTER UPDATE OF original_url ON item_photos WHEN OLD.alt = 'bend' "
        "BEGIN UPDATE item_photos SET original_url = original_url || '#' WHERE id = OLD.id; END",
        "CREATE TRIGGER ignored BEFORE UPDATE OF original_url ON item_photos WHEN OLD.alt = 'ignore' "
        "BEGIN SELECT RAISE(IGNORE); END",
    ),
    "postgres": (
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF OLD.alt = 'refuse' THEN RAISE EXCEPTION 'no change here'; END IF; "
        "IF OLD.alt = 'ignore' THEN RETURN NULL; END IF; "
        "IF OLD.alt = 'bend' THEN NEW.original_url = NEW.original_url || '#'; END IF; "
        "RETURN NEW; END $$",
        "CREATE TRIGGER act BEFORE UPDATE OF original_url ON item_photos FOR EACH ROW EXECUTE FUNCTION act()",
    ),
}


class Template:
    """A site whose photos are uploaded, and copies of its database for one rewrite each."""

    def __init__(self, site: Site, database: str) -> None:
        self.site = site
        self.database = database
        for statement in TRIGGERS[database]:
            site.execute(statement)
        if database == "sqlite":
            site.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._saved = site.home / "saved.db"
            shutil.copy(site.home / "app.db", self._saved)

    def restore(self) -> None:
        if self.database == "sqlite":
            for path in self.site.home.glob("app.db-*"):
                path.unlink()
            shutil.copy(self._saved, self.site.home / "app.db")
            return
        name = sa.make_url(self.site.url).database
        admin = sa.create_engine(
            sa.make_url(self.site.url).set(database="postgres"), isolation_level="AUTOCOMMIT"
        )
        with admin.connect() as connection:
            if not self._has_template(connection, f"{name}_saved"):
                connection.execute(sa.text(f"CREATE DATABASE {name}_saved TEMPLATE {name}"))
            connection.execute(sa.text(f"DROP DATABASE {name}"))
            connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {name}_saved"))
        admin.dispose()

    @staticmethod
    def _has_template(connection: sa.Connection, name: str) -> bool:
        query = sa.text("SELECT 1 FROM pg_database WHERE datname = :name")
        return connection.execute(query, {"name": name}).first() is not None

    def outcome(self, edits: list[str], rows_per_transaction: int) -> Any:
        """Edit, rewrite, and return everything that the rewrite left: counts, rows, ledger, photos."""
        self.restore()
        for number, edit in enumerate(edits):
            key = item_photo(number, None)["id"]
            if EDITS[edit]:
                self.site.execute(EDITS[edit], **_named(EDITS[edit], id=key, key=f'["{key}"]'))
        self.site.configure(rewrite={"rows_per_transaction": rows_per_transaction})
        done = rewritten(self.site, run="r")
        counts = (done.rewritten, done.conflicts, done.failed, done.not_ready, done.rows)
        return counts, self._left()

    def _left(self) -> list[Any]:
        # Times differ between two runs; where they were set does not.
        rows = "SELECT id, original_url, thumbnail_url, file_size, mime_type, width, height, alt, "
        rows += "updated_at LIKE '2024%' FROM item_photos ORDER BY id"
        ledger = 'SELECT row_key, photo_id, "column", "before", before_type, after_type, outcome, reason, '
        ledger += "CASE WHEN \"column\" = 'updated_at' THEN '' ELSE \"after\" END FROM pp_rewrite"
        photos = "SELECT id, state, new_value, recipe, error_type, error_detail FROM pp_photo ORDER BY id"
        links = 'SELECT r.row_key, r."column", p.photo_id FROM pp_rewrite r JOIN pp_rewrite_photo p '
        links += "ON p.rewrite_id = r.id"
        return [
            self.site.execute(rows),
            sorted(self.site.execute(ledger), key=str),
            self.site.execute(photos),
            sorted(self.site.execute(links), key=str),
        ]


def _named(statement: str, **values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if f":{name}" in statement}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def template(make_site: MakeSite, request: pytest.FixtureRequest) -> Template:
    rows = [
        item_photo(n, f"/uploads/items/{n}.jpg", "/uploads/t.jpg" if n % 2 else None) for n in range(ROWS)
    ]
    site = make_site(photos=ROWS, rows=rows, database=request.param, sources=[ITEM_PHOTOS])
    photo(site.uploads / "t.jpg", seed=50, width=32, height=24)
    uploaded(site)
    return Template(site, request.param)


@pytest.fixture
def row_by_row() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def alone(template: Template, patch: pytest.MonkeyPatch, edits: list[str], size: int) -> Any:
    """The same, with every row rewritten by itself."""
    with patch.context() as inner:
        inner.setattr(ChunkRewriter, "_rewrite_plain", lambda *_: [])
        return template.outcome(edits, size)


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    edits=st.lists(st.sampled_from(sorted(EDITS)), min_size=ROWS, max_size=ROWS),
    size=st.integers(1, ROWS),
)
def test_the_outcomes_are_those_of_single_rows(
    template: Template, row_by_row: pytest.MonkeyPatch, edits: list[str], size: int
) -> None:
    assert template.outcome(edits, size) == alone(template, row_by_row, edits, size)


@pytest.mark.parametrize("edit", sorted(EDITS))
@pytest.mark.slow
def test_each_kind_of_edit_by_itself(template: Template, row_by_row: pytest.MonkeyPatch, edit: str) -> None:
    edits = ["nothing", edit, "nothing", "nothing", edit, "nothing"]
    assert template.outcome(edits, ROWS) == alone(template, row_by_row, edits, ROWS)


def test_plain_rows_are_rewritten_together(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(photos=4)
    uploaded(site)

    def none_by_itself(*_: object) -> None:
        raise AssertionError("a plain row was rewritten by itself")

    monkeypatch.setattr(RowRewriter, "rewrite", none_by_itself)
    assert rewritten(site).rewritten == 4


def test_the_comparison_is_what_keeps_an_edit(make_site: MakeSite) -> None:
    """An edit between the read and the write is found by the swap; PostgreSQL: test_postgres_chunk."""
    site = make_site(photos=2)
    with site.project() as project, project.database.write() as connection:
        table = project.database.table("item_photos")
        many = ManyRows(table, ["id"], is_sqlite=True)
        row_keys = [f'["{item_photo(n, None)["id"]}"]' for n in range(2)]
        keys = list(findable_keys(row_keys, is_sqlite=True).values())
        names = ["original_url", "file_size"]
        cells = many.read(connection, names, keys)
        assert sorted(cells) == keys
        edit = sa.update(table).where(table.c.id == item_photo(1, None)["id"])
        connection.execute(edit.values(original_url="/uploads/edited.jpg"))
        new = ("https://cdn.example/x.jpg", 7)
        assert many.swap(connection, names, [(*key, *cells[key], *new) for key in keys]) == 1
    urls = [row[0] for row in site.execute("SELECT original_url FROM item_photos ORDER BY id")]
    assert urls == ["https://cdn.example/x.jpg", "/uploads/edited.jpg"]
