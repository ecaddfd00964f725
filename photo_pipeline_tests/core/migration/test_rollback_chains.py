"""The way back after several rewrites of one cell, and through what others did to the table since."""

import copy
from contextlib import suppress
from typing import Any

import pytest

from photo_pipeline.core.errors import GuardRefusedError, InfrastructureError, PhotoPipelineError
from photo_pipeline.core.migration import run
from photo_pipeline.core.migration.selection import batches_to_roll_back
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import again, migrated, rewritten, rolled_back, uploaded
from photo_pipeline_tests.core.migration.test_repoint import repointed, to_another_domain
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo

# With a fraction, each rewrite touches the column with a value of its own.
TOUCHED = "2024-05-01 10:00:00.123456"


def site_with_times(make_site: MakeSite, *, photos: int = 1, database: str = "sqlite") -> Site:
    rows = [item_photo(n, f"/uploads/items/{n}.jpg") | {"updated_at": TOUCHED} for n in range(photos)]
    return make_site(photos=photos, rows=rows, database=database)


def forward(site: Site) -> list[str]:
    """The inventory and every open batch, as a plain `migrate` chooses them, without validation."""
    keys = uploaded(site)
    for key in keys:
        rewritten(site, key)
    return keys


def row(site: Site, columns: str, number: int = 0) -> tuple[Any, ...]:
    key = item_photo(number, None)["id"]
    (found,) = site.execute(f"SELECT {columns} FROM item_photos WHERE id = :k", k=key)
    return tuple(found)


def add_thumbnail(site: Site, number: int = 0) -> None:
    """The application makes a resized copy, and leaves the row's time alone."""
    photo(site.uploads / "t.jpg", seed=9, width=32, height=24)
    key = item_photo(number, None)["id"]
    site.execute("UPDATE item_photos SET thumbnail_url = '/uploads/t.jpg' WHERE id = :k", k=key)


@pytest.mark.parametrize(
    "newest_first",
    [True, pytest.param(False, marks=pytest.mark.slow)],
)
def test_a_replaced_primary_photo_keeps_its_facts_when_the_row_s_other_photo_goes_back(
    make_site: MakeSite, newest_first: bool
) -> None:
    source = copy.deepcopy(ITEM_PHOTOS)
    source["fields"][1] |= {"role": "duplicate", "variant": "full"}
    rows = [item_photo(0, "/uploads/items/0.png", "/uploads/items/1.jpg") | {"mime_type": "image/png"}]
    site = make_site(photos=3, rows=rows, sources=[source])
    photo(site.uploads / "items/0.png", seed=5)
    forward(site)
    site.execute(
        "UPDATE item_photos SET original_url = '/uploads/items/2.jpg', mime_type = 'image/jpeg', width = 10"
    )
    forward(site)
    for key in sorted(all_batches(site), reverse=newest_first):
        rolled_back(site, key)
    shown = row(site, "original_url, thumbnail_url, mime_type, width")
    assert shown == ("/uploads/items/2.jpg", "/uploads/items/1.jpg", "image/jpeg", 10)


# Several rewrites of one cell


@MOSTLY_SQLITE
def test_a_time_touched_by_two_rewrites_goes_back_to_the_first_one(
    make_site: MakeSite, database: str
) -> None:
    site = site_with_times(make_site, database=database)
    add_thumbnail(site)
    before = site.dump()
    site.execute("UPDATE item_photos SET thumbnail_url = NULL")
    forward(site)
    (first,) = row(site, "updated_at")
    add_thumbnail(site)
    forward(site)
    (second,) = row(site, "updated_at")
    assert len({TOUCHED, first, second}) == 3
    for key in all_batches(site):
        assert rolled_back(site, key).kept_columns == 0
    assert site.dump() == before


def all_batches(site: Site) -> list[str]:
    with site.project() as project:
        return batches_to_roll_back(project.database)


@MOSTLY_SQLITE
def test_what_the_application_wrote_between_two_rewrites_survives_the_rollback(
    make_site: MakeSite, database: str
) -> None:
    site = site_with_times(make_site, database=database)
    forward(site)
    # The application's edit form saves its row again: the local value, and facts of its own.
    site.execute("UPDATE item_photos SET original_url = '/uploads/items/0.jpg', file_size = 999, width = 77")
    forward(site)
    assert row(site, "original_url")[0].startswith("http")
    assert row(site, "file_size, width") != (999, 77)
    for key in all_batches(site):
        outcome = rolled_back(site, key)
        assert (outcome.rolled_back, outcome.conflicts) == (1, 0)
    assert row(site, "original_url, file_size, width, height, mime_type") == (
        "/uploads/items/0.jpg",
        999,
        77,
        None,
        None,
    )
    assert site.states() == {"rolled_back": 1}


def test_three_rewrites_of_one_cell_go_back_to_the_value_before_the_last_of_them(make_site: MakeSite) -> None:
    site = site_with_times(make_site)
    for size in (None, 111, 222):
        site.execute(
            "UPDATE item_photos SET original_url = '/uploads/items/0.jpg', file_size = :size", size=size
        )
        forward(site)
        assert row(site, "original_url")[0].startswith("http")
    for key in all_batches(site):
        rolled_back(site, key)
    assert row(site, "original_url, file_size") == ("/uploads/items/0.jpg", 222)


ELSEWHERE = "https://shop.example/uploads/items/0.jpg"


@pytest.mark.parametrize(
    "order", [("batch-000001", "batch-000002"), ("batch-000002", "batch-000001")], ids=["oldest", "newest"]
)
@MOSTLY_SQLITE
def test_two_batches_over_one_row_go_back_in_either_order(
    make_site: MakeSite, database: str, order: tuple[str, str]
) -> None:
    site = site_with_times(make_site, database=database)
    first_local = row(site, "file_size, mime_type, width, height, updated_at")
    forward(site)
    # The same file, spelled another way: a new reference, and so a new batch, with the same CDN address.
    site.execute("UPDATE item_photos SET original_url = :u", u=ELSEWHERE)
    last_local = row(site, "file_size, mime_type, width, height, updated_at")
    assert forward(site) == ["batch-000002"]
    on_cdn = row(site, "original_url")
    for position, key in enumerate(order):
        go_back_or_be_refused(site, key)
        if position == 0:
            expected = on_cdn if key == "batch-000001" else (ELSEWHERE,)
            assert row(site, "original_url") in {expected, (ELSEWHERE,)}
    # What was refused while a newer rewrite stood on top of it can go back now.
    for key in all_batches(site):
        rolled_back(site, key)
    assert row(site, "original_url") == (ELSEWHERE,)
    # Either as the application's last write left them, or as they were before the first rewrite.
    left = row(site, "file_size, mime_type, width, height, updated_at")
    assert all(value in pair for value, *pair in zip(left, first_local, last_local, strict=True))


def go_back_or_be_refused(site: Site, batch: str) -> None:
    with suppress(GuardRefusedError):
        rolled_back(site, batch)


def test_two_batches_over_one_row_are_taken_back_newest_first_by_themselves(make_site: MakeSite) -> None:
    site = site_with_times(make_site)
    forward(site)
    site.execute("UPDATE item_photos SET original_url = :u", u=ELSEWHERE)
    forward(site)
    assert all_batches(site) == ["batch-000002", "batch-000001"]
    site.roll_back()
    assert row(site, "original_url") == (ELSEWHERE,)
    assert all_batches(site) == []


TWO_URLS: dict[str, Any] = ITEM_PHOTOS | {
    "fields": [
        {"kind": "url", "column": "original_url", "root": "uploads"},
        {"kind": "url", "column": "thumbnail_url", "root": "uploads", "role": "duplicate"},
    ],
    "rewrite": {"mode": "url", "touch": ["updated_at"]},
}


@pytest.mark.parametrize("order", [(2, 1), pytest.param((1, 2), marks=pytest.mark.slow)])
def test_a_time_touched_by_turns_of_two_batches_goes_back_to_the_first_one(
    make_site: MakeSite, order: tuple[int, int]
) -> None:
    """A repoint touches it again for each batch: their entries lie between each other."""
    rows = [item_photo(0, "/uploads/items/0.jpg") | {"updated_at": TOUCHED}]
    site = make_site(photos=1, rows=rows, sources=[TWO_URLS])
    site.execute("UPDATE item_photos SET thumbnail_url = '/uploads/t.jpg'")
    before = site.dump()
    forward(site)
    add_thumbnail(site)
    forward(site)
    to_another_domain(site)
    for number in (1, 2):
        assert repointed(site, f"batch-{number:06}").repointed == 1
    for number in order:
        outcome = rolled_back(site, f"batch-{number:06}")
        assert (outcome.rolled_back, outcome.conflicts, outcome.kept_columns) == (1, 0, 0)
    assert site.dump() == before


SAID: dict[str, Any] = TWO_URLS | {"rewrite": {"mode": "url", "set": {"mime_type": "cdn"}}}


@pytest.mark.parametrize("order", [(1, 2), pytest.param((2, 1), marks=pytest.mark.slow)])
def test_what_is_said_of_a_row_goes_back_with_the_last_of_its_photos_whatever_their_batches(
    make_site: MakeSite, order: tuple[int, int]
) -> None:
    rows = [item_photo(0, "/uploads/items/0.jpg") | {"mime_type": "disk"}]
    site = make_site(photos=1, rows=rows, sources=[SAID])
    site.execute("UPDATE item_photos SET thumbnail_url = '/uploads/t.jpg'")
    before = site.dump()
    forward(site)
    add_thumbnail(site)
    forward(site)
    for number, said in zip(order, ("cdn", "disk"), strict=True):
        outcome = rolled_back(site, f"batch-{number:06}")
        assert (outcome.rolled_back, outcome.conflicts, outcome.kept_columns) == (1, 0, 0)
        assert row(site, "mime_type") == (said,)
    assert site.dump() == before
    assert all_batches(site) == []


MARKED = {
    "name": "media",
    "table": "media",
    "key": ["id"],
    "fields": [
        {"kind": "path", "column": "name", "root": "uploads"},
        {"kind": "path", "column": "second", "root": "uploads"},
    ],
    "rewrite": {"mode": "columns", "set": {"disk": "s3"}, "key_template": "{path}"},
}


@pytest.mark.parametrize("order", [(1, 2), pytest.param((2, 1), marks=pytest.mark.slow)])
def test_a_marker_of_two_batches_says_that_the_row_is_local_when_both_are_back(
    make_site: MakeSite, order: tuple[int, int]
) -> None:
    site = make_site(photos=2, rows=[], sources=[MARKED])
    site.execute(
        "CREATE TABLE media (id INTEGER PRIMARY KEY, name VARCHAR(60), second VARCHAR(60), disk VARCHAR(9))"
    )
    site.execute("INSERT INTO media VALUES (1, 'items/0.jpg', NULL, 'local')")
    forward(site)
    site.execute("UPDATE media SET second = 'items/1.jpg'")
    forward(site)
    assert site.states() == {"migrated": 2}
    outcomes = [rolled_back(site, f"batch-{number:06}") for number in order]
    if order == (1, 2):
        # The first one says why it cannot go yet, and is as migrated as it was.
        assert [(each.rolled_back, each.conflicts, each.failed) for each in outcomes] == [
            (0, 0, 1),
            (1, 0, 0),
        ]
        ((detail,),) = site.execute("SELECT error_detail FROM pp_photo WHERE state = 'migrated'")
        assert "batch-000002 has rewritten it again since" in detail
        site.roll_back()
    assert site.execute("SELECT disk FROM media") == [("local",)]
    assert site.states() == {"rolled_back": 2}


# Rollbacks that stay rollbacks


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_rollback_is_not_undone_by_the_next_migrate(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    site = make_site(photos=3)
    before = site.dump()
    migrated(site)

    def interrupted(*_arguments: object) -> None:
        raise interruption

    with monkeypatch.context() as patch:
        patch.setattr(run, "settle_back", interrupted)
        with pytest.raises(interruption):
            rolled_back(site)
    assert site.dump() == before
    forward(site)
    assert site.dump() == before
    assert site.states() == {"rolled_back": 3}
    rolled_back(site)
    assert site.dump() == before
    assert site.execute("SELECT state FROM pp_batch") == [("rolled_back",)]


def test_a_rollback_interrupted_half_way_goes_no_row_forward_again(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=4, rewrite={"rows_per_transaction": 1})
    before = site.dump()
    migrated(site)

    def interrupted_after_two(_step: str, done: int, _total: int | None) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rolled_back(site, progress=interrupted_after_two)
    half_way = site.dump()
    assert half_way != before
    forward(site)
    assert site.dump() == half_way
    for key in all_batches(site):
        rolled_back(site, key)
    assert site.dump() == before


def test_a_photo_rolled_back_alone_stays_so_when_its_batch_has_work_again(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    migrated(site)
    ((chosen,),) = site.execute("SELECT id FROM pp_photo WHERE value = '/uploads/items/0.jpg'")
    rolled_back(site, only_photos=[chosen])
    local = row(site, "*", number=0)
    add_thumbnail(site, number=1)
    assert forward(site) == ["batch-000001"]
    assert row(site, "*", number=0) == local
    assert row(site, "thumbnail_url", number=1)[0].startswith("http")
    assert site.states() == {"migrated": 2, "rolled_back": 1}


def test_a_rewrite_alone_leaves_a_rolled_back_batch_rolled_back(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    before = site.dump()
    migrated(site)
    rolled_back(site)
    assert rewritten(site).rewritten == 0
    assert site.dump() == before
    assert site.states() == {"rolled_back": 2}
    assert site.execute("SELECT state FROM pp_batch") == [("rolled_back",)]
    assert again(site, "batch-000001").rewritten == 2


# What others did to the table since

TOUCHING = {
    "sqlite": [
        "CREATE TRIGGER touching AFTER UPDATE OF original_url ON item_photos BEGIN UPDATE item_photos "
        "SET updated_at = 'trigger ' || hex(randomblob(8)) WHERE id = NEW.id; END"
    ],
    "postgres": [
        "CREATE FUNCTION touching() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "NEW.updated_at := 'trigger ' || substr(gen_random_uuid()::text, 1, 20); RETURN NEW; END $$",
        "CREATE TRIGGER touching BEFORE UPDATE ON item_photos FOR EACH ROW EXECUTE FUNCTION touching()",
    ],
}

# Each photo value that is local again gets a suffix.
MENDING = {
    "sqlite": [
        "CREATE TRIGGER mending AFTER UPDATE OF original_url ON item_photos "
        "WHEN NEW.original_url LIKE '/uploads/%' AND NEW.original_url NOT LIKE '%?v=2' "
        "BEGIN UPDATE item_photos SET original_url = NEW.original_url || '?v=2' WHERE id = NEW.id; END"
    ],
    "postgres": [
        "CREATE FUNCTION mending() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "NEW.original_url := NEW.original_url || '?v=2'; RETURN NEW; END $$",
        "CREATE TRIGGER mending BEFORE UPDATE ON item_photos FOR EACH ROW "
        "WHEN (NEW.original_url LIKE '/uploads/%') EXECUTE FUNCTION mending()",
    ],
}


def execute_all(site: Site, statements: list[str]) -> None:
    for statement in statements:
        site.execute(statement)


@DATABASES
def test_a_trigger_that_sets_the_time_again_is_reported_and_keeps_no_photo_from_going_back(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=1, database=database)
    execute_all(site, TOUCHING[database])
    local = row(site, "original_url, file_size, mime_type, width, height")
    migrated(site)
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.conflicts, outcome.failed) == (1, 0, 0)
    assert outcome.kept_columns >= 1
    assert row(site, "original_url, file_size, mime_type, width, height") == local
    assert row(site, "updated_at")[0].startswith("trigger ")
    ((outcome_of_time, reason),) = site.execute(
        "SELECT outcome, reason FROM pp_rewrite WHERE \"column\" = 'updated_at'"
    )
    assert outcome_of_time != "rolled_back"
    assert reason


@MOSTLY_SQLITE
def test_a_trigger_that_changes_the_photo_column_itself_makes_the_rollback_of_its_row_fail(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=1, database=database)
    migrated(site)
    execute_all(site, MENDING[database])
    on_cdn = site.dump()
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.failed) == (0, 1)
    assert site.dump() == on_cdn
    assert site.states() == {"migrated": 1}
    ((detail,),) = site.execute("SELECT error_detail FROM pp_photo WHERE error_type = 'rollback_failed'")
    assert "original_url" in detail
    site.execute("DROP TRIGGER mending" + (" ON item_photos" if database == "postgres" else ""))
    assert rolled_back(site).rolled_back == 1
    assert row(site, "original_url") == ("/uploads/items/0.jpg",)


@MOSTLY_SQLITE
def test_a_written_back_column_dropped_since_is_reported_and_the_rest_goes_back(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=2, database=database)
    rest = "original_url, file_size, width, height, updated_at"
    before = [row(site, rest, number=n) for n in range(2)]
    migrated(site)
    site.execute("ALTER TABLE item_photos DROP COLUMN mime_type")
    site.settings["sources"][0]["rewrite"]["write_back"].pop("mime_type")
    site.configure()
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.conflicts, outcome.failed) == (2, 0, 0)
    assert [row(site, rest, number=n) for n in range(2)] == before
    assert outcome.kept_columns == 2
    reasons = site.execute("SELECT outcome, reason FROM pp_rewrite WHERE \"column\" = 'mime_type'")
    assert all(each[0] != "rolled_back" and each[1] for each in reasons)


def test_a_rollback_whose_uploads_folder_is_not_there_is_refused_and_restores_nothing(
    make_site: MakeSite,
) -> None:
    site = make_site(photos=2)
    before = site.dump()
    migrated(site)
    on_cdn = site.dump()
    elsewhere = site.uploads.rename(site.home / "unmounted")
    with pytest.raises((GuardRefusedError, InfrastructureError)) as refusal:
        rolled_back(site)
    assert "uploads" in str(refusal.value)
    assert isinstance(refusal.value, PhotoPipelineError)
    assert not site.uploads.exists()
    assert site.dump() == on_cdn
    assert site.states() == {"migrated": 2}
    elsewhere.rename(site.uploads)
    assert rolled_back(site).rolled_back == 2
    assert site.dump() == before
