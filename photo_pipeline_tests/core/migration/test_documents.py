"""Columns that name many photos (JSON, HTML, Markdown), there and back, on both databases."""

import json
from typing import Any

import pytest

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.migration.ledger_audit import verify_ledger
from photo_pipeline.core.migration.run import new_run_id, validate_batch
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated, rewritten, rolled_back, uploaded
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import Site, photo

HTML = (
    '<p>Grüße <img src="/uploads/items/0.jpg" srcset="/uploads/items/0.jpg 1x, /uploads/items/1.jpg 2x">'
    '<a href="https://elsewhere.example/a.jpg">x</a><a href="/uploads/terms.pdf">terms</a>\r\n'
    '<!-- wp:image {"url":"https:\\/\\/shop.example\\/uploads\\/items\\/1.jpg"} -->'
    '<a href="/share?u=%2Fuploads%2Fitems%2F2.jpg&amp;t=1">share</a> '
    "![x](//shop.example/uploads/items/2.jpg?v=1)"
)


def text_source(**field: Any) -> dict[str, Any]:
    return source({"kind": "text", "column": "body", "root": "uploads"} | field)


def json_source(**field: Any) -> dict[str, Any]:
    return source({"kind": "json", "column": "body", "root": "uploads", "paths": ["$..url"]} | field)


def source(*fields: dict[str, Any], **changes: Any) -> dict[str, Any]:
    plain = {"name": "posts", "table": "posts", "key": ["id"]}
    return plain | {"fields": list(fields), "rewrite": {"mode": "url"}} | changes


def posts(
    make_site: MakeSite,
    source: dict[str, Any],
    *bodies: str,
    database: str = "sqlite",
    column: str = "TEXT",
    photos: int = 3,
    **settings: Any,
) -> Site:
    originals = settings.pop("store_originals", "keep")
    site = make_site(photos=photos, rows=[], sources=[source], database=database, **settings)
    site.configure(store=site.settings["store"] | {"originals": originals})
    site.execute(f"CREATE TABLE posts (id INTEGER PRIMARY KEY, body {column}, title VARCHAR(40))")
    for number, body in enumerate(bodies):
        site.execute(
            f"INSERT INTO posts VALUES (:id, CAST(:body AS {column}), 'about 0.jpg')", id=number, body=body
        )
    return site


def bodies(site: Site) -> list[str]:
    """The cells in their exact text form."""
    return [row[0] for row in site.execute("SELECT CAST(body AS TEXT) FROM posts ORDER BY id")]


def photos_of(site: Site) -> list[tuple[str, str, str | None]]:
    """What the photos are called in the cells: before, state, after."""
    return [
        tuple(row)
        for row in site.execute(
            "SELECT value, state, new_value FROM pp_photo WHERE source='posts' ORDER BY id"
        )
    ]


def ledger(site: Site) -> list[tuple[str, str, str, str]]:
    rows = site.execute('SELECT batch, outcome, "before", "after" FROM pp_rewrite ORDER BY id')
    return [tuple(row) for row in rows]


@MOSTLY_SQLITE
def test_a_text_goes_there_and_back_and_nothing_but_its_photos_changes(
    make_site: MakeSite, database: str
) -> None:
    site = posts(
        make_site, text_source(), HTML, "no photos, not even /uploads/items/0.jpg", database=database
    )
    before = site.dump()
    outcome = migrated(site)
    assert (outcome.rewritten, outcome.rows, outcome.conflicts, outcome.failed) == (5, 1, 0, 0)
    (html, plain) = bodies(site)
    assert plain == "no photos, not even /uploads/items/0.jpg"
    expected = HTML
    # The longest first: one spelling may begin another.
    for value, state, new in sorted(photos_of(site), key=lambda photo: -len(photo[0])):
        assert state == "migrated"
        expected = expected.replace(value, new or "")
    assert html == expected
    assert "items/" not in html
    assert html.count("http:\\/\\/") == html.count("%2Fphotos%2F") == 1
    assert len(ledger(site)) == 1
    assert site.execute("SELECT COUNT(*) FROM pp_rewrite_photo") == [(5,)]
    assert valid(site)
    assert rolled_back(site).rolled_back == 5
    assert site.dump() == before
    assert site.states() == {"rolled_back": 5}


@pytest.mark.parametrize(
    ("database", "column"),
    [
        ("sqlite", "TEXT"),
        ("postgres", "JSONB"),
        pytest.param("postgres", "JSON", marks=pytest.mark.slow),
        pytest.param("postgres", "TEXT", marks=pytest.mark.slow),
    ],
)
def test_json_goes_there_and_back_in_its_own_spelling(
    make_site: MakeSite, database: str, column: str
) -> None:
    document = (
        '{ "b":[{"url":"\\/uploads\\/items\\/0.jpg","n":1.50},{"url":"/uploads/items/1.jpg"}],'
        '"n":123456789012345678901234567890,"é":"/uploads/items/2.jpg", "url" :"https://else.example/x.jpg"}'
    )
    site = posts(make_site, json_source(), document, database=database, column=column)
    before, dump = bodies(site), site.dump()
    assert migrated(site).rewritten == 2
    (after,) = bodies(site)
    old, new = json.loads(before[0]), json.loads(after)
    assert [entry["url"].startswith("http://") for entry in new["b"]] == [True, True]
    assert ("\\/photos\\/" in after) == (column != "JSONB")
    assert (new["n"], new["é"], new["url"]) == (old["n"], old["é"], old["url"])
    assert valid(site)
    assert rolled_back(site).rolled_back == 2
    assert bodies(site) == before
    assert site.dump() == dump


@MOSTLY_SQLITE
def test_a_photo_that_fails_stays_in_the_text_and_follows_later(make_site: MakeSite, database: str) -> None:
    site = posts(
        make_site, text_source(), "![a](/uploads/items/0.jpg) ![b](/uploads/items/1.jpg)", database=database
    )
    before = site.dump()
    uploaded(site)
    site.execute(
        "UPDATE pp_object SET verified_at = NULL WHERE source_sha256 = "
        "(SELECT sha256 FROM pp_photo WHERE value = '/uploads/items/1.jpg')"
    )
    outcome = rewritten(site)
    assert (outcome.rewritten, outcome.not_ready) == (1, 1)
    (half,) = bodies(site)
    assert half.endswith("![b](/uploads/items/1.jpg)")
    assert half.startswith("![a](http")
    assert migrated_again(site) == 1
    assert "uploads" not in bodies(site)[0]
    assert [row[1] for row in ledger(site)] == ["applied", "applied"]
    assert rolled_back(site).rolled_back == 2
    assert site.dump() == before


def migrated_again(site: Site) -> int:
    """Prove what is not proven, and rewrite."""
    (batch,) = uploaded(site)
    return rewritten(site, batch).rewritten


@pytest.mark.parametrize(
    ("database", "order"),
    [
        ("sqlite", (2, 1, 3)),
        pytest.param("postgres", (2, 1, 3), marks=pytest.mark.slow),
        pytest.param("sqlite", (1, 2, 3), marks=pytest.mark.slow),
        pytest.param("sqlite", (3, 2, 1), marks=pytest.mark.slow),
    ],
)
def test_a_text_with_photos_of_three_batches_goes_back_in_any_order(
    make_site: MakeSite, database: str, order: tuple[int, ...]
) -> None:
    body = " ".join(f"![{n}](/uploads/items/{n}.jpg)" for n in range(3))
    site = posts(make_site, text_source(), body, database=database, photos=0)
    before = site.dump()
    for number in range(3):  # Photos of one row go into one batch, unless a file turns up later.
        photo(site.uploads / f"items/{number}.jpg", seed=number)
        (batch,) = uploaded(site)
        assert rewritten(site, batch).rewritten == 1
    assert "uploads" not in bodies(site)[0]
    left = {1, 2, 3}
    for number in order:
        assert rolled_back(site, f"batch-{number:06d}").rolled_back == 1
        left -= {number}
        (text,) = bodies(site)
        assert {n for n in (1, 2, 3) if f"/uploads/items/{n - 1}.jpg" not in text} == left
        assert site.states().get("migrated", 0) == len(left)
    assert site.dump() == before
    assert {row[1] for row in ledger(site)} == {"rolled_back"}
    assert chain_is_whole(site)
    assert ledger_verdict(site) == (True, 0)


@pytest.mark.slow
def test_a_shared_text_does_not_go_back_to_a_file_that_is_gone(make_site: MakeSite) -> None:
    body = "![0](/uploads/items/0.jpg) ![1](/uploads/items/1.jpg)"
    site = posts(make_site, text_source(), body, photos=0, store_originals="discard")
    for number in range(2):
        photo(site.uploads / f"items/{number}.jpg", seed=number)
        (batch,) = uploaded(site)
        assert rewritten(site, batch).rewritten == 1
    after = bodies(site)
    (site.uploads / "items/0.jpg").unlink()
    outcome = rolled_back(site, "batch-000001")
    assert (outcome.rolled_back, outcome.failed) == (0, 1)
    assert bodies(site) == after


def ledger_verdict(site: Site) -> tuple[bool, int]:
    """Whether the audit log vouches for the ledger, and for how many of its rows it does not."""
    with site.project() as project, project.database.read() as connection:
        verdict = verify_ledger(connection)
    return verdict.holds, verdict.unaudited


def chain_is_whole(site: Site) -> bool:
    """Every text in the ledger's `before` is another entry's `after`, or the first text."""
    entries = ledger(site)
    afters = {row[3] for row in entries} | {entries[0][2]}
    return all(row[2] in afters for row in entries)


@MOSTLY_SQLITE
def test_an_edit_elsewhere_in_the_text_is_kept_and_the_photo_is_rewritten(
    make_site: MakeSite, database: str
) -> None:
    site = posts(make_site, text_source(), "old ![a](/uploads/items/0.jpg)", database=database)
    uploaded(site)
    site.execute("UPDATE posts SET body = 'new ![a](/uploads/items/0.jpg) more'")
    assert rewritten(site).rewritten == 1
    (text,) = bodies(site)
    assert text.startswith("new ![a](http")
    assert text.endswith(") more")
    assert rolled_back(site).rolled_back == 1
    assert bodies(site) == ["new ![a](/uploads/items/0.jpg) more"]


@MOSTLY_SQLITE
def test_a_photo_that_the_application_took_out_is_a_conflict_and_the_others_go_on(
    make_site: MakeSite, database: str
) -> None:
    site = posts(
        make_site, text_source(), "![a](/uploads/items/0.jpg) ![b](/uploads/items/1.jpg)", database=database
    )
    uploaded(site)
    site.execute("UPDATE posts SET body = '![b](/uploads/items/1.jpg)'")
    outcome = rewritten(site)
    assert (outcome.rewritten, outcome.conflicts) == (1, 1)
    assert bodies(site)[0].startswith("![b](http")


@MOSTLY_SQLITE
def test_a_text_that_was_edited_since_is_reported_and_left_by_the_rollback(
    make_site: MakeSite, database: str
) -> None:
    site = posts(
        make_site,
        text_source(),
        "![a](/uploads/items/0.jpg)",
        "![b](/uploads/items/1.jpg)",
        database=database,
    )
    before = bodies(site)
    migrated(site)
    edited = bodies(site)[0] + " edited"
    site.execute("UPDATE posts SET body = :body WHERE id = 0", body=edited)
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.conflicts) == (1, 1)
    assert bodies(site) == [edited, before[1]]
    assert site.states() == {"rolled_back": 1, "conflict": 1}


@MOSTLY_SQLITE
def test_another_inventory_finds_nothing_new_in_a_migrated_text(make_site: MakeSite, database: str) -> None:
    site = posts(make_site, text_source(), HTML, database=database)
    migrated(site)
    after, photos = bodies(site), photos_of(site)
    assert uploaded(site) == []
    assert (bodies(site), photos_of(site)) == (after, photos)
    assert site.states() == {"migrated": 5}


@pytest.mark.slow
@MOSTLY_SQLITE
def test_a_photo_added_to_a_migrated_text_is_migrated_by_the_next_run(
    make_site: MakeSite, database: str
) -> None:
    site = posts(make_site, text_source(), "![a](/uploads/items/0.jpg)", database=database)
    migrated(site)
    site.execute("UPDATE posts SET body = body || ' ![b](/uploads/items/1.jpg)'")
    added = bodies(site)
    (batch,) = uploaded(site)
    assert rewritten(site, batch).rewritten == 1
    assert "uploads" not in bodies(site)[0]
    assert rolled_back(site, batch).rolled_back == 1
    assert bodies(site) == added


def test_json_that_cannot_be_edited_safely_is_reported_and_never_touched(make_site: MakeSite) -> None:
    bad = ['{"url":"/uploads/items/0.jpg","url":"x"}', '{"url":"/uploads/items/1.jpg",}', "plain"]
    site = posts(make_site, json_source(), *bad, '{"url":"/uploads/items/2.jpg"}')
    assert migrated(site).rewritten == 1
    assert bodies(site)[:3] == bad
    found = site.execute("SELECT class, class_detail FROM pp_photo WHERE source = 'posts' ORDER BY row_key")
    assert [row[0] for row in found[:3]] == ["unreadable"] * 3
    assert "stands twice" in found[0][1]
    assert "at character 31" in found[1][1]


def test_resized_copies_become_the_variant_of_their_size(make_site: MakeSite) -> None:
    body = (
        '<img src="/uploads/items/0-150x150.jpg"><img src="/uploads/items/0-300x200.jpg">'
        '<img src="/uploads/items/0.jpg"><img src="/uploads/items/1-99x99.jpg">'
    )
    site = posts(make_site, text_source(size_suffix="-{width}x{height}"), body, photos=1)
    (site.uploads / "items/1-99x99.jpg").write_bytes((site.uploads / "items/0.jpg").read_bytes() + b"\0")
    before = site.dump()
    assert migrated(site).rewritten == 4
    (text,) = bodies(site)
    names = [part.partition('"')[0].rpartition("/")[2] for part in text.split('src="')[1:]]
    assert names == ["thumb.jpg", "full.jpg", "full.jpg", "full.jpg"]
    assert len({photo[0] for photo in site.execute("SELECT sha256 FROM pp_photo WHERE source='posts'")}) == 2
    assert rolled_back(site).rolled_back == 4
    assert site.dump() == before


def test_two_fields_share_a_json_column_and_each_has_its_variant(make_site: MakeSite) -> None:
    full = {"kind": "json", "column": "body", "root": "uploads", "paths": ["$.full"]}
    thumb = full | {"name": "thumb", "paths": ["$.thumb"], "variant": "thumb"}
    document = '{"full":"/uploads/items/0.jpg","thumb":"/uploads/items/0.jpg"}'
    site = posts(make_site, source(full, thumb), document)
    assert migrated(site).rewritten == 2
    new = json.loads(bodies(site)[0])
    assert (new["full"].rpartition("/")[2], new["thumb"].rpartition("/")[2]) == ("full.jpg", "thumb.jpg")
    assert rolled_back(site).rolled_back == 2
    assert bodies(site) == [document]


def test_a_text_too_long_for_its_declared_column_is_left_alone_on_sqlite_too(make_site: MakeSite) -> None:
    short, long = "![a](/uploads/items/0.jpg)", "![a](/uploads/items/1.jpg)" + " " * 150
    site = posts(make_site, text_source(), short, long, column="VARCHAR(200)")
    outcome = migrated(site)
    assert (outcome.rewritten, outcome.failed) == (1, 1)
    assert bodies(site)[1] == long
    ((reason,),) = site.execute("SELECT reason FROM pp_rewrite WHERE outcome = 'failed'")
    assert "column 'body' takes 200; widen the column" in reason


def test_control_without_the_check_the_text_would_be_too_long(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("photo_pipeline.core.migration.ledger.misfit", lambda *_, **__: None)
    site = posts(make_site, text_source(), "![a](/uploads/items/1.jpg)" + " " * 150, column="VARCHAR(200)")
    assert migrated(site).failed == 0
    assert len(bodies(site)[0]) > 200


@MOSTLY_SQLITE
def test_a_generated_column_is_refused_before_anything_is_done(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=1, rows=[], sources=[text_source()], database=database)
    site.execute(
        "CREATE TABLE posts (id INTEGER PRIMARY KEY, a TEXT, body TEXT GENERATED ALWAYS AS (a) STORED)"
    )
    with pytest.raises(ConfigurationError, match="the database generates its values"):
        uploaded(site)


def test_a_real_migration_of_a_text_delivers_every_photo_in_it(make_site: MakeSite) -> None:
    site = posts(make_site, text_source(), HTML)
    before = site.dump()
    (batch,) = site.migrate()
    assert batch.validated is not None
    assert (batch.validated.checked, batch.validated.failed) == (5, 0)
    assert site.roll_back()[0].rolled_back == 5
    assert site.dump() == before


def valid(site: Site) -> bool:
    """Whether the row checks of the validation find every photo where the ledger says it is."""
    return not [
        finding
        for finding in row_findings(site)
        if "says" in finding or "does not name" in finding or "not proven" in finding
    ]


def row_findings(site: Site) -> list[str]:
    with site.project() as project:
        outcome = validate_batch(
            project.database, project.config, project.cdn, "batch-000001", run=new_run_id()
        )
    assert outcome.checked
    return [problem for finding in outcome.findings for problem in finding.problems]
