"""Orphans: found, marked, deleted after the grace period, brought back. On the embedded server over HTTP."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from photo_pipeline.core.audit import entries, verify
from photo_pipeline.core.catalog.tables import VERSION_TABLE
from photo_pipeline.core.cleanup.listing import Prefixes
from photo_pipeline.core.cleanup.orphans_guards import require_prefixes
from photo_pipeline.core.cleanup.orphans_lease import OrphanLease
from photo_pipeline.core.config.orphans import OrphanSettings
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError, LeaseLostError
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.cleanup.scene import Scene, opened
from photo_pipeline_tests.core.cleanup.worlds import POSTS
from photo_pipeline_tests.core.migration.quick import migrated, upload, uploaded

HOURS = 25


def ripe(scene: Scene, **options: Any) -> None:
    """Mark what is an orphan now, and let the grace period pass before and after."""
    scene.later(hours=HOURS)
    scene.mark(**options)
    scene.later(hours=HOURS)


def test_an_orphan_is_marked_deleted_after_its_grace_and_brought_back(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    migrated(site)
    with opened(site) as scene:
        before = scene.stored()
        key = scene.put(scene.key_of_nobody())
        assert scene.orphans() == set(), "it is fresh"
        scene.later(hours=HOURS)
        assert scene.orphans() == {key}
        assert scene.mark(apply=False).new == 1
        assert site.execute("SELECT COUNT(*) FROM pp_orphan") == [(0,)], "a dry run writes nothing"
        assert scene.mark().new == 1
        assert scene.mark().kept == 1
        assert scene.delete().waiting == 1, "its mark is fresh"
        scene.later(hours=HOURS)
        assert scene.delete(apply=False).deleted == 1
        assert key in scene.stored()
        done = scene.delete()
        assert (done.deleted, done.keys) == (1, [key])
        assert scene.stored() == before
        assert scene.undo(apply=False).found == 1
        assert scene.undo(keys=[key]).restored == 1
        assert scene.stored() == before | {key}
        with pytest.raises(ConfigurationError, match="0 of them were deleted"):
            scene.undo(keys=["never/deleted"])
        with scene.project.database.read() as connection:
            assert verify(connection).holds
            acts = [each.action for each in entries(connection, last=4)]
        assert acts == ["orphan_mark", "orphan_delete", "orphan_deleted", "orphan_undo"]


def test_objects_of_a_deleted_row_go_and_a_row_that_comes_back_brings_them_back(make_site: MakeSite) -> None:
    site = make_site(photos=3)
    migrated(site)
    ((identity, url),) = site.execute("SELECT id, original_url FROM item_photos ORDER BY id LIMIT 1")
    with opened(site) as scene:
        every = scene.stored()
        site.execute("DELETE FROM item_photos WHERE id = :id", id=identity)
        ripe(scene)
        marked = site.execute("SELECT COUNT(*) FROM pp_object WHERE marked_at IS NOT NULL")
        done = scene.delete()
        assert marked == [(done.deleted,)]
        assert done.deleted == 2 * 3 + 1  # variants in each format, and the original
        gone = every - scene.stored()
        assert any(url.endswith(key) for key in gone)
        proven = "SELECT COUNT(*) FROM pp_object WHERE deleted_at IS NULL AND verified_at IS NOT NULL"
        assert site.execute(proven) == [(len(every) - len(gone),)]
        # A backup of the row is played back days later: the next run sees it.
        site.execute("INSERT INTO item_photos (id, original_url) VALUES (:id, :url)", id=identity, url=url)
        assert scene.delete().brought_back == len(gone)
        assert scene.stored() == every
        assert site.execute(proven) == [(len(every),)]
        assert scene.drift().findings == []


def test_what_is_referred_to_since_it_was_marked_stays(make_site: MakeSite) -> None:
    """In a table that no source names, whatever the escapes."""
    site = make_site(photos=1)
    migrated(site)
    site.execute("CREATE TABLE newsletter (html TEXT)")
    spellings: list[Callable[[str], str]] = [
        lambda url: url,
        lambda url: json.dumps({"gallery": [{"src": url}]}).replace("/", "\\/"),
        lambda url: f"https://proxy.example/?u={url}".replace("/", "%2F"),
    ]
    with opened(site) as scene:
        keys = {scene.put(scene.key_of_nobody(number)) for number in range(len(spellings))}
        ripe(scene)
        for key, spelled in zip(keys, spellings, strict=True):
            body = spelled(f"https://cdn.example/{key}")
            site.execute("INSERT INTO newsletter VALUES (:body)", body=body)
        done = scene.delete()
        assert (done.deleted, done.taken_back) == (0, len(keys))
        assert keys <= scene.stored()
        assert scene.delete().waiting == 0, "the marks are gone"


@pytest.mark.slow
def test_what_others_begin_to_show_during_a_delete_is_back_when_it_ends(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=1)
    migrated(site)
    site.execute("CREATE TABLE notes (body TEXT)")
    with opened(site) as scene:
        keys = [scene.put(scene.key_of_nobody(number)) for number in range(3)]
        ripe(scene)
        really = scene.bucket.delete

        def paste_and_delete(expected: Any) -> Any:
            if expected.key == keys[1]:
                site.execute("INSERT INTO notes VALUES (:url)", url=f"https://cdn.example/{keys[1]}")
            return really(expected)

        monkeypatch.setattr(scene.bucket, "delete", paste_and_delete)
        done = scene.delete()
        assert (done.deleted, done.brought_back, done.lost) == (3, 1, [])
        assert set(keys) & scene.stored() == {keys[1]}


def test_a_table_of_the_applications_holds_on_to_objects_though_it_is_called_like_ours(
    make_site: MakeSite,
) -> None:
    site = make_site(photos=1)
    migrated(site)
    site.execute("CREATE TABLE pp_reviews (id INTEGER PRIMARY KEY, body TEXT)")
    with opened(site) as scene:
        key = scene.put(scene.key_of_nobody())
        site.execute("INSERT INTO pp_reviews VALUES (1, :body)", body=f"see https://cdn.example/{key}")
        ripe(scene)
        assert scene.orphans() == set()
        site.execute("DELETE FROM pp_reviews")
        assert scene.orphans() == {key}, "and our own tables do not hold on to it"
        assert scene.mark().new == 1
        assert scene.orphans() == {key}, "though pp_orphan names it now"


def test_uploads_in_flight_are_no_orphans(make_site: MakeSite) -> None:
    """Uploaded by a run that died, and not written down; a day later."""
    site = make_site(photos=2)
    uploaded(site)
    site.execute("UPDATE pp_object SET verified_at = NULL, uploaded_at = NULL WHERE recipe <> ''")
    site.execute("DELETE FROM pp_object WHERE recipe = ''")
    with opened(site) as scene:
        scene.later(hours=50)
        found = scene.scan()
        assert found.census.listed == 2 * 7
        assert found.orphans == []


def test_strange_keys_go_only_when_that_is_said_and_replaced_objects_never(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrated(site)
    with opened(site) as scene:
        key = scene.put(f"{scene.project.config.store.prefix}/holiday.jpg")
        named = scene.put(f"{scene.project.config.store.prefix}/banner.jpg")
        site.execute("UPDATE item_photos SET alt = '/img/banner.jpg'")
        ripe(scene)
        assert scene.scan().census.foreign == 1
        assert scene.delete().deleted == 0
        ripe(scene, with_foreign=True)
        assert scene.delete(with_foreign=True).keys == [key]
        assert named in scene.stored()
        replaced = scene.put(scene.key_of_nobody())
        ripe(scene)
        site.execute("UPDATE pp_orphan SET etag = 'of the one that was there'")
        done = scene.delete()
        assert (done.deleted, done.changed) == (0, 1)
        assert replaced in scene.stored()


# --- refusals


def without_objects(scene: Scene) -> None:
    scene.site.execute("DELETE FROM pp_object")


def without_rows(scene: Scene) -> None:
    scene.site.execute("DELETE FROM item_photos")


def without_state(scene: Scene) -> None:
    scene.site.execute(f"DELETE FROM {VERSION_TABLE}")


def of_the_future(scene: Scene) -> None:
    scene.site.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")


def beside_a_run(scene: Scene) -> None:
    scene.site.execute(
        "UPDATE pp_batch SET lease_owner = 'elsewhere/1/r', lease_expires_at = '2999-01-01 00:00:00'"
    )


REFUSALS: dict[Callable[[Scene], None], str] = {
    without_objects: "it knows no object of this bucket",
    without_rows: "have no row",
    without_state: "there are none",
    of_the_future: "9999",
    beside_a_run: "is working on it",
}


def test_it_refuses_an_empty_database_unknown_tables_and_to_work_beside_a_run(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrated(site)
    saved = site.home / "saved.db"
    with opened(site) as scene:
        key = scene.put(scene.key_of_nobody())
        ripe(scene)
    site.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for disturb, words in REFUSALS.items():
        if saved.exists():
            shutil.copy(saved, site.home / "app.db")
        shutil.copy(site.home / "app.db", saved)
        with opened(site) as scene:
            scene.later(hours=2 * HOURS)
            disturb(scene)
            for act in (scene.mark, scene.delete):
                with pytest.raises(GuardRefusedError, match=words):
                    act()
            assert key in scene.stored()
        site.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_it_refuses_more_orphans_than_anybody_expects(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrated(site)
    with opened(site) as scene:
        scene.put(scene.key_of_nobody())
        scene.later(hours=HOURS)
        with pytest.raises(GuardRefusedError, match=r"1 of 8 objects.*\(5\.0%\)"):
            scene.mark(max_share=None)
        assert scene.mark(max_share=0.2).new == 1
        scene.later(hours=HOURS)
        with pytest.raises(GuardRefusedError, match="1 of 8 objects"):
            scene.delete(max_share=0.1)


def test_it_refuses_without_a_prefix_and_with_a_shorter_grace() -> None:
    for prefixes in (Prefixes("", "originals"), Prefixes("photos", "/"), Prefixes(".", "originals")):
        with pytest.raises(GuardRefusedError, match="unset"):
            require_prefixes(prefixes)
    with pytest.raises(ValueError, match="24"):
        OrphanSettings(grace_hours=23)


def test_batches_and_clean_ups_exclude_each_other(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    batch = "batch-000001"
    with site.project() as project:
        site.inventory(project)
        database = project.database
        with (
            OrphanLease(database, run="a"),
            pytest.raises(GuardRefusedError, match="is deleting objects"),
            BatchLease(database, batch, run="b"),
        ):
            pass
        with (
            BatchLease(database, batch, run="b"),
            pytest.raises(GuardRefusedError, match="is working on it"),
            OrphanLease(database, run="a"),
        ):
            pass
        with (
            OrphanLease(database, run="a"),
            pytest.raises(GuardRefusedError, match="another orphan clean-up"),
            OrphanLease(database, run="c"),
        ):
            pass
        with BatchLease(database, batch, run="b"):
            pass


def test_a_process_that_was_held_up_takes_back_what_it_deleted(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Suspended between its last look at the lease and its request, while the lease ran out."""
    site = make_site(photos=1)
    migrated(site)
    with opened(site) as scene:
        keys = {scene.put(scene.key_of_nobody(number)) for number in range(2)}
        ripe(scene)
        really = scene.bucket.delete

        def late(expected: Any) -> Any:
            site.execute("UPDATE pp_lease SET expires_at = '2020-01-01 00:00:00'")
            return really(expected)

        monkeypatch.setattr(scene.bucket, "delete", late)
        with pytest.raises(LeaseLostError):
            scene.delete()
        assert keys <= scene.stored()
        monkeypatch.undo()
        assert scene.delete().settled == 2
        assert keys <= scene.stored(), "their marks begin anew"


@pytest.mark.slow
def test_an_object_that_is_deleted_is_not_believed_in_by_a_later_batch(make_site: MakeSite) -> None:
    """A photo with the same content comes back: it is uploaded again, not taken for stored."""
    site = make_site(photos=1)
    uploaded(site)
    with opened(site) as scene:
        before = scene.stored()
        site.execute("UPDATE item_photos SET original_url = '/uploads/none.jpg'")
        site.inventory(scene.project)
        ripe(scene)
        assert scene.delete().deleted == len(before)
        assert scene.stored() == set()
        site.execute("UPDATE item_photos SET original_url = '/uploads/items/0.jpg'")
        site.inventory(scene.project)
        with BatchLease(scene.project.database, "batch-000001", run="again") as lease:
            upload(scene.project, lease)
        assert scene.stored() == before
        assert scene.drift().findings == []


# --- rows without their object


def test_rows_whose_object_is_missing_or_wrong_are_reported_with_a_fix(make_site: MakeSite) -> None:
    site = make_site(photos=3)
    migrated(site)
    with opened(site) as scene:
        assert scene.drift(remember=True).asked == 21
        again = scene.drift()
        assert (again.objects, again.asked, again.total) == (21, 0, 0), "a checksum is asked for once"
        queries = {
            "missing": "variant = 'original' ORDER BY key LIMIT 1",
            "wrong_size": "variant = 'thumb' ORDER BY key LIMIT 1",
            "wrong_checksum": "variant = 'thumb' ORDER BY key DESC LIMIT 1",
        }
        keys = {
            kind: site.execute(f"SELECT key FROM pp_object WHERE {query}")[0][0]
            for kind, query in queries.items()
        }
        store = scene.project.store
        store.delete(keys["missing"])
        scene.put(keys["wrong_size"], b"short")
        size = store.head(keys["wrong_checksum"])
        assert size is not None
        scene.put(keys["wrong_checksum"], b"x" * size.size)
        nowhere = scene.key_of_nobody()
        site.execute(
            "INSERT INTO item_photos (id, original_url) VALUES ('typed', :url)",
            url=f"{scene.project.config.cdn.base_url}/{nowhere}",
        )
        before = site.execute("SELECT * FROM pp_object ORDER BY key")
        drift = scene.drift()
        assert {each.kind: each.key for each in drift.findings} == {**keys, "dangling_cell": nowhere}
        assert "item_photos" in next(e.where for e in drift.findings if e.kind == "dangling_cell")
        fix = next(each.fix for each in drift.findings if each.kind == "missing")
        assert "rollback --batch batch-000001" in fix
        assert site.execute("SELECT * FROM pp_object ORDER BY key") == before, "nothing is re-marked"


def test_postgres_is_searched_everywhere_too(make_site: MakeSite) -> None:
    site = make_site(photos=2, database="postgres")
    migrated(site)
    site.execute("CREATE SCHEMA extra")
    site.execute("CREATE TABLE extra.pages (id int, body jsonb, tags text[], raw bytea)")
    with opened(site) as scene:
        keys = [scene.put(scene.key_of_nobody(number)) for number in range(4)]
        urls = [f"https://cdn.example/{key}" for key in keys]
        site.execute(
            "INSERT INTO extra.pages VALUES (1, CAST(:a AS jsonb), ARRAY[:b], convert_to(:c, 'UTF8'))",
            a=json.dumps({"u": urls[0]}),
            b=urls[1],
            c=urls[2],
        )
        ripe(scene)
        assert scene.delete().keys == [keys[3]]
        assert scene.undo().restored == 1
        with (
            OrphanLease(scene.project.database, run="a"),
            pytest.raises(GuardRefusedError),
            BatchLease(scene.project.database, "batch-000001", run="b"),
        ):
            pass


@pytest.mark.slow
def test_a_rollback_does_not_miss_what_went_with_a_deleted_row(make_site: MakeSite) -> None:
    """The row of a text is gone, then its objects, and its local file: nothing is left to set back."""
    site = make_site(photos=1, rows=[], sources=[POSTS])
    site.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, body TEXT)")
    site.execute("""INSERT INTO posts VALUES (1, '<img src="/uploads/items/0.jpg">')""")
    site.execute("INSERT INTO posts VALUES (2, 'nothing')")
    migrated(site)
    with opened(site) as scene:
        site.execute("DELETE FROM posts WHERE id = 1")
        ripe(scene)
        assert scene.delete().deleted == 7
    (site.uploads / "items/0.jpg").unlink()
    (done,) = site.roll_back()
    assert done.failed == 0
    assert site.execute("SELECT DISTINCT outcome FROM pp_rewrite") != [("applied",)]
