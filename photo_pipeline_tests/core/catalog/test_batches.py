"""How photos are grouped: size, order, and that a photo's batch never changes."""

import os

import pytest
import sqlalchemy as sa

from photo_pipeline.core.catalog.batches import Batches, assign_batches
from photo_pipeline_tests.core.catalog.conftest import MakeSmallSite
from photo_pipeline_tests.core.catalog.small_site import JPEG, put
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo

# PostgreSQL as well in `make test-all`: what these tests show differs little between the databases.


def batched(site: Site) -> Batches:
    with site.project() as project:
        return site.inventory(project)[1]


def members(site: Site) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for batch, value in site.execute("SELECT batch, value FROM pp_photo WHERE batch IS NOT NULL ORDER BY id"):
        found.setdefault(batch, []).append(value.removeprefix("/uploads/"))
    return found


def many(site: Site, names: list[str]) -> None:
    for number, name in enumerate(names):
        put(site, name, JPEG + bytes([number % 256]))


@MOSTLY_SQLITE
def test_batches_have_the_configured_size(make_small_site: MakeSmallSite, database: str) -> None:
    rows = [item_photo(n, f"/uploads/{n}.jpg") for n in range(7)]
    site = make_small_site(database=database, rows=rows, batch_size=3)
    many(site, [f"{n}.jpg" for n in range(7)])
    batches = batched(site)
    assert batches.keys == batches.new == ("batch-000001", "batch-000002", "batch-000003")
    assert [len(each) for _, each in sorted(members(site).items())] == [3, 3, 1]
    assert site.execute("SELECT photos FROM pp_batch ORDER BY key") == [(3,), (3,), (1,)]


@DATABASES
def test_sources_come_in_their_order_then_first_photos_then_newest_files(
    make_small_site: MakeSmallSite, database: str
) -> None:
    avatars = {
        "name": "avatars",
        "table": "avatars",
        "key": ["id"],
        "fields": [{"kind": "url", "column": "url", "root": "uploads"}],
        "rewrite": {"mode": "url"},
    }
    places = {"old": 0, "new": 0, "second": 1, "nowhere": None}
    rows = [
        item_photo(n, f"/uploads/{name}.jpg") | {"display_order": place}
        for n, (name, place) in enumerate(places.items())
    ]
    site = make_small_site(database=database, rows=rows, batch_size=1, sources=[avatars, ITEM_PHOTOS])
    site.execute("CREATE TABLE avatars (id INTEGER PRIMARY KEY, url TEXT)")
    site.execute("INSERT INTO avatars VALUES (1, '/uploads/avatar.jpg')")
    for age, name in enumerate(["new", "avatar", "second", "old", "nowhere"]):
        path = put(site, f"{name}.jpg")
        os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    keys = batched(site).keys
    assert [members(site)[key] for key in keys] == [
        ["avatar.jpg"],
        ["new.jpg"],
        ["old.jpg"],
        ["second.jpg"],
        ["nowhere.jpg"],
    ]


@MOSTLY_SQLITE
def test_a_photo_stays_in_its_batch_and_later_ones_go_to_new_batches(
    make_small_site: MakeSmallSite, database: str
) -> None:
    rows = [item_photo(n, f"/uploads/{n}.jpg") for n in range(3)]
    site = make_small_site(database=database, rows=rows, batch_size=2)
    many(site, ["0.jpg", "2.jpg"])
    batched(site)
    before = members(site)
    many(site, ["1.jpg"])
    os.utime(site.uploads / "2.jpg", (1, 1))
    assert batched(site).new == ("batch-000002",)
    assert members(site) == before | {"batch-000002": ["1.jpg"]}
    assert batched(site).new == ()


def test_a_completed_batch_with_work_again_is_open_again(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=[item_photo(0, "/uploads/0.jpg")])
    many(site, ["0.jpg"])
    batched(site)
    site.execute("UPDATE pp_batch SET state = 'completed'")
    site.execute("UPDATE pp_photo SET state = 'quarantined'")
    batched(site)
    assert site.execute("SELECT state FROM pp_batch") == [("completed",)]
    put(site, "0.jpg", JPEG + b"a new picture")
    batched(site)
    assert site.execute("SELECT state FROM pp_batch") == [("pending",)]


@MOSTLY_SQLITE
def test_all_fields_of_a_row_share_a_batch(make_small_site: MakeSmallSite, database: str) -> None:
    rows = [item_photo(n, f"/uploads/{n}.jpg", f"/uploads/t{n}.jpg") for n in range(4)]
    site = make_small_site(database=database, rows=rows, batch_size=1)
    many(site, [f"{kind}{n}.jpg" for n in range(4) for kind in ("", "t")])
    assert len(batched(site).keys) == 4
    for names in members(site).values():
        assert len(names) == 2
        assert names[0] == names[1].removeprefix("t")


def test_a_copy_without_its_primary_is_quarantined_until_the_primary_is_there(
    make_small_site: MakeSmallSite,
) -> None:
    site = make_small_site(rows=[item_photo(0, "/uploads/0.jpg", "/uploads/t0.jpg")])
    many(site, ["t0.jpg"])
    assert batched(site).keys == ()
    assert site.execute("SELECT error_type FROM pp_photo WHERE state = 'quarantined'") == [
        ("primary_unavailable",)
    ]
    many(site, ["0.jpg"])
    assert batched(site).new == ("batch-000001",)
    assert sorted(members(site)["batch-000001"]) == ["0.jpg", "t0.jpg"]
    assert site.states() == {"pending": 2}


def test_nothing_to_do_makes_no_batch(make_small_site: MakeSmallSite) -> None:
    assert batched(make_small_site(rows=[])) == Batches((), ())


@pytest.mark.slow
@MOSTLY_SQLITE
def test_2500_photos_fill_25_batches(make_small_site: MakeSmallSite, database: str) -> None:
    rows = [item_photo(n, f"/uploads/{n}.jpg") for n in range(2_500)]
    site = make_small_site(database=database, rows=rows)
    many(site, [f"{n}.jpg" for n in range(2_500)])
    batches = batched(site)
    assert len(batches.keys) == 25
    assert {len(each) for each in members(site).values()} == {100}
    with site.project() as project:
        assert assign_batches(project.database, project.config) == Batches(batches.keys, ())
        with project.database.read() as connection:
            unique = "SELECT COUNT(DISTINCT value) FROM pp_photo WHERE batch IS NOT NULL"
            assert connection.execute(sa.text(unique)).scalar_one() == 2_500
