"""The rewrite of rows, seen from the application's tables and the ledger, on both databases."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from photo_pipeline.core.catalog.tables import PhotoState
from photo_pipeline.core.errors import DeliveryError
from photo_pipeline.core.migration import row_chunks
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import batch_photos, object_rows
from photo_pipeline.core.migration.row_rewrite import RowCounts, RowRewriter
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import again, migrated, rewritten, rolled_back, uploaded
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo

# PostgreSQL as well in `make test-all`: what these tests show differs little between the databases.


def urls(site: Site) -> dict[str, str]:
    rows = site.execute("SELECT alt, original_url FROM item_photos")
    return {row[0].removeprefix("photo "): row[1] for row in rows}


def on_cdn(site: Site) -> set[str]:
    return {number for number, url in urls(site).items() if url.startswith("http")}


def ledger(site: Site) -> dict[str, int]:
    rows = site.execute("SELECT outcome, COUNT(*) FROM pp_rewrite GROUP BY outcome")
    return {row[0]: row[1] for row in rows}


def reasons(site: Site) -> list[str]:
    return [row[0] for row in site.execute("SELECT reason FROM pp_rewrite WHERE reason IS NOT NULL")]


def source(**changes: Any) -> dict[str, Any]:
    plain = {"name": "photos", "table": "photos", "key": ["id"]}
    field = {"kind": "url", "column": "url", "root": "uploads"}
    return plain | {"fields": [field], "rewrite": {"mode": "url"}} | changes


@DATABASES
def test_an_edit_between_inventory_and_rewrite_is_kept_and_recorded(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=3, database=database)
    uploaded(site)
    site.execute("UPDATE item_photos SET original_url = '/uploads/new.jpg' WHERE alt = 'photo 1'")
    outcome = rewritten(site)
    assert (outcome.rewritten, outcome.conflicts, outcome.failed) == (2, 1, 0)
    assert urls(site)["1"] == "/uploads/new.jpg"
    assert on_cdn(site) == {"0", "2"}
    assert site.states() == {"migrated": 2, "conflict": 1}
    assert "the application changed the value" in reasons(site)[0]
    ((size, touched),) = site.execute("SELECT file_size, updated_at FROM item_photos WHERE alt = 'photo 1'")
    assert (size, touched) == (None, "2024-05-01 10:00:00")


@MOSTLY_SQLITE
def test_a_deleted_row_is_recorded_and_the_others_go_on(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=3, database=database)
    uploaded(site)
    site.execute("DELETE FROM item_photos WHERE alt = 'photo 0'")
    outcome = rewritten(site)
    assert (outcome.rewritten, outcome.conflicts) == (2, 1)
    assert reasons(site) == ["the row was deleted"]
    assert site.execute("SELECT COUNT(*) FROM item_photos") == [(2,)]


@MOSTLY_SQLITE
def test_the_ledger_has_each_changed_column_before_and_after(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=2, database=database)
    before = {(f"{c}", r[0]): r[i] for r, c, i in cells(site)}
    migrated(site)
    after = {(f"{c}", r[0]): r[i] for r, c, i in cells(site)}
    changed = {key for key in before if before[key] != after[key]}
    entries = site.execute('SELECT "column", row_key, "before", "after", outcome FROM pp_rewrite')
    assert len(entries) == len(changed) == 2 * 6
    assert {entry[4] for entry in entries} == {"applied"}
    for column, row_key, old, new, _ in entries:
        cell = (column, row_key.strip('[]"'))
        assert (old, new) == (text(before[cell]), text(after[cell]))


@MOSTLY_SQLITE
def test_the_ledger_names_the_photo_of_a_photo_column_and_of_no_other(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=2, database=database)
    migrated(site)
    linked = site.execute(
        'SELECT r."column", r.photo_id, f.id FROM pp_rewrite r '
        'LEFT JOIN pp_photo f ON f.row_id = r.row_id AND f."column" = r."column" AND f.locator IS NULL'
    )
    assert sum(row[0] == "original_url" for row in linked) == 2
    for column, photo, real in linked:
        assert photo == real
        assert (photo is None) == (column != "original_url")
    assert site.execute("SELECT * FROM pp_rewrite_photo") == [], "links are for cells with several photos"


@MOSTLY_SQLITE
@pytest.mark.parametrize("edited", [False, True])
def test_a_row_that_shows_the_cdn_can_be_rewritten_once_more_and_taken_back_to_its_first_value(
    make_site: MakeSite, database: str, edited: bool
) -> None:
    site = make_site(photos=1, database=database)
    before = site.dump()
    migrated(site)
    if edited:
        site.execute("UPDATE item_photos SET original_url = '/uploads/new.jpg'")
    (outcome,) = rewritten_once_more(site, "https://other.example")
    assert (outcome.rewritten, outcome.conflicts) == ((0, 1) if edited else (1, 0))
    assert urls(site)["0"].startswith("/uploads/new.jpg" if edited else "https://other.example/")
    if not edited:
        assert rolled_back(site).rolled_back == 1
        assert site.dump() == before


def rewritten_once_more(site: Site, cdn: str) -> list[RowCounts]:
    """Rewrite migrated rows under another CDN address, on the strength of the objects that they have."""
    site.configure(cdn={"base_url": cdn})
    with site.project() as project:
        photos = batch_photos(project.database, "batch-000001", [PhotoState.MIGRATED])
        naming = ObjectNaming(project.config, project.database)
        keys = [each.key for photo in photos for each in naming.needed(photo, None)]
        with project.database.write() as connection:
            objects = object_rows(connection, project.config.store.bucket, keys)
            rewriter = RowRewriter(
                project.database,
                project.config,
                naming,
                objects,
                batch="batch-000001",
                run="again",
                expected_state=PhotoState.MIGRATED,
            )
            return [rewriter.rewrite(connection, [photo], photo) for photo in photos]


def cells(site: Site) -> list[tuple[Any, str, int]]:
    columns = ["original_url", "file_size", "mime_type", "width", "height", "alt", "updated_at"]
    rows = site.execute(f"SELECT id, {', '.join(columns)} FROM item_photos")
    return [(row, column, place) for row in rows for place, column in enumerate(columns, start=1)]


def text(value: object) -> str | None:
    return None if value is None else str(value)


@MOSTLY_SQLITE
def test_facts_of_the_shown_variant_are_written_back(make_site: MakeSite, database: str) -> None:
    back = {"file_size": "bytes", "mime_type": "mime", "width": "width", "alt": "formats_json"}
    rewrite = {"mode": "url", "format": "webp", "write_back": back, "touch": ["updated_at"]}
    site = make_site(photos=1, database=database, sources=[ITEM_PHOTOS | {"rewrite": rewrite}])
    migrated(site)
    ((url, size, mime, width, formats, touched),) = site.execute(
        "SELECT original_url, file_size, mime_type, width, alt, updated_at FROM item_photos"
    )
    assert url.endswith("/full.webp")
    assert (mime, width) == ("image/webp", 1200)
    assert site.execute("SELECT bytes FROM pp_object WHERE key = :k", k=key_of(site, url)) == [(size,)]
    assert url in formats
    assert touched > "2024-05-01 10:00:00"
    assert len(touched) >= len("2024-05-01 10:00:00")


def key_of(site: Site, url: str) -> str:
    return url.removeprefix(site.settings["cdn"]["base_url"] + "/")


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("sha256", "sha256"), ("s3_key", "key"), ("bucket", "bucket"), ("url.thumb", "thumb")],
)
def test_a_column_receives_what_the_mapping_asks_for(
    make_site: MakeSite, quantity: str, expected: str
) -> None:
    rewrite = {"mode": "url", "write_back": {"alt": quantity}}
    site = make_site(photos=1, sources=[ITEM_PHOTOS | {"rewrite": rewrite}])
    migrated(site)
    ((url, value),) = site.execute("SELECT original_url, alt FROM item_photos")
    ((sha256,),) = site.execute("SELECT sha256 FROM pp_photo WHERE source IS NOT NULL")
    wanted = {
        "sha256": sha256,
        "key": key_of(site, url),
        "bucket": site.settings["store"]["bucket"],
        "thumb": url.replace("/full.jpg", "/thumb.jpg"),
    }
    assert value == wanted[expected]


def test_an_auto_url_lets_the_cdn_choose(make_site: MakeSite) -> None:
    site = make_site(photos=1, sources=[ITEM_PHOTOS | {"rewrite": {"mode": "url", "format": "auto"}}])
    outcome = migrated(site)
    assert urls(site)["0"].endswith("/full.auto")
    assert outcome.canary_urls == 12  # each variant and format, by name and by Accept


def test_nothing_else_in_the_row_is_written(make_site: MakeSite) -> None:
    site = make_site(photos=2, sources=[ITEM_PHOTOS | {"rewrite": {"mode": "url"}, "protect": ["alt"]}])
    others = "SELECT id, item_id, alt, file_size, width, updated_at FROM item_photos ORDER BY id"
    before = site.execute(others)
    migrated(site)
    assert site.execute(others) == before
    assert on_cdn(site) == {"0", "1"}


@MOSTLY_SQLITE
def test_both_fields_of_one_row_change_together(make_site: MakeSite, database: str) -> None:
    rows = [item_photo(n, f"/uploads/items/{n}.jpg", f"/uploads/items/{n + 2}.jpg") for n in range(2)]
    site = make_site(photos=4, rows=rows, database=database)
    outcome = migrated(site)
    assert (outcome.rewritten, outcome.rows) == (4, 2)
    for full, thumb in site.execute("SELECT original_url, thumbnail_url FROM item_photos"):
        assert thumb == full.replace("/full.jpg", "/thumb.jpg")


def test_an_edited_copy_is_left_while_its_primary_is_rewritten(make_site: MakeSite) -> None:
    site = make_site(photos=2, rows=[item_photo(0, "/uploads/items/0.jpg", "/uploads/items/1.jpg")])
    uploaded(site)
    site.execute("UPDATE item_photos SET thumbnail_url = 'mine'")
    outcome = rewritten(site)
    assert (outcome.rewritten, outcome.conflicts) == (1, 1)
    ((full, thumb),) = site.execute("SELECT original_url, thumbnail_url FROM item_photos")
    assert full.startswith("http")
    assert thumb == "mine"


def narrow(site: Site, limit: int) -> None:
    site.execute(f"CREATE TABLE photos (id INTEGER PRIMARY KEY, url VARCHAR({limit}) NOT NULL)")
    for number in range(2):
        site.execute("INSERT INTO photos VALUES (:i, :u)", i=number, u=f"/uploads/items/{number}.jpg")


def test_a_url_too_long_for_its_column_is_refused_with_advice_while_others_go_on(
    make_site: MakeSite,
) -> None:
    site = make_site(photos=2, database="postgres", sources=[ITEM_PHOTOS, source()])
    narrow(site, 60)
    outcome = migrated(site)
    assert (outcome.rewritten, outcome.failed) == (2, 2)
    assert all("column 'url' takes 60; widen the column or use rewrite mode key" in r for r in reasons(site))
    assert site.execute("SELECT url FROM photos ORDER BY id") == [
        ("/uploads/items/0.jpg",),
        ("/uploads/items/1.jpg",),
    ]


def test_a_key_fits_where_the_url_does_not(make_site: MakeSite) -> None:
    site = make_site(photos=2, database="postgres", sources=[source()])
    narrow(site, 110)
    migrated(site)
    ((needed,),) = site.execute("SELECT MAX(LENGTH(key)) FROM pp_object WHERE variant = 'full'")
    assert needed <= 110
    assert ledger(site) == {"failed": 2}
    site.configure(sources=[source(rewrite={"mode": "key"})])
    with site.project() as project:
        from photo_pipeline.core.migration.lease import BatchLease
        from photo_pipeline.core.migration.process import process_batch
        from photo_pipeline_tests.core.migration.quick import quick_workers

        with BatchLease(project.database, "batch-000001", run="retry") as lease:
            process_batch(project.database, project.config, lease, quick_workers, retry_failed=True)
    assert again(site, "batch-000001").rewritten == 2


REFUSING = {
    "sqlite": [
        "CREATE TRIGGER no BEFORE UPDATE ON item_photos WHEN OLD.alt = 'photo 1' "
        "BEGIN SELECT RAISE(ABORT, 'this one is frozen'); END"
    ],
    "postgres": [
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'this one is frozen'; END $$",
        "CREATE TRIGGER no BEFORE UPDATE ON item_photos FOR EACH ROW "
        "WHEN (OLD.alt = 'photo 1') EXECUTE FUNCTION no()",
    ],
}


@DATABASES
def test_a_row_that_a_trigger_refuses_costs_only_itself(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=3, database=database)
    for statement in REFUSING[database]:
        site.execute(statement)
    outcome = migrated(site)
    assert (outcome.rewritten, outcome.failed) == (2, 1)
    assert on_cdn(site) == {"0", "2"}
    assert "this one is frozen" in reasons(site)[0]


def test_a_row_whose_new_value_breaks_a_constraint_costs_only_itself(make_site: MakeSite) -> None:
    site = make_site(photos=3, database="postgres")
    site.execute(
        "ALTER TABLE item_photos ADD CHECK (alt <> 'photo 1' OR original_url NOT LIKE 'http%') NOT VALID"
    )
    outcome = migrated(site)
    assert (outcome.rewritten, outcome.failed) == (2, 1)
    assert on_cdn(site) == {"0", "2"}


def test_a_trigger_that_changes_the_new_value_is_noticed_and_the_row_left(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    site.execute(
        "CREATE TRIGGER shout AFTER UPDATE OF original_url ON item_photos WHEN OLD.alt = 'photo 1' "
        "BEGIN UPDATE item_photos SET original_url = UPPER(original_url) WHERE id = NEW.id; END"
    )
    outcome = migrated(site)
    assert (outcome.rewritten, outcome.failed) == (1, 1)
    assert urls(site)["1"] == "/uploads/items/1.jpg"


@MOSTLY_SQLITE
def test_paths_with_composite_keys_become_keys(make_site: MakeSite, database: str) -> None:
    fields = [{"kind": "path", "column": "file", "root": "uploads"}]
    composite = source(key=["album", "place"], fields=fields, rewrite={"mode": "key"})
    site = make_site(photos=4, rows=[], database=database, sources=[composite])
    site.execute("CREATE TABLE photos (album TEXT, place INTEGER, file TEXT, PRIMARY KEY (album, place))")
    for number in range(4):
        values = {"a": f'a"{number % 2}', "p": number // 2, "f": f"items/{number}.jpg"}
        site.execute("INSERT INTO photos VALUES (:a, :p, :f)", **values)
    before = site.dump()
    assert migrated(site).rewritten == 4
    prefix = site.settings["store"]["prefix"]
    values = [row[0] for row in site.execute("SELECT file FROM photos")]
    assert len(set(values)) == 4
    assert all(value.startswith(f"{prefix}/") and value.endswith("/full.jpg") for value in values)
    site.roll_back()
    assert site.dump() == before


@DATABASES
def test_reserved_and_mixed_case_names_are_quoted(make_site: MakeSite, database: str) -> None:
    fields = [{"kind": "url", "column": "photoURL", "root": "uploads"}]
    odd = source(table="order", key=["primary"], fields=fields, position="select") | {
        "rewrite": {"mode": "url", "write_back": {"group": "width"}, "touch": ["updatedAt"]},
        "where": [{"column": "photoURL", "op": "not_null"}],
        "entity": {"type": "item", "id": 'from; DROP TABLE "order" --'},
    }
    site = make_site(photos=2, rows=[], database=database, sources=[odd])
    time_type = "TIMESTAMPTZ" if database == "postgres" else "TEXT"
    site.execute(
        'CREATE TABLE "order" ("primary" INTEGER PRIMARY KEY, "photoURL" TEXT, "select" INTEGER, '
        f'"group" INTEGER, "updatedAt" {time_type}, "from; DROP TABLE ""order"" --" INTEGER)'
    )
    for number in range(2):
        site.execute(
            f"INSERT INTO \"order\" VALUES ({number}, '/uploads/items/{number}.jpg', 1, NULL, "
            "'2024-05-01 10:00:00+00', 5)"
        )
    before = site.dump()
    assert migrated(site).rewritten == 2
    assert site.execute('SELECT "group" FROM "order"') == [(1200,), (1200,)]
    site.roll_back()
    assert site.dump() == before


def test_a_table_in_another_schema_is_rewritten_there(make_site: MakeSite) -> None:
    elsewhere = source(schema="Shop Data")
    site = make_site(photos=1, rows=[], database="postgres", sources=[elsewhere])
    site.execute('CREATE SCHEMA "Shop Data"')
    for schema in ('"Shop Data"', "public"):
        site.execute(f"CREATE TABLE {schema}.photos (id UUID PRIMARY KEY, url TEXT)")
        site.execute(f"INSERT INTO {schema}.photos VALUES (gen_random_uuid(), '/uploads/items/0.jpg')")
    assert migrated(site).rewritten == 1
    assert site.execute("SELECT url FROM public.photos") == [("/uploads/items/0.jpg",)]
    assert site.execute('SELECT url FROM "Shop Data".photos')[0][0].startswith("http")


@contextmanager
def cdn_that(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A real HTTP server in front of nothing; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def not_found(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def wrong_bytes(handler: BaseHTTPRequestHandler) -> None:
    body = b"another picture"
    handler.send_response(200)
    kinds = {"jpg": "jpeg", "ebp": "webp", "vif": "avif"}
    handler.send_header("Content-Type", f"image/{kinds[handler.path[-3:]]}")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize(
    ("answer", "told"), [(not_found, "answers HTTP 404"), (wrong_bytes, "delivers other bytes")]
)
def test_no_row_is_rewritten_while_the_cdn_delivers_something_else(
    make_site: MakeSite, answer: Callable[[BaseHTTPRequestHandler], None], told: str
) -> None:
    with cdn_that(answer) as base_url:
        site = make_site(photos=2, cdn={"base_url": base_url})
        before = site.dump()
        uploaded(site)
        with pytest.raises(DeliveryError, match=told):
            rewritten(site)
        assert site.dump() == before
        assert ledger(site) == {}
        assert site.states() == {"uploaded": 2}


@MOSTLY_SQLITE
def test_a_row_whose_object_is_gone_is_not_rewritten_until_it_is_back(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=2, database=database)
    uploaded(site)
    ((key,),) = site.execute(
        "SELECT o.key FROM pp_object o JOIN pp_photo p ON p.sha256 = o.source_sha256 "
        "WHERE o.variant = 'thumb' AND o.format = 'avif' AND p.value LIKE '%1.jpg'"
    )
    with site.project() as project:
        project.store.delete(key)
    site.execute("UPDATE pp_object SET verified_at = '2020-01-01 00:00:00'")
    outcome = rewritten(site)
    assert (outcome.rewritten, outcome.not_ready) == (1, 1)
    assert on_cdn(site) == {"0"}
    assert site.execute("SELECT state FROM pp_batch") == [("failed",)]
    assert again(site, "batch-000001").rewritten == 1
    assert on_cdn(site) == {"0", "1"}


def test_an_object_replaced_by_other_bytes_is_not_trusted(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    uploaded(site)
    ((key,),) = site.execute("SELECT key FROM pp_object WHERE variant = 'original'")
    with site.project() as project:
        project.store.delete(key)
        project.store.put_new(key, b"somebody else's", content_type="image/jpeg")
    site.execute("UPDATE pp_object SET verified_at = '2020-01-01 00:00:00'")
    assert rewritten(site).not_ready == 1
    assert on_cdn(site) == set()


@MOSTLY_SQLITE
def test_each_transaction_may_hold_a_single_row(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=3, database=database, rewrite={"rows_per_transaction": 1})
    uploaded(site)
    site.execute("UPDATE item_photos SET original_url = 'x' WHERE alt = 'photo 1'")
    outcome = rewritten(site)
    assert (outcome.rewritten, outcome.conflicts, outcome.rows) == (2, 1, 2)
    assert ledger(site) == {"applied": 12, "conflict": 1}


def test_a_second_rewrite_changes_nothing(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    migrated(site)
    rows, entries = site.dump(), ledger(site)
    outcome = rewritten(site)
    assert (outcome.rewritten, outcome.already_done) == (0, 2)
    assert (site.dump(), ledger(site)) == (rows, entries)


def test_a_row_that_the_application_keeps_locked_costs_only_itself(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_chunks, "ROW_LOCK_TIMEOUT_S", 1)
    site = make_site(photos=3, database="postgres")
    uploaded(site)
    engine = site.engine()
    with engine.connect() as application:
        application.exec_driver_sql("SELECT * FROM item_photos WHERE alt = 'photo 1' FOR UPDATE")
        outcome = rewritten(site)
        assert (outcome.rewritten, outcome.not_ready, outcome.conflicts) == (2, 1, 0)
    engine.dispose()
    assert on_cdn(site) == {"0", "2"}
    assert rewritten(site).rewritten == 1
    assert on_cdn(site) == {"0", "1", "2"}
