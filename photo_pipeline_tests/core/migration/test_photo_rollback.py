"""One photo taken back out of a row whose other photos stay migrated, and then the rest: byte for byte."""

import copy
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.migration.invariants import every_rewritten_row_is_backed
from photo_pipeline.core.migration.ledger_audit import verify_ledger
from photo_pipeline.core.migration.rollback import RolledBack
from photo_pipeline.core.migration.row_rollback import RowRollback
from photo_pipeline.core.migration.run import new_run_id, roll_back_batch
from photo_pipeline.core.migration.selection import batches_to_migrate, locate_with_copies
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated, rewritten, rolled_back, uploaded
from photo_pipeline_tests.core.migration.test_documents import bodies, json_source, posts, text_source
from photo_pipeline_tests.core.migration.test_repoint import repointed, to_another_domain
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo

BATCH = "batch-000001"
# The second photo of a row is one of its own here, no copy of the first.
TWO_PHOTOS = ITEM_PHOTOS | {
    "fields": [
        {"kind": "url", "column": "original_url", "root": "uploads", "role": "primary", "variant": "full"},
        {"kind": "url", "column": "thumbnail_url", "root": "uploads", "role": "duplicate"},
    ]
}
HTML = (
    '<img src="/uploads/items/0.jpg" srcset="/uploads/items/0.jpg 1x, /uploads/items/1.jpg 2x">\r\n'
    '<!-- wp:image {"url":"https:\\/\\/shop.example\\/uploads\\/items\\/1.jpg"} -->'
    '<a href="/uploads/items/2.jpg">Grüße</a>'
)


def photo_id(site: Site, value: str, column: str | None = None) -> int:
    query = "SELECT id FROM pp_photo WHERE value = :value AND source IS NOT NULL ORDER BY id"
    if column is not None:
        query = query.replace("value = :value", f"value = :value AND field = '{column}'")
    return int(site.execute(query, value=value)[0][0])


def taken_back(site: Site, *photos: int) -> RolledBack:
    """The photos with their copies, as the command does it; all in one batch."""
    with site.project() as project:
        ((batch, ids),) = locate_with_copies(project.database, project.config, photos).items()
        return roll_back_batch(project, batch, run=new_run_id(), only_photos=ids)


def row(site: Site, columns: str, number: int = 0) -> tuple[Any, ...]:
    (found,) = site.execute(f"SELECT {columns} FROM item_photos WHERE alt = 'photo {number}'")
    return tuple(found)


def assert_ledger_is_vouched_for(site: Site) -> None:
    with site.project() as project, project.database.read() as connection:
        verdict = verify_ledger(connection)
    assert (verdict.broken_seq, verdict.unaudited) == (None, 0)


@MOSTLY_SQLITE
def test_a_primary_photo_takes_its_copy_and_its_facts_along(make_site: MakeSite, database: str) -> None:
    rows = [item_photo(n, f"/uploads/items/{n}.jpg", f"/uploads/items/{n}.jpg") for n in range(2)]
    site = make_site(photos=2, rows=rows, database=database)
    before = site.dump()
    migrated(site)
    other = row(site, "*", 1)
    outcome = taken_back(site, photo_id(site, "/uploads/items/0.jpg", "original_url"))
    assert (outcome.photos, outcome.rolled_back, outcome.rows) == (2, 2, 1)
    assert str(row(site, "*", 0)) in str(before)
    assert row(site, "*", 1) == other
    rolled_back(site)
    assert site.dump() == before


@MOSTLY_SQLITE
def test_a_copy_goes_back_alone(make_site: MakeSite, database: str) -> None:
    rows = [item_photo(0, "/uploads/items/0.jpg", "/uploads/items/0.jpg")]
    site = make_site(photos=1, rows=rows, database=database)
    before = site.dump()
    migrated(site)
    was = row(site, "original_url, width, file_size, updated_at")
    assert taken_back(site, photo_id(site, "/uploads/items/0.jpg", "thumbnail_url")).rolled_back == 1
    assert row(site, "thumbnail_url") == ("/uploads/items/0.jpg",)
    assert row(site, "original_url, width, file_size, updated_at") == was
    assert site.states() == {"migrated": 1, "rolled_back": 1}
    assert rolled_back(site).rolled_back == 1
    assert site.dump() == before
    assert_ledger_is_vouched_for(site)


@MOSTLY_SQLITE
@pytest.mark.parametrize("first", ["original_url", "thumbnail_url"])
def test_what_was_written_back_goes_with_the_photo_that_it_speaks_of(
    make_site: MakeSite, database: str, first: str
) -> None:
    rows = [item_photo(0, "/uploads/items/0.jpg", "/uploads/items/1.jpg")]
    site = make_site(photos=2, rows=rows, sources=[TWO_PHOTOS], database=database)
    before = site.dump()
    migrated(site)
    facts, touched = row(site, "width, file_size, mime_type"), row(site, "updated_at")
    value = "/uploads/items/0.jpg" if first == "original_url" else "/uploads/items/1.jpg"
    taken_back(site, photo_id(site, value))
    shown = row(site, "original_url, thumbnail_url")
    assert [url.startswith("/") for url in shown] == [first == "original_url", first == "thumbnail_url"]
    assert row(site, "width, file_size, mime_type") == (
        (None, None, None) if first == "original_url" else facts
    )
    assert row(site, "updated_at") == touched  # it tells of the row, which is migrated in part
    with site.project() as project:
        assert every_rewritten_row_is_backed(project.database, project.config, BATCH).holds
    assert rolled_back(site).rolled_back == 1
    assert site.dump() == before
    assert_ledger_is_vouched_for(site)


@MOSTLY_SQLITE
@pytest.mark.parametrize("then", ["the batch", "photo by photo"])
def test_one_photo_leaves_a_text_and_the_others_stay(make_site: MakeSite, database: str, then: str) -> None:
    site = posts(make_site, text_source(), HTML, database=database)
    before = site.dump()
    migrated(site)
    (whole,) = bodies(site)
    ((new,),) = site.execute("SELECT new_value FROM pp_photo WHERE value = '/uploads/items/1.jpg'")
    outcome = taken_back(site, photo_id(site, "/uploads/items/1.jpg"))
    assert (outcome.photos, outcome.rolled_back, outcome.conflicts) == (1, 1, 0)
    # The same photo, spelled with its host and escapes, is another reference, and stays.
    assert bodies(site) == [whole.replace(f"{new} 2x", "/uploads/items/1.jpg 2x")]
    assert site.states() == {"migrated": 3, "rolled_back": 1}
    with site.project() as project:
        assert every_rewritten_row_is_backed(project.database, project.config, BATCH).holds
        part = bodies(site)
        site.inventory(project)
        assert batches_to_migrate(project.database) == []
    assert site.states() == {"migrated": 3, "rolled_back": 1}
    assert bodies(site) == part
    if then == "the batch":
        assert rolled_back(site).rolled_back == 3
    else:
        for (each,) in site.execute("SELECT id FROM pp_photo WHERE state = 'migrated' ORDER BY id"):
            assert taken_back(site, each).rolled_back == 1
    assert site.dump() == before
    assert site.states() == {"rolled_back": 4}
    assert_ledger_is_vouched_for(site)


@pytest.mark.parametrize(
    ("database", "column"),
    [
        ("sqlite", "TEXT"),
        pytest.param("postgres", "TEXT", marks=pytest.mark.slow),
        ("postgres", "JSONB"),
    ],
)
def test_one_photo_leaves_a_json_document(make_site: MakeSite, database: str, column: str) -> None:
    document = '[{"url": "/uploads/items/0.jpg"}, {"url": "/uploads/items/1.jpg", "alt": "é"}]'
    site = posts(make_site, json_source(), document, database=database, column=column)
    before = site.dump()
    migrated(site)
    assert taken_back(site, photo_id(site, "/uploads/items/0.jpg")).rolled_back == 1
    (text,) = bodies(site)
    assert '"/uploads/items/0.jpg"' in text
    assert '"/uploads/items/1.jpg"' not in text
    assert rolled_back(site).rolled_back == 1
    assert site.dump() == before


@MOSTLY_SQLITE
def test_it_leaves_a_text_that_was_repointed_since(make_site: MakeSite, database: str) -> None:
    site = posts(make_site, text_source(), HTML, database=database)
    before = site.dump()
    migrated(site)
    address = to_another_domain(site)
    assert repointed(site).repointed == 4
    assert taken_back(site, photo_id(site, "/uploads/items/0.jpg")).rolled_back == 1
    (text,) = bodies(site)
    assert text.count("/uploads/items/0.jpg") == 2
    assert text.replace("\\/", "/").count(address) == 3
    assert repointed(site).already_there == 3
    assert rolled_back(site).rolled_back == 3
    assert site.dump() == before
    assert_ledger_is_vouched_for(site)


@MOSTLY_SQLITE
def test_it_leaves_a_text_with_photos_of_several_batches(make_site: MakeSite, database: str) -> None:
    site = posts(make_site, text_source(), HTML, database=database, batch_size=1)
    before = site.dump()
    site.migrate()
    ids = [each for (each,) in site.execute("SELECT id FROM pp_photo WHERE source = 'posts' ORDER BY id")]
    assert len(ids) == 4
    for each in (ids[1], ids[3], ids[0], ids[2]):
        assert taken_back(site, each).rolled_back == 1
    assert site.dump() == before
    assert_ledger_is_vouched_for(site)


IMAGES = "".join(f'<img src="/uploads/items/{number}.jpg">' for number in range(3))


def next_photo_migrated(site: Site, number: int) -> None:
    """A file turns up of a photo that the text has shown all along."""
    photo(site.uploads / f"items/{number}.jpg", seed=number)
    for batch in uploaded(site):
        assert rewritten(site, batch).rewritten == 1


@pytest.mark.parametrize("order", [(2, 1), pytest.param((1, 2), marks=pytest.mark.slow)])
def test_a_text_of_several_batches_goes_back_after_two_repoints(
    make_site: MakeSite, order: tuple[int, ...]
) -> None:
    site = posts(make_site, text_source(), IMAGES, photos=0)
    before = site.dump()
    for number in range(2):
        next_photo_migrated(site, number)
    for prefix in ("moved", "moved-again"):
        site.configure(store=site.settings["store"] | {"prefix": f"{site.name}/{prefix}"})
        for batch in ("batch-000001", "batch-000002"):
            assert repointed(site, batch).repointed == 1
    (moved,) = bodies(site)
    for place, number in enumerate(order):
        outcome = rolled_back(site, f"batch-{number:06}")
        assert (outcome.rolled_back, outcome.conflicts) == (1, 0)
        assert bodies(site)[0].count("moved-again") == 1 - place
        assert bodies(site)[0].count("/photos/") == moved.count("/photos/") == 0
    assert site.dump() == before
    assert_ledger_is_vouched_for(site)


@pytest.mark.slow
def test_of_a_repointed_text_a_photo_goes_that_came_later_than_the_others(make_site: MakeSite) -> None:
    site = posts(make_site, text_source(), IMAGES, photos=2)
    before = site.dump()
    migrated(site)
    # Its place in the batch is free for the one that comes later.
    assert taken_back(site, photo_id(site, "/uploads/items/0.jpg")).rolled_back == 1
    next_photo_migrated(site, 2)
    address = to_another_domain(site)
    assert repointed(site).repointed == 2
    assert taken_back(site, photo_id(site, "/uploads/items/2.jpg")).rolled_back == 1
    (text,) = bodies(site)
    assert [text.count(each) for each in ("/0.jpg", "/2.jpg", address)] == [1, 1, 1]
    assert rolled_back(site).rolled_back == 1
    assert site.dump() == before
    assert_ledger_is_vouched_for(site)


def test_no_photo_counts_as_rolled_back_that_would_only_return_to_an_earlier_address(
    make_site: MakeSite,
) -> None:
    """What the application wrote between its rewrite and the repoint ends the way back of the first photo."""
    site = posts(make_site, text_source(), IMAGES[: len(IMAGES) // 3], photos=2)
    migrated(site)
    site.execute("UPDATE posts SET body = body || :more", more='<img src="/uploads/items/1.jpg">')
    next_photo_migrated(site, 1)
    address = to_another_domain(site)
    for (batch,) in site.execute("SELECT key FROM pp_batch ORDER BY key"):
        assert repointed(site, batch).repointed == 1
    outcomes = site.roll_back()
    assert sum(each.rolled_back for each in outcomes) == 1
    assert sum(each.conflicts for each in outcomes) == 1
    (text,) = bodies(site)
    assert (text.count(address), text.count('"/uploads/items/1.jpg"')) == (1, 1)
    assert site.execute("SELECT value FROM pp_photo WHERE state = 'conflict'") == [("/uploads/items/0.jpg",)]
    assert site.execute("SELECT COUNT(*) FROM pp_rewrite WHERE outcome = 'applied'") == [(0,)]
    assert_ledger_is_vouched_for(site)


def test_of_a_text_edited_since_nothing_goes_back_and_the_rest_is_reported_later(make_site: MakeSite) -> None:
    site = posts(make_site, text_source(), HTML)
    migrated(site)
    site.execute("UPDATE posts SET body = body || ' edited'")
    edited = bodies(site)
    outcome = taken_back(site, photo_id(site, "/uploads/items/0.jpg"))
    assert (outcome.rolled_back, outcome.conflicts) == (0, 1)
    assert site.states() == {"migrated": 3, "conflict": 1}
    # Its entry stands: it is how the other photos of the text are found.
    assert rolled_back(site).conflicts == 4
    assert bodies(site) == edited


@MOSTLY_SQLITE
def test_where_columns_speak_of_the_row_the_row_goes_back_as_a_whole(
    make_site: MakeSite, database: str
) -> None:
    source = {
        "name": "files",
        "table": "files",
        "key": ["id"],
        "fields": [
            {"kind": "path", "column": "front", "root": "uploads"},
            {"kind": "path", "column": "back", "root": "uploads"},
        ],
        "rewrite": {"mode": "columns", "set": {"disk": "s3"}},
    }
    site = make_site(photos=2, rows=[], sources=[source], database=database)
    site.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, front TEXT, back TEXT, disk VARCHAR(9))")
    site.execute("INSERT INTO files VALUES (1, 'items/0.jpg', 'items/1.jpg', 'local')")
    before = site.dump()
    migrated(site)
    assert taken_back(site, photo_id(site, "items/1.jpg")).rolled_back == 2
    assert site.dump() == before
    assert site.states() == {"rolled_back": 2}


def test_only_its_own_file_is_brought_back_from_the_store(make_site: MakeSite) -> None:
    site = posts(make_site, text_source(), HTML)
    migrated(site)
    for path in (site.uploads / "items").iterdir():
        path.unlink()
    assert taken_back(site, photo_id(site, "/uploads/items/2.jpg")).files_restored == 1
    assert [path.name for path in (site.uploads / "items").iterdir()] == ["2.jpg"]


def test_a_batch_of_which_a_photo_went_back_is_as_open_as_it_was(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after an interruption: nobody has to finish it by rolling the whole batch back."""
    site = make_site(photos=2)
    migrated(site)
    chosen = photo_id(site, "/uploads/items/0.jpg")

    def interrupt(_self: RowRollback, connection: Connection, _part: Any) -> Any:
        connection.execute(sa.text("SELECT 1"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RowRollback, "roll_back", interrupt)
        with pytest.raises(KeyboardInterrupt):
            taken_back(site, chosen)
    assert site.execute("SELECT state, error FROM pp_batch") == [("completed", None)]
    site.execute("UPDATE pp_photo SET state = 'pending' WHERE value = '/uploads/items/1.jpg'")
    taken_back(site, chosen)
    assert site.execute("SELECT state FROM pp_batch") == [("failed",)]
    assert uploaded(site) == [BATCH]


def test_a_copy_in_another_batch_is_found(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    site.migrate()
    site.execute("UPDATE item_photos SET thumbnail_url = '/uploads/items/0.jpg'")
    site.execute("UPDATE pp_batch SET photos = 1000")  # full: what comes later goes to another one
    site.migrate()
    first, second = (
        photo_id(site, "/uploads/items/0.jpg", column) for column in ("original_url", "thumbnail_url")
    )
    with site.project() as project:
        located = locate_with_copies(project.database, project.config, [first])
    assert sorted(each for ids in located.values() for each in ids) == [first, second]


def test_a_photo_goes_back_although_its_fields_are_called_otherwise_by_now(make_site: MakeSite) -> None:
    source = copy.deepcopy(ITEM_PHOTOS)
    for field in source["fields"]:
        field |= {"role": "duplicate", "variant": "full"}
    site = make_site(
        photos=2, rows=[item_photo(0, "/uploads/items/0.jpg", "/uploads/items/1.jpg")], sources=[source]
    )
    migrated(site)
    for field in source["fields"]:
        field |= {"name": f"new_{field['column']}"}
    site.configure(sources=[source])
    ((photo_id,),) = site.execute("SELECT id FROM pp_photo WHERE field = 'thumbnail_url'")
    assert rolled_back(site, only_photos=[photo_id]).rolled_back == 1
    ((first, second),) = site.execute("SELECT original_url, thumbnail_url FROM item_photos")
    assert first.startswith("http")
    assert second == "/uploads/items/1.jpg"
