"""What a deletion of photos takes and leaves, what its token stands for, and how it is taken back."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from photo_pipeline.core import audit
from photo_pipeline.core.catalog.inventory import take_inventory
from photo_pipeline.core.cleanup import deletion
from photo_pipeline.core.cleanup.deletion import DeletionOutcome, confirm_deletion, unfinished_deletions
from photo_pipeline.core.cleanup.deletion_plan import DeletionPlan, Selection, plan_deletion
from photo_pipeline.core.cleanup.deletion_undo import Undone, undo_deletion
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError
from photo_pipeline.core.migration.invariants import every_match_is_batched
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.storage.listing import list_objects
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.cleanup.conftest import MakeMigrated, files_of, suspended_versions
from photo_pipeline_tests.core.cleanup.deletion_steps import place_of
from photo_pipeline_tests.core.migration.quick import again, rewritten, rolled_back, uploaded
from photo_pipeline_tests.core.migration.test_modes import files_site
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo


def planned(site: Site, **selection: Any) -> DeletionPlan:
    with site.project() as project:
        return plan_deletion(project.database, project.config, Selection(**selection))


def confirmed(site: Site, token: str, **selection: Any) -> DeletionOutcome:
    with site.project() as project:
        chosen = Selection(**selection) if selection else None
        return confirm_deletion(
            project.database, project.config, project.store, token, chosen, run=new_run_id()
        )


def deleted(site: Site, **selection: Any) -> DeletionOutcome:
    return confirmed(site, planned(site, **selection).token, **selection)


def taken_back(site: Site, token: str) -> Undone:
    with site.project() as project:
        return undo_deletion(project.database, project.config, project.store, token, run=new_run_id())


def objects_of(site: Site) -> set[str]:
    """The keys that the bucket shows of this site."""
    with site.project() as project:
        prefixes = (project.config.store.prefix, project.config.store.originals_prefix)
        return {each.key for prefix in prefixes for each in list_objects(project.store, f"{prefix}/")}


def urls(site: Site) -> list[str | None]:
    return [row[0] for row in site.execute("SELECT original_url FROM item_photos ORDER BY id")]


def with_policy(act: str, **changes: Any) -> dict[str, Any]:
    return ITEM_PHOTOS | {"on_delete": act} | changes


def test_a_photo_goes_with_every_object_and_its_reference_and_comes_back(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=2)
    rows, objects, files = site.dump(), objects_of(site), files_of(site)
    plan = planned(site, photos=(1,))
    assert (plan.photos, len(plan.rows), len(plan.objects)) == (1, 1, 7)
    assert {each.variant for each in plan.objects} == {"full", "thumb", "original"}
    outcome = confirmed(site, plan.token, photos=(1,))
    assert (outcome.state, outcome.rows, outcome.objects) == ("done", {"done": 1}, {"done": 7})
    assert objects_of(site) == objects - {each.key for each in plan.objects}
    assert urls(site).count(None) == 1
    assert files_of(site) == files, "local files are the clean-up's, or a person's, to remove"
    undone = taken_back(site, plan.token)
    assert (undone.rows, undone.objects, undone.left) == (1, 7, {})
    assert (site.dump(), objects_of(site)) == (rows, objects)
    assert site.states() == {"migrated": 2}


def test_what_was_taken_back_or_migrated_again_is_deleted_again(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=1)
    tokens = []
    for after in ("undo", "migrated again", "end"):
        plan = planned(site, photos=(1,))
        tokens.append(plan.token)
        assert planned(site, photos=(1,)).token == plan.token
        outcome = confirmed(site, plan.token, photos=(1,))
        assert (outcome.rows, outcome.objects) == ({"done": 1}, {"done": 7})
        assert (urls(site), objects_of(site), site.states()) == ([None], set(), {"deleted": 1})
        assert confirmed(site, plan.token, photos=(1,)) == outcome, "confirmed again, it does nothing more"
        if after == "undo":
            assert taken_back(site, plan.token).left == {}
        elif after == "migrated again":
            site.execute("UPDATE item_photos SET original_url = '/uploads/items/0.jpg'")
            uploaded(site)
            again(site, "batch-000001")
            assert len(objects_of(site)) == 7
    assert len(set(tokens)) == 3


@pytest.mark.slow
def test_by_batch_and_by_entity(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=6, batch_size=2)
    assert planned(site, batches=("batch-000001",)).photos == 2
    entity = planned(site, entities=(("item", "1"),))
    assert entity.photos == 2
    assert deleted(site, entities=(("item", "1"),)).rows == {"done": 2}
    assert urls(site).count(None) == 2


@pytest.mark.slow
def test_nothing_is_touched_by_a_plan(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=2)
    before = (site.dump(), objects_of(site))
    planned(site, photos=(1,))
    assert (site.dump(), objects_of(site)) == before


@pytest.mark.parametrize("change", ["row", "new owner", pytest.param("state", marks=pytest.mark.slow)])
def test_a_token_is_refused_once_anything_has_changed(make_migrated: MakeMigrated, change: str) -> None:
    site = make_migrated(photos=2)
    token = planned(site, photos=(1, 2)).token
    if change == "row":
        site.execute("UPDATE item_photos SET original_url = NULL WHERE item_id = 0 AND display_order = 0")
    elif change == "new owner":
        copied = site.execute("SELECT original_url FROM item_photos")[0][0]
        site.execute("INSERT INTO item_photos (id, original_url) VALUES ('x', :url)", url=copied)
    else:
        site.execute("UPDATE pp_photo SET state = 'quarantined' WHERE id = 1")
    before = (site.dump(), objects_of(site))
    with pytest.raises(GuardRefusedError, match="changed"):
        confirmed(site, token, photos=(1, 2))
    assert (site.dump(), objects_of(site)) == before


@pytest.mark.slow
def test_a_token_does_not_fit_another_selection(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=2)
    token = planned(site, photos=(1,)).token
    with pytest.raises(GuardRefusedError):
        confirmed(site, token, photos=(2,))
    with pytest.raises(ConfigurationError, match="no deletion was begun"):
        confirmed(site, token)


def test_shared_objects_survive_until_the_last_owner_goes(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=1, rows=[item_photo(n, "/uploads/items/0.jpg") for n in range(3)])
    objects = objects_of(site)
    for number in (1, 2):
        plan = planned(site, photos=(number,))
        assert (plan.objects, len(plan.shared)) == ((), 1)
        confirmed(site, plan.token, photos=(number,))
        assert objects_of(site) == objects
    assert deleted(site, photos=(3,)).objects == {"done": 7}
    assert objects_of(site) == set()
    assert urls(site) == [None, None, None]


@pytest.mark.slow
def test_a_photo_with_equal_content_elsewhere_counts_even_before_it_is_migrated(
    make_migrated: MakeMigrated,
) -> None:
    site = make_migrated(photos=1)
    photo(site.uploads / "items/same.jpg", seed=0)
    site.execute("INSERT INTO item_photos (id, original_url) VALUES ('x', '/uploads/items/same.jpg')")
    plan = planned(site, photos=(1,))
    assert (plan.objects, len(plan.shared)) == ((), 1)


def test_a_row_that_copied_the_url_keeps_the_objects(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=1)
    site.execute("UPDATE item_photos SET alt = 'see ' || original_url")
    plan = planned(site, photos=(1,))
    assert plan.objects == ()
    (where,) = plan.shared.values()
    assert "alt" in where


@pytest.mark.parametrize("slash", ["%2F", r"\u002f"])
def test_a_row_that_names_the_url_by_escapes_keeps_the_objects(make_copied: MakeMigrated, slash: str) -> None:
    site = make_copied(photos=1)
    site.execute("UPDATE item_photos SET alt = 'to=' || replace(original_url, '/', :slash)", slash=slash)
    plan = planned(site, photos=(1,))
    assert plan.objects == ()
    (where,) = plan.shared.values()
    assert "alt" in where


def test_a_photo_that_is_deleted_before_it_has_a_batch_leaves_nothing_to_be_done(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    with site.project() as project:
        take_inventory(project.database, project.config)
        assert deleted(site, photos=(1,)).rows == {"done": 1}
        assert every_match_is_batched(project.database).holds


def test_the_row_itself_goes_where_its_source_says_so_and_comes_back(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=2, sources=[with_policy("delete_row")])
    before = site.dump()
    plan = planned(site, photos=(1,))
    confirmed(site, plan.token, photos=(1,))
    assert len(urls(site)) == 1
    assert taken_back(site, plan.token).left == {}
    assert site.dump() == before


@pytest.mark.slow
def test_a_row_is_left_where_its_source_says_so(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=1, sources=[with_policy("leave")])
    before = site.dump()
    assert deleted(site, photos=(1,)).objects == {"done": 7}
    assert (site.dump(), objects_of(site)) == (before, set())


@pytest.mark.slow
def test_a_row_that_would_take_another_photo_along_stays(make_migrated: MakeMigrated) -> None:
    fields = [
        *ITEM_PHOTOS["fields"][:1],
        {"kind": "url", "column": "alt", "root": "uploads", "name": "second", "role": "duplicate"},
    ]
    rows = [item_photo(0, "/uploads/items/0.jpg") | {"alt": "/uploads/items/1.jpg"}]
    site = make_migrated(photos=2, rows=rows, sources=[with_policy("delete_row", fields=fields)])
    plan = planned(site, photos=(1,))
    assert (plan.rows, list(plan.blocked)) == ((), ["1"])
    assert planned(site, photos=(1, 2)).photos == 2


def test_a_photo_in_a_text_is_not_cut_out_of_it(make_migrated: MakeMigrated) -> None:
    fields = [{"kind": "text", "column": "alt", "root": "uploads"}]
    rows = [item_photo(0, None) | {"alt": '<img src="/uploads/items/0.jpg">'}]
    rewrite = {"mode": "url", "format": "jpeg"}
    source = with_policy("set_null", fields=fields, rewrite=rewrite)
    site = make_migrated(photos=1, rows=rows, sources=[source])
    plan = planned(site, photos=(1,))
    assert (plan.rows, plan.objects, list(plan.blocked)) == ((), (), ["1"])


@pytest.mark.slow
def test_copies_addresses_and_looks_of_a_primary_photo_are_emptied_with_it(
    make_migrated: MakeMigrated,
) -> None:
    write_back = {"file_size": "bytes", "alt": "url.thumb", "mime_type": "thumbhash"}
    rows = [item_photo(0, "/uploads/items/0.jpg", "/uploads/items/1.jpg")]
    rewrite = ITEM_PHOTOS["rewrite"] | {"write_back": write_back}
    site = make_migrated(photos=2, rows=rows, sources=[with_policy("set_null", rewrite=rewrite)])
    before = site.execute("SELECT mime_type FROM item_photos")
    deleted(site, photos=(1,))
    ((url, thumb, alt, look, size),) = site.execute(
        "SELECT original_url, thumbnail_url, alt, mime_type, file_size FROM item_photos"
    )
    assert before != [(None,)]
    assert (url, thumb, alt, look) == (None, None, None, None)
    assert size is not None, "a fact names no object"
    assert objects_of(site) == set()


def test_a_row_that_is_edited_right_before_the_change_keeps_its_photo(
    make_migrated: MakeMigrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_migrated(photos=1)
    token = planned(site, photos=(1,)).token
    really_begin = deletion._begin

    def begin(*args: Any, **options: Any) -> None:
        really_begin(*args, **options)
        site.execute("UPDATE item_photos SET original_url = original_url || '?v=2'")

    monkeypatch.setattr(deletion, "_begin", begin)
    objects = objects_of(site)
    outcome = confirmed(site, token, photos=(1,))
    assert (outcome.rows, outcome.objects) == ({"kept": 1}, {"kept": 7})
    assert outcome.has_findings
    assert objects_of(site) == objects


def test_the_application_that_copies_a_url_before_the_delete_keeps_the_objects(
    make_migrated: MakeMigrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_migrated(photos=1)
    (url,) = urls(site)
    token = planned(site, photos=(1,)).token
    at(monkeypatch, "_claim", lambda: copy(site, url), before=True)
    objects = objects_of(site)
    assert confirmed(site, token, photos=(1,)).objects == {"kept": 7}
    assert objects_of(site) == objects


def test_the_application_that_copies_a_url_during_the_delete_gets_the_objects_back(
    make_migrated: MakeMigrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_migrated(photos=1)
    (url,) = urls(site)
    token = planned(site, photos=(1,)).token
    at(monkeypatch, "_bring_back_what_is_named", lambda: copy(site, url), before=True)
    objects = objects_of(site)
    assert confirmed(site, token, photos=(1,)).objects == {"kept": 7}
    assert objects_of(site) == objects


def test_without_versions_what_is_copied_during_the_delete_is_reported_as_lost(
    make_migrated: MakeMigrated, servers: RunningServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with suspended_versions(servers):
        site = make_migrated(photos=1)
        (url,) = urls(site)
        token = planned(site, photos=(1,)).token
        at(monkeypatch, "_bring_back_what_is_named", lambda: copy(site, url), before=True)
        outcome = confirmed(site, token, photos=(1,))
    assert objects_of(site) == set()
    assert (outcome.objects, outcome.can_be_undone) == ({"lost": 7}, False)
    assert outcome.has_findings
    assert len(outcome.lost) == 7
    assert all("item_photos" in reason for reason in outcome.lost.values())


def test_a_batch_that_needs_an_object_which_is_being_deleted_waits(
    make_migrated: MakeMigrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same content comes again between the announcement and the delete, and must not be adopted."""
    site = make_migrated(photos=1)
    token = planned(site, photos=(1,)).token
    met: list[BaseException] = []

    def come_again() -> None:
        photo(site.uploads / "items/same.jpg", seed=0)
        site.execute("INSERT INTO item_photos (id, original_url) VALUES ('x', '/uploads/items/same.jpg')")
        try:
            uploaded(site)
        except GuardRefusedError as error:
            met.append(error)

    at(monkeypatch, "_claim", come_again, before=False)
    outcome = confirmed(site, token, photos=(1,))
    assert outcome.objects == {"done": 7}
    assert "deletion" in str(met)
    (batch,) = uploaded(site)
    assert rewritten(site, batch).rewritten == 1
    assert len(objects_of(site)) == 7


def test_while_a_run_has_the_batch_nothing_goes_and_the_same_token_goes_on_later(
    make_migrated: MakeMigrated,
) -> None:
    site = make_migrated(photos=1)
    token = planned(site, photos=(1,)).token
    before = (site.dump(), objects_of(site))
    with site.project() as project, BatchLease(project.database, "batch-000001", run="another"):
        with pytest.raises(GuardRefusedError):
            confirmed(site, token, photos=(1,))
        assert unfinished_deletions(project.database) == [token]
    assert (site.dump(), objects_of(site)) == before
    assert confirmed(site, token).objects == {"done": 7}


@pytest.mark.slow
def test_foreign_bytes_under_one_of_its_keys_are_left(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=1)
    plan = planned(site, photos=(1,))
    key = plan.objects[0].key
    with site.project() as project:
        project.store.s3.put_object(Bucket=project.store.bucket, Key=key, Body=b"somebody else's")
    outcome = confirmed(site, plan.token, photos=(1,))
    assert outcome.objects == {"done": 6, "kept": 1}
    assert objects_of(site) == {key}


@pytest.mark.slow
def test_undo_brings_no_row_back_whose_shared_object_went_with_a_later_deletion(
    make_migrated: MakeMigrated,
) -> None:
    site = make_migrated(photos=1, rows=[item_photo(n, "/uploads/items/0.jpg") for n in range(2)])
    before = site.dump()
    first = planned(site, photos=(1,)).token
    confirmed(site, first, photos=(1,))
    second = planned(site, photos=(2,)).token
    assert confirmed(site, second, photos=(2,)).objects == {"done": 7}
    undone = taken_back(site, first)
    assert (undone.rows, len(undone.left)) == (0, 1)
    assert urls(site) == [None, None]
    assert taken_back(site, second).left == {}
    assert taken_back(site, first).left == {}
    assert site.dump() == before


@pytest.mark.slow
def test_undo_leaves_rows_that_were_written_since(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=2)
    token = planned(site, photos=(1, 2)).token
    confirmed(site, token, photos=(1, 2))
    site.execute("UPDATE item_photos SET original_url = '/new.jpg' WHERE display_order = 0")
    undone = taken_back(site, token)
    assert (undone.rows, undone.objects, len(undone.left)) == (1, 14, 1)
    assert urls(site)[0] == "/new.jpg"


@pytest.mark.slow
def test_undo_brings_no_row_back_whose_object_is_gone_for_good(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=1)
    plan = planned(site, photos=(1,))
    confirmed(site, plan.token, photos=(1,))
    ((key, version),) = site.execute('SELECT "key", version_id FROM pp_deleted_object LIMIT 1')
    with site.project() as project:
        project.store.s3.delete_object(Bucket=project.store.bucket, Key=key, VersionId=version)
    undone = taken_back(site, plan.token)
    assert (undone.rows, undone.objects, len(undone.left)) == (0, 6, 2)
    assert urls(site) == [None]


@pytest.mark.slow
def test_what_was_deleted_is_audited_to_the_object(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=1)
    deleted(site, photos=(1,))
    with site.project() as project, project.database.read() as connection:
        acts = [each.action for each in audit.entries(connection, last=100)]
        assert audit.verify(connection).holds
    assert [each for each in acts if each.startswith("delete")] == [
        *("delete_begin", "delete_rows"),
        *["delete_object"] * 7,
    ]


@pytest.mark.slow
def test_a_rollback_leaves_deleted_photos_alone_and_takes_the_others_back(
    make_migrated: MakeMigrated,
) -> None:
    site = make_migrated(photos=2)
    deleted(site, photos=(1,))
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.conflicts) == (1, 0)
    assert sorted(site.states().items()) == [("deleted", 1), ("rolled_back", 1)]
    assert site.execute("SELECT state FROM pp_batch") == [("rolled_back",)]


@pytest.mark.slow
def test_after_a_deletion_inventories_add_up_and_a_row_that_says_it_again_is_migrated_again(
    make_migrated: MakeMigrated,
) -> None:
    site = make_migrated(photos=1)
    deleted(site, photos=(1,))
    with site.project() as project:
        assert site.inventory(project)[0].adds_up
    assert site.states() == {"deleted": 1}
    site.execute("UPDATE item_photos SET original_url = '/uploads/items/0.jpg'")
    with site.project() as project:
        site.inventory(project)
    assert site.states() == {"pending": 1}
    again(site, "batch-000001")
    assert site.states() == {"migrated": 1}
    assert len(objects_of(site)) == 7


@pytest.mark.slow
def test_a_photo_that_is_not_migrated_yet_loses_its_reference_only(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=1)
    photo(site.uploads / "items/new.jpg", seed=5)
    site.execute("INSERT INTO item_photos (id, original_url) VALUES ('x', '/uploads/items/new.jpg')")
    with site.project() as project:
        site.inventory(project)
    ((number,),) = site.execute("SELECT id FROM pp_photo WHERE path = 'items/new.jpg'")
    assert deleted(site, photos=(number,)).rows == {"done": 1}
    assert urls(site).count(None) == 1
    assert (site.uploads / "items/new.jpg").is_file()


def test_it_works_on_postgresql(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=2, database="postgres", sources=[with_policy("delete_row")])
    before, objects = site.dump(), objects_of(site)
    plan = planned(site, photos=(1, 2))
    assert confirmed(site, plan.token, photos=(1, 2)).objects == {"done": 14}
    assert (urls(site), objects_of(site)) == ([], set())
    assert taken_back(site, plan.token).left == {}
    assert (site.dump(), objects_of(site)) == (before, objects)


def test_a_copied_url_does_not_come_back_while_its_objects_are_deleted_by_a_later_deletion(
    make_migrated: MakeMigrated,
) -> None:
    """A row of the application's own that shows a migrated URL: the catalog knows no photo behind it."""
    site = make_migrated(photos=2)
    (url, _other) = urls(site)
    site.execute("INSERT INTO item_photos (id, original_url) VALUES ('copy', :url)", url=url)
    with site.project() as project:
        site.inventory(project)
    ((copied,),) = site.execute("SELECT id FROM pp_photo WHERE row_key LIKE '%copy%'")
    earlier = planned(site, photos=(copied,))
    assert confirmed(site, earlier.token, photos=(copied,)).rows == {"done": 1}
    later = deleted(site, photos=(1,))
    assert later.objects == {"done": 7}
    left = taken_back(site, earlier.token).left
    assert ["was deleted as well, later" in reason for reason in left.values()] == [True]
    taken_back(site, later.token)
    assert taken_back(site, earlier.token).left == {}
    assert urls(site).count(url) == 2


@pytest.mark.parametrize(
    ("step", "database"),
    [
        ("_delete", "sqlite"),
        pytest.param("_claim", "sqlite", marks=pytest.mark.slow),
        pytest.param("_delete", "postgres", marks=pytest.mark.slow),
        pytest.param("_claim", "postgres", marks=pytest.mark.slow),
    ],
)
def test_the_undo_of_an_earlier_deletion_leaves_what_a_later_one_is_deleting(
    make_migrated: MakeMigrated,
    servers: RunningServers,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    database: str,
) -> None:
    """The bucket keeps no versions: what is announced and then needed by a row would be lost."""
    with suspended_versions(servers):
        site = make_migrated(photos=1, database=database)
        earlier = planned(site, photos=(1,)).token
        confirmed(site, earlier, photos=(1,))
        site.execute("UPDATE item_photos SET original_url = '/uploads/items/0.jpg'")
        uploaded(site)
        again(site, "batch-000001")
        later = planned(site, photos=(1,)).token
        met: list[Undone] = []

        def undo_once() -> None:
            if not met:
                met.append(Undone())
                met[0] = taken_back(site, earlier)

        at(monkeypatch, step, undo_once, before=True)
        outcome = confirmed(site, later, photos=(1,))
    assert (met[0].rows, met[0].objects, len(met[0].left)) == (0, 0, 8)
    assert sum(later in reason for reason in met[0].left.values()) == 7
    assert (outcome.objects, outcome.lost) == ({"done": 7}, {})
    assert (urls(site), objects_of(site), site.states()) == ([None], set(), {"deleted": 1})


def test_the_undo_of_an_earlier_deletion_leaves_the_row_that_a_later_one_has_emptied(
    make_migrated: MakeMigrated,
) -> None:
    """The objects are another row's, too, and stay: only the later deletion of the row is in the way."""
    site = make_migrated(photos=1, rows=[item_photo(n, "/uploads/items/0.jpg") for n in range(2)])
    before = urls(site)
    earlier = planned(site, photos=(1,)).token
    confirmed(site, earlier, photos=(1,))
    ((key,),) = site.execute("SELECT MIN(id) FROM item_photos")
    site.execute("UPDATE item_photos SET original_url = '/uploads/items/0.jpg' WHERE id = :key", key=key)
    uploaded(site)
    again(site, "batch-000001")
    later = planned(site, photos=(1,)).token
    assert confirmed(site, later, photos=(1,)).rows == {"done": 1}
    (reason,) = taken_back(site, earlier).left.values()
    assert later in reason
    assert (urls(site)[0], site.states()) == (None, {"deleted": 1, "migrated": 1})
    assert taken_back(site, later).left == {}
    assert urls(site) == before


def test_a_row_does_not_come_back_whose_framework_would_find_another_file(make_site: MakeSite) -> None:
    """The same name in another folder has taken the key that the framework looks for."""
    rewrite = {"mode": "columns", "set": {"disk": "s3"}, "key_template": "disk-s3/{name}"}
    site = files_site(make_site, "sqlite", rewrite=rewrite)
    shutil.copy(photo(site.uploads / "other/0.jpg", seed=0), site.uploads / "items/0.jpg")
    site.execute("UPDATE files SET path = 'other/0.jpg' WHERE id = 1")
    for batch in uploaded(site):
        rewritten(site, batch)
    ids = dict(row for row in site.execute("SELECT path, id FROM pp_photo"))
    tokens = []
    for path in ("items/0.jpg", "other/0.jpg"):
        tokens.append(planned(site, photos=(ids[path],)).token)
        confirmed(site, tokens[-1], photos=(ids[path],))
    photo(site.uploads / "third/0.jpg", seed=99)
    site.execute("INSERT INTO files VALUES (7, 'third/0.jpg', 'local', :no, 5, NULL, NULL, NULL)", no=False)
    for batch in uploaded(site):
        rewritten(site, batch)
    undone = taken_back(site, tokens[1])
    assert (undone.rows, undone.objects) == (0, 7), "its variants and its original; not the framework's copy"
    undone = taken_back(site, tokens[0])
    assert (undone.rows, list(undone.left.values())) == (0, ["disk-s3/0.jpg holds another file by now"])
    assert site.execute("SELECT path FROM files ORDER BY id") == [(None,), (None,), ("third/0.jpg",)]


def test_two_sources_on_one_table_may_tell_its_rows_by_different_keys(make_site: MakeSite) -> None:
    """The numbers are such that each row's key by one source is another row's by the other."""
    site = make_site(photos=2, rows=[], sources=[pics("a", key="id"), pics("b", key="sku")])
    site.execute("CREATE TABLE pics (id INTEGER PRIMARY KEY, sku INTEGER UNIQUE, a TEXT, b TEXT, notes TEXT)")
    site.execute(
        "INSERT INTO pics VALUES (1, 2, NULL, '/uploads/items/0.jpg', NULL), (2, 1, NULL, NULL, NULL)"
    )
    for batch in uploaded(site):
        rewritten(site, batch)
    ((number,),) = site.execute("SELECT id FROM pp_photo WHERE source = 'b' AND state = 'migrated'")
    plan = planned(site, photos=(number,))
    assert (plan.shared, len(plan.objects)) == ({}, 7)
    site.execute("UPDATE pics SET notes = (SELECT 'see ' || b FROM pics WHERE id = 1) WHERE id = 2")
    plan = planned(site, photos=(number,))
    assert (list(plan.shared.values()), plan.objects) == (["pics [2] notes"], ())


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "action", ["CASCADE", "SET NULL", pytest.param("SET DEFAULT", marks=pytest.mark.slow)]
)
def test_a_row_that_others_refer_to_stays_where_they_would_go_along(
    make_site: MakeSite, database: str, action: str
) -> None:
    site = make_site(photos=1, rows=[], sources=[pics("a")], database=database)
    site.execute(
        "CREATE TABLE pics (id INTEGER PRIMARY KEY, a TEXT, parent INTEGER REFERENCES pics ON DELETE CASCADE)"
    )
    site.execute(f"CREATE TABLE comments (pic INTEGER REFERENCES pics ON DELETE {action})")
    site.execute("INSERT INTO pics VALUES (1, '/uploads/items/0.jpg', 1), (2, NULL, NULL)")
    site.execute("INSERT INTO comments VALUES (2)")
    for batch in uploaded(site):
        rewritten(site, batch)
    token = planned(site, photos=(1,)).token
    site.execute("UPDATE comments SET pic = 1")
    plan = planned(site, photos=(1,))
    assert (plan.rows, plan.objects) == ((), ())
    assert "rows of comments that refer to its row" in plan.blocked["1"]
    assert action in plan.blocked["1"]
    with pytest.raises(GuardRefusedError):
        confirmed(site, token, photos=(1,))
    site.execute("DELETE FROM comments")
    site.execute("UPDATE pics SET parent = 1 WHERE id = 2")
    assert "rows of pics" in planned(site, photos=(1,)).blocked["1"]
    site.execute("UPDATE pics SET parent = NULL WHERE id = 2")
    assert deleted(site, photos=(1,)).rows == {"done": 1}, "that it refers to itself is no hindrance"


def test_a_row_that_others_begin_to_refer_to_after_the_plan_stays(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=1, rows=[], sources=[pics("a")])
    site.execute("CREATE TABLE pics (id INTEGER PRIMARY KEY, a TEXT)")
    site.execute("CREATE TABLE comments (pic INTEGER REFERENCES pics ON DELETE CASCADE)")
    site.execute("INSERT INTO pics VALUES (1, '/uploads/items/0.jpg')")
    for batch in uploaded(site):
        rewritten(site, batch)
    token = planned(site, photos=(1,)).token
    at(monkeypatch, "change_rows", lambda: site.execute("INSERT INTO comments VALUES (1)"), before=True)
    outcome = confirmed(site, token, photos=(1,))
    assert (outcome.rows, outcome.objects) == ({"kept": 1}, {"kept": 7})
    assert site.execute("SELECT pic FROM comments") == [(1,)]


@pytest.mark.parametrize("kind", ["ALWAYS", pytest.param("BY DEFAULT", marks=pytest.mark.slow)])
def test_a_row_that_the_database_has_numbered_comes_back_with_its_number(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(photos=1, rows=[], sources=[pics("a")], database="postgres")
    site.execute(
        f'CREATE TABLE pics (id INT GENERATED {kind} AS IDENTITY PRIMARY KEY, a TEXT, "A %" TEXT, n INT,'
        " twice INTEGER GENERATED ALWAYS AS (id * 2) STORED, at TIMESTAMPTZ DEFAULT now())"
    )
    site.execute("INSERT INTO pics (a) VALUES ('/other'), ('/uploads/items/0.jpg')")
    for batch in uploaded(site):
        rewritten(site, batch)
    ((number,),) = site.execute("SELECT id FROM pp_photo WHERE state = 'migrated'")
    before = site.dump()
    plan = planned(site, photos=(number,))
    assert confirmed(site, plan.token, photos=(number,)).rows == {"done": 1}
    assert taken_back(site, plan.token).left == {}
    assert site.dump() == before


def pics(column: str, *, key: str = "id") -> dict[str, Any]:
    """A source of a table of its own, which goes by the row."""
    return {
        "name": column,
        "table": "pics",
        "key": [key],
        "on_delete": "delete_row",
        "fields": [{"kind": "url", "column": column, "root": "uploads"}],
        "rewrite": {"mode": "url", "format": "jpeg"},
    }


def at(monkeypatch: pytest.MonkeyPatch, step: str, act: Callable[[], object], *, before: bool) -> None:
    """Let something happen right before (or after) a step of the deletion."""
    at = place_of(step)
    really = getattr(*at)

    def stepped(*args: Any, **options: Any) -> Any:
        if before:
            act()
        result = really(*args, **options)
        if not before:
            act()
        return result

    monkeypatch.setattr(*at, stepped)


def copy(site: Site, url: str | None) -> None:
    site.execute("UPDATE item_photos SET alt = :url", url=url)
