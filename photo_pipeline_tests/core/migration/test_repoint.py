"""Migrated rows moved to another CDN address, key prefix or recipe, and back to the very first value."""

import copy
import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from photo_pipeline.core.errors import DeliveryError
from photo_pipeline.core.migration.chunk_rewrite import ChunkRewriter
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.repoint import Repointed, repoint_batch
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.migration.state import settle_forward
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import again, migrated, quick_workers, rolled_back
from photo_pipeline_tests.core.migration.test_restore import applied, lose_the_state_tables
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, TINY_VARIANTS, Site, item_photo
from photo_pipeline_tests.sockets import free_port

BATCH = "batch-000001"


def repointed(site: Site, batch: str = BATCH, **options: Any) -> Repointed:
    with site.project() as project, BatchLease(project.database, batch, run=new_run_id()) as lease:
        outcome = repoint_batch(
            project.database, project.config, lease, project.store, project.cdn, quick_workers, **options
        )
        settle_forward(project.database, lease)
        return outcome


def to_another_domain(site: Site) -> str:
    """The same edge under its other name."""
    address = site.settings["cdn"]["base_url"].replace("127.0.0.1", "localhost")
    site.configure(cdn={"base_url": address})
    return str(address)


def to_another_prefix(site: Site) -> str:
    site.configure(store=site.settings["store"] | {"prefix": f"{site.name}/moved"})
    return f"{site.settings['cdn']['base_url']}/{site.name}/moved"


def urls(site: Site) -> list[str]:
    rows = site.execute("SELECT original_url, thumbnail_url FROM item_photos ORDER BY alt")
    return [str(value) for row in rows for value in row if value is not None]


def with_thumbnails(count: int) -> list[dict[str, Any]]:
    return [item_photo(n, f"/uploads/items/{n}.jpg", f"/uploads/items/{n}.jpg") for n in range(count)]


@MOSTLY_SQLITE
@pytest.mark.parametrize("move", [to_another_domain, to_another_prefix])
@pytest.mark.parametrize("back", ["rollback", "restore"])
def test_all_rows_move_and_go_back_to_the_very_first_value(
    make_site: MakeSite, database: str, move: Callable[[Site], str], back: str
) -> None:
    site = make_site(photos=3, rows=with_thumbnails(3), database=database)
    before = site.dump()
    migrated(site)
    old = urls(site)
    address = move(site)
    outcome = repointed(site)
    assert (outcome.repointed, outcome.rows, outcome.conflicts, outcome.failed) == (6, 3, 0, 0)
    assert outcome.objects == (0 if move is to_another_domain else 3 * 6)
    assert outcome.canary_urls == 6
    assert all(url.startswith(f"{address}/") for url in urls(site))
    assert [re.sub(r".*/([0-9a-f]{2}/)", r"\1", url) for url in urls(site)] == [
        re.sub(r".*/([0-9a-f]{2}/)", r"\1", url) for url in old
    ]
    moved = site.dump()
    second = repointed(site)
    assert (second.repointed, second.already_there, site.dump()) == (0, 6, moved)
    if back == "rollback":
        assert rolled_back(site).rolled_back == 6
    else:
        lose_the_state_tables(site)
        assert applied(site).rows_restored == 3
    assert site.dump() == before


@MOSTLY_SQLITE
def test_rows_move_to_the_present_recipe_made_from_originals_when_local_files_are_gone(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=2, database=database)
    before = site.dump()
    migrated(site)
    old = urls(site)
    full = {"fit": "inside", "width": 640, "height": 640}
    thumb = {"fit": "cover", "width": 100, "height": 100}
    site.configure(variants={"default": {"full": full, "thumb": thumb}})
    assert repointed(site).already_there == 2
    shutil.rmtree(site.uploads / "items")
    outcome = repointed(site, present_recipe=True)
    assert (outcome.repointed, outcome.objects, outcome.reasons) == (2, 2 * 6, [])
    assert set(urls(site)).isdisjoint(old)
    assert site.execute("SELECT DISTINCT width FROM item_photos") == [(640,)]
    assert rolled_back(site).files_restored == 2
    assert site.dump() == before


def test_photos_whose_new_objects_cannot_be_made_stay_where_they_are(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    site.configure(store=site.settings["store"] | {"originals": "discard"})
    migrated(site)
    old = urls(site)
    site.configure(
        variants={
            "default": {
                "full": {"fit": "inside", "width": 640, "height": 640},
                "thumb": {"fit": "cover", "width": 100, "height": 100},
            }
        }
    )
    (site.uploads / "items/1.jpg").unlink()
    outcome = repointed(site, present_recipe=True)
    assert (outcome.repointed, outcome.not_ready) == (1, 1)
    assert "no proven original" in outcome.reasons[0]
    assert urls(site)[1] == old[1]
    assert site.states() == {"migrated": 2}


def test_no_row_moves_to_an_address_that_does_not_deliver(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    migrated(site)
    after = site.dump()
    site.configure(cdn={"base_url": f"http://127.0.0.1:{free_port()}"})
    with pytest.raises(DeliveryError):
        repointed(site)
    assert site.dump() == after


@MOSTLY_SQLITE
def test_a_row_edited_since_is_reported_and_left(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=3, database=database)
    migrated(site)
    site.execute("UPDATE item_photos SET original_url = '/uploads/newer.jpg' WHERE alt = 'photo 1'")
    (edited,) = site.execute("SELECT * FROM item_photos WHERE alt = 'photo 1'")
    to_another_domain(site)
    outcome = repointed(site)
    assert (outcome.repointed, outcome.conflicts) == (2, 1)
    assert site.execute("SELECT * FROM item_photos WHERE alt = 'photo 1'") == [edited]
    assert site.states() == {"migrated": 3}
    ((detail,),) = site.execute("SELECT error_detail FROM pp_photo WHERE error_type = 'conflict'")
    assert "the application changed the value" in detail
    rolled = rolled_back(site)
    assert (rolled.rolled_back, rolled.conflicts) == (2, 1)
    assert site.execute("SELECT * FROM item_photos WHERE alt = 'photo 1'") == [edited]


@MOSTLY_SQLITE
@pytest.mark.parametrize("then", ["continue", "roll back"])
def test_an_interrupted_repoint_is_continued_or_taken_back(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, database: str, then: str
) -> None:
    site = make_site(photos=3, database=database, rewrite={"rows_per_transaction": 1})
    before = site.dump()
    migrated(site)
    address = to_another_domain(site)
    rewrite, calls = ChunkRewriter.rewrite, []

    def interrupt(self: ChunkRewriter, connection: Connection, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rewrite(self, connection, *arguments, **options)

    monkeypatch.setattr(ChunkRewriter, "rewrite", interrupt)
    with pytest.raises(KeyboardInterrupt):
        repointed(site)
    assert sum(url.startswith(f"{address}/") for url in urls(site)) == 1
    if then == "continue":
        outcome = repointed(site)
        assert (outcome.repointed, outcome.already_there) == (2, 1)
        assert all(url.startswith(f"{address}/") for url in urls(site))
    assert rolled_back(site).rolled_back == 3
    assert site.dump() == before


@MOSTLY_SQLITE
def test_rows_with_one_content_under_two_recipes_each_keep_their_own(
    make_site: MakeSite, database: str
) -> None:
    rows = [item_photo(n, "/uploads/items/0.jpg") for n in range(2)]
    site = make_site(photos=1, rows=rows, database=database)
    migrated(site)
    ((second,),) = site.execute("SELECT MAX(id) FROM pp_photo WHERE source IS NOT NULL")
    rolled_back(site, only_photos=[second])
    full = {"fit": "inside", "width": 640, "height": 640}
    site.configure(variants={"default": {"full": full, "thumb": full}})
    site.execute("UPDATE pp_photo SET state = 'pending' WHERE state = 'rolled_back'")
    assert again(site, BATCH).rewritten == 1
    old = urls(site)
    assert old[0] != old[1]
    address = to_another_prefix(site)
    outcome = repointed(site)
    assert (outcome.repointed, outcome.not_ready, outcome.reasons) == (2, 0, [])
    before = site.settings["cdn"]["base_url"] + f"/{site.name}/photos"
    assert urls(site) == [url.replace(before, address) for url in old]


def test_by_force_a_fact_goes_back_to_before_the_first_rewrite(make_site: MakeSite) -> None:
    source = copy.deepcopy(ITEM_PHOTOS)
    source["rewrite"] = {"mode": "url", "write_back": {"width": "width"}}
    rows = [item_photo(0, "/uploads/items/0.jpg") | {"width": 12345}]
    site = make_site(photos=1, rows=rows, sources=[source])
    before = site.dump()
    migrated(site)
    first = set((site.home / "backups").rglob("*.parquet"))
    site.configure(variants=TINY_VARIANTS)
    repointed(site, present_recipe=True)
    for path in set((site.home / "backups").rglob("*.parquet")) - first:
        if "-rows-" not in path.name:
            path.unlink()  # the run died before it copied the ledger
    lose_the_state_tables(site)
    assert site.execute("SELECT width FROM item_photos") == [(64,)]
    done = applied(site, force=True)
    assert [(each.column, each.after) for each in done.left] == [("width", 12345)]
    assert site.dump() == before
