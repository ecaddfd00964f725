"""What the local clean-up takes, what it leaves and why, and how everything comes back."""

import os
from pathlib import Path

import pytest

from photo_pipeline.core import audit
from photo_pipeline.core.cleanup.local_files import plan_clean_up
from photo_pipeline.core.errors import GuardRefusedError, PausedError
from photo_pipeline.core.migration import control
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.cleanup.conftest import (
    AT_ONCE,
    MakeMigrated,
    cleaned,
    counts,
    files_of,
    pass_validation,
    trash_counts,
    trash_of,
    undone,
)
from photo_pipeline_tests.core.migration.quick import again, migrated, rolled_back, uploaded
from photo_pipeline_tests.core.migration.test_modes import files_site
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo


def test_due_files_go_to_the_trash_and_come_back_as_they_were(make_copied: MakeMigrated) -> None:
    site = make_copied()
    before = files_of(site)
    times = {path: (site.uploads / path).stat().st_mtime_ns for path in before}
    assert counts(cleaned(site)) == {"trashed": 4}
    assert files_of(site) == {}
    assert sorted(trash_of(site)) == sorted(before.values())
    outcome = undone(site)
    assert (len(outcome.restored), outcome.left) == (4, {})
    assert files_of(site) == before
    assert {path: (site.uploads / path).stat().st_mtime_ns for path in before} == times
    assert trash_of(site) == []


def test_a_plan_touches_nothing(make_copied: MakeMigrated) -> None:
    site = make_copied()
    before = files_of(site)
    with site.project() as project:
        plan = plan_clean_up(project.database, project.config)
    assert counts(plan) == {"due": 4}
    assert plan.files["due"].bytes == sum(map(len, before.values()))
    assert (files_of(site), trash_of(site)) == (before, [])


def test_after_the_second_period_files_are_deleted_and_their_originals_remain(
    make_copied: MakeMigrated,
) -> None:
    site = make_copied(cleanup=AT_ONCE)
    before = files_of(site)
    assert counts(cleaned(site)) == {"trashed": 4}
    outcome = cleaned(site)
    assert trash_counts(outcome) == {"purged": 4}
    assert trash_of(site) == []
    assert not outcome.has_findings
    rolled_back(site)
    assert files_of(site) == before


KEEP_NONE = pytest.param({"originals": "discard"}, id="discard", marks=pytest.mark.slow)


@pytest.mark.parametrize("change", [pytest.param({"originals_prefix": "elsewhere"}, id="prefix"), KEEP_NONE])
def test_a_rollback_finds_originals_where_they_were_stored_though_new_ones_go_elsewhere(
    make_copied: MakeMigrated, change: dict[str, str]
) -> None:
    site = make_copied(cleanup=AT_ONCE)
    before = files_of(site)
    cleaned(site)
    cleaned(site)
    assert files_of(site) == {}
    site.configure(store=site.settings["store"] | change)
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.files_restored, outcome.failed) == (4, 4, 0)
    assert files_of(site) == before


@pytest.mark.slow
def test_it_works_on_postgresql(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=2, database="postgres", cleanup=AT_ONCE)
    before = files_of(site)
    assert counts(cleaned(site)) == {"trashed": 2}
    assert len(undone(site, photos=[1]).restored) == 1
    assert trash_counts(cleaned(site)) == {"purged": 1}
    assert rolled_back(site).files_restored == 2
    assert files_of(site) == before


@pytest.mark.slow
def test_both_steps_and_the_way_back_are_audited(make_copied: MakeMigrated) -> None:
    site = make_copied(cleanup=AT_ONCE, photos=1)
    cleaned(site)
    undone(site)
    cleaned(site)
    cleaned(site)
    with site.project() as project, project.database.read() as connection:
        acts = [each.action for each in audit.entries(connection, last=100)]
        assert [each for each in acts if each in ("trash", "untrash", "purge")] == [
            *("trash", "untrash"),
            *("trash", "purge"),
        ]
        assert audit.verify(connection).holds


@pytest.mark.parametrize("days", [0, 30])
def test_a_file_waits_out_its_retention(make_copied: MakeMigrated, days: int) -> None:
    site = make_copied(cleanup={"retention_days": days})
    expected = {"trashed": 4} if days == 0 else {"within_retention": 4}
    assert counts(cleaned(site)) == expected


def test_what_was_not_validated_since_its_rewrite_stays(make_copied: MakeMigrated) -> None:
    site = make_copied()
    site.execute("UPDATE pp_photo SET validated_at = NULL")
    assert counts(cleaned(site)) == {"not_validated": 4}
    pass_validation(site)
    site.execute("UPDATE pp_validation SET ok = :no WHERE photo_id = 1", no=False)
    assert counts(cleaned(site)) == {"not_validated": 4}


MORE = [pytest.param(each, marks=pytest.mark.slow) for each in ("failed", "pending", "running")]


@pytest.mark.parametrize("state", ["rolled_back", "paused", *MORE])
def test_files_of_a_batch_that_is_not_completed_stay(make_copied: MakeMigrated, state: str) -> None:
    site = make_copied()
    site.execute("UPDATE pp_batch SET state = :state", state=state)
    assert counts(cleaned(site)) == {"batch_not_completed": 4}
    assert len(files_of(site)) == 4


def test_while_a_run_has_the_batch_its_files_stay(make_copied: MakeMigrated) -> None:
    site = make_copied()
    with site.project() as project, BatchLease(project.database, "batch-000001", run="another"):
        assert counts(cleaned(site)) == {"batch_busy": 4}
    assert counts(cleaned(site)) == {"trashed": 4}


def test_it_refuses_beside_a_rollback_a_pause_and_without_originals(make_copied: MakeMigrated) -> None:
    site = make_copied()
    site.execute("UPDATE pp_batch SET state = 'rolling_back'")
    with pytest.raises(GuardRefusedError, match="rollback"):
        cleaned(site)
    site.execute("UPDATE pp_batch SET state = 'completed'")
    with site.project() as project:
        control.pause(project.database, reason="a test", run="test")
    with pytest.raises(PausedError):
        cleaned(site)
    with site.project() as project:
        control.resume(project.database, reason="a test", run="test")
    site.configure(store=site.settings["store"] | {"originals": "discard"})
    with pytest.raises(GuardRefusedError, match="only originals"):
        cleaned(site)
    assert len(files_of(site)) == 4


def test_an_original_that_the_store_lost_keeps_its_file(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=2)
    with site.project() as project:
        (key,) = [key for key in originals(site) if _sha(site, 0) in key]
        project.store.delete(key)
    outcome = cleaned(site)
    assert counts(outcome) == {"trashed": 1, "not_stored": 1}
    assert outcome.has_findings
    assert list(files_of(site)) == ["items/0.jpg"]


@pytest.mark.slow
def test_an_original_that_rotted_keeps_its_file(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=1)
    with site.project() as project:
        (key,) = originals(site)
        project.store.s3.put_object(Bucket=project.store.bucket, Key=key, Body=b"something else")
    assert counts(cleaned(site)) == {"not_stored": 1}


def test_an_original_that_was_lost_while_its_file_was_in_the_trash_keeps_it_there(
    make_migrated: MakeMigrated,
) -> None:
    site = make_migrated(cleanup=AT_ONCE, photos=1)
    cleaned(site)
    with site.project() as project:
        project.store.delete(*originals(site))
    outcome = cleaned(site)
    assert trash_counts(outcome) == {"not_stored": 1}
    assert len(trash_of(site)) == 1


@pytest.mark.parametrize("change", ["content", "time", "replaced"])
def test_a_file_that_is_not_the_catalogued_one_stays(make_copied: MakeMigrated, change: str) -> None:
    site = make_copied(photos=1)
    path = site.uploads / "items/0.jpg"
    info = path.stat()
    if change == "content":  # same inode, size and time
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        with path.open("r+b") as stream:
            stream.write(data)
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    else:
        data = path.read_bytes()
        path.rename(site.home / "elsewhere.jpg")
        path.write_bytes(data)
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    outcome = cleaned(site)
    assert counts(outcome) == {"changed": 1}
    assert outcome.has_findings
    assert path.is_file()


def test_a_file_that_several_rows_show_goes_with_the_last_of_them(make_migrated: MakeMigrated) -> None:
    rows = [item_photo(n, "/uploads/items/0.jpg") for n in range(3)]
    site = make_migrated(photos=1, rows=rows, batch_size=1)
    site.execute("UPDATE pp_batch SET state = 'failed' WHERE key = 'batch-000003'")
    assert counts(cleaned(site)) == {"batch_not_completed": 1}
    site.execute("UPDATE pp_batch SET state = 'completed'")
    assert counts(cleaned(site)) == {"trashed": 1}


def test_a_row_that_began_to_refer_to_a_file_since_keeps_it(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=2)
    new = item_photo(7, "/uploads/items/0.jpg")
    site.execute(
        "INSERT INTO item_photos (id, original_url) VALUES (:id, :url)", id=new["id"], url=new["original_url"]
    )
    assert counts(cleaned(site)) == {"trashed": 1, "still_referenced": 1}
    assert list(files_of(site)) == ["items/0.jpg"]


def test_a_row_that_refers_to_a_file_in_the_trash_keeps_it_from_being_deleted(
    make_copied: MakeMigrated,
) -> None:
    site = make_copied(cleanup=AT_ONCE, photos=1)
    cleaned(site)
    site.execute("UPDATE item_photos SET original_url = '/uploads/items/0.jpg'")
    outcome = cleaned(site)
    assert trash_counts(outcome) == {"referenced_again": 1}
    assert outcome.has_findings
    assert len(trash_of(site)) == 1


@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)], ids=["sqlite", "postgres"]
)
def test_a_row_that_where_leaves_out_keeps_its_file_before_and_in_the_trash(
    make_migrated: MakeMigrated, database: str
) -> None:
    left_out = "00000000-0000-4000-8000-0000000000aa"
    source = ITEM_PHOTOS | {"where": [{"column": "item_id", "op": "eq", "value": 0}]}
    rows = [item_photo(n, f"/uploads/items/{n}.jpg") for n in range(2)]
    site = make_migrated(photos=2, rows=rows, sources=[source], database=database, cleanup=AT_ONCE)
    site.execute(
        "INSERT INTO item_photos (id, item_id, original_url) VALUES (:id, 7, :url)",
        id=left_out,
        url="HTTPS://Shop.Example/uploads//items/%30.jpg?v=2",
    )

    with site.project() as project:
        plan = plan_clean_up(project.database, project.config)
    assert counts(plan) == {"due": 1, "still_referenced": 1}
    outcome = cleaned(site)
    assert counts(outcome) == {"trashed": 1, "still_referenced": 1}
    assert outcome.reasons["still_referenced"] == [
        f'uploads/items/0.jpg: item_photos ["{left_out}"] original_url names it'
    ]
    assert list(files_of(site)) == ["items/0.jpg"]

    site.execute("UPDATE item_photos SET original_url = '/uploads/items/1.jpg' WHERE item_id = 7")
    outcome = cleaned(site)
    assert counts(outcome) == {"trashed": 1}
    assert trash_counts(outcome) == {"referenced_again": 1}
    site.execute("DELETE FROM item_photos WHERE item_id = 7")
    assert trash_counts(cleaned(site)) == {"purged": 2}


def test_a_row_that_its_own_rewrite_deselects_is_no_other_row(make_site: MakeSite) -> None:
    """Mode columns: the column goes on naming the file, and `where` does not select the row any more."""
    local = [{"column": "disk", "op": "eq", "value": "local"}]
    site = files_site(make_site, "sqlite", where=local)
    site.configure(cleanup=AT_ONCE)
    migrated(site)
    pass_validation(site)
    site.execute("INSERT INTO files (id, path, disk) VALUES (7, 'items/1.jpg', 'archive')")
    assert counts(cleaned(site)) == {"trashed": 1, "still_referenced": 1}
    assert trash_counts(cleaned(site)) == {"purged": 1}


def test_undo_never_writes_over_a_file_that_appeared_since(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=2)
    cleaned(site)
    (site.uploads / "items/0.jpg").write_bytes(b"new")
    outcome = undone(site)
    assert len(outcome.restored) == 1
    assert list(outcome.left) == ["uploads/items/0.jpg"]
    assert files_of(site)["items/0.jpg"] == b"new"
    assert len(trash_of(site)) == 1


@pytest.mark.slow
def test_undo_by_batch_and_by_photo(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=3, batch_size=1)
    cleaned(site)
    (first,) = site.execute("SELECT path, batch FROM pp_photo WHERE id = 2")
    undone(site, photos=[2])
    assert list(files_of(site)) == [first.path]
    undone(site, batches=["batch-000001"])
    assert len(files_of(site)) == 2
    assert len(trash_of(site)) == 1


@pytest.mark.slow
def test_undo_makes_folders_again_that_were_removed_since(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=1)
    before = files_of(site)
    cleaned(site)
    (site.uploads / "items").rmdir()
    undone(site)
    assert files_of(site) == before


def test_a_rollback_brings_files_back_from_the_trash_without_asking_the_store(
    make_copied: MakeMigrated, s3_access_log: Path
) -> None:
    site = make_copied()
    before = files_of(site)
    cleaned(site)
    asked = _requests(site, s3_access_log)
    outcome = rolled_back(site)
    assert (outcome.rolled_back, outcome.files_restored, outcome.failed) == (4, 4, 0)
    assert files_of(site) == before
    assert _requests(site, s3_access_log) == asked
    assert trash_of(site) == []


def test_a_rollback_takes_the_original_where_the_trash_is_not_to_be_trusted(
    make_copied: MakeMigrated,
) -> None:
    site = make_copied(photos=1)
    before = files_of(site)
    cleaned(site)
    (held,) = (site.uploads / ".photo_pipeline-trash").iterdir()
    held.write_bytes(b"spoilt")
    assert rolled_back(site).rolled_back == 1
    assert files_of(site) == before
    assert trash_of(site) == [b"spoilt"]


@pytest.mark.slow
def test_after_a_rollback_nothing_of_the_batch_is_cleaned_up(make_copied: MakeMigrated) -> None:
    site = make_copied()
    before = files_of(site)
    rolled_back(site)
    assert counts(cleaned(site)) == {}
    assert files_of(site) == before


@pytest.mark.slow
def test_a_root_whose_files_are_all_cleaned_up_is_not_taken_for_unmounted(
    make_copied: MakeMigrated,
) -> None:
    site = make_copied(cleanup=AT_ONCE)
    cleaned(site)
    cleaned(site)
    with site.project() as project:
        inventory, _ = site.inventory(project)
    assert inventory.adds_up
    assert (inventory.files, inventory.by_class["already_migrated"]) == (0, 4)


@pytest.mark.slow
def test_the_inventory_does_not_look_into_the_trash(make_copied: MakeMigrated) -> None:
    site = make_copied()
    cleaned(site)
    with site.project() as project:
        inventory, _ = site.inventory(project)
    assert inventory.unreferenced_files == 0


def test_unreferenced_files_are_counted_and_kept(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=1)
    photo(site.uploads / "nobody/knows.jpg", seed=9)
    outcome = cleaned(site)
    assert outcome.unreferenced.files == 1
    assert list(files_of(site)) == ["nobody/knows.jpg"]


@pytest.mark.slow
def test_cleaned_up_files_can_be_repointed_and_validated(make_copied: MakeMigrated) -> None:
    """Nothing of ours needs the local file any more: what is proven stays proven."""
    site = make_copied(cleanup=AT_ONCE)
    cleaned(site)
    cleaned(site)
    assert uploaded(site) == []
    assert site.states() == {"migrated": 4}


@pytest.mark.slow
def test_after_a_rollback_and_another_migration_files_are_cleaned_up_again(
    make_copied: MakeMigrated,
) -> None:
    site = make_copied(cleanup=AT_ONCE, photos=2)
    cleaned(site)
    cleaned(site)
    rolled_back(site)
    with site.project() as project:
        site.inventory(project)
    again(site, "batch-000001")
    pass_validation(site)
    assert counts(cleaned(site)) == {"trashed": 2}


def originals(site: Site) -> list[str]:
    rows = site.execute("SELECT \"key\" FROM pp_object WHERE variant = 'original'")
    return [row[0] for row in rows]


def _sha(site: Site, number: int) -> str:
    ((sha,),) = site.execute("SELECT sha256 FROM pp_photo WHERE path = :p", p=f"items/{number}.jpg")
    return str(sha)


def _requests(site: Site, log: Path) -> int:
    return sum(f"/{site.name}/" in line for line in log.read_text(encoding="utf-8").splitlines())
