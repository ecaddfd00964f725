"""State tables made anew from the bucket, as good as those that were lost."""

import copy
import shutil
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.migration.rebuild import Rebuilt, rebuild_state
from photo_pipeline.core.migration.run import roll_back_batch
from photo_pipeline.core.migration.selection import batches_to_roll_back, batches_to_validate
from photo_pipeline.core.migration.stored_backups import read_bucket_backups
from photo_pipeline.core.migration.validate import validate_batch
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated, rewritten, rolled_back, uploaded
from photo_pipeline_tests.core.migration.test_repoint import repointed, to_another_domain
from photo_pipeline_tests.core.migration.test_restore import applied, lose_the_state_tables
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo

OBJECT_FACTS = (
    "bucket, key, source_sha256, recipe, variant, format, mime, bytes, width, height, quality, checksum"
)


def rebuilt(site: Site) -> Rebuilt:
    with site.project() as project:
        files = read_bucket_backups(project.config, project.store)
        return rebuild_state(project.database, project.config, project.store, files, run="rebuild")


def state(site: Site) -> dict[str, list[Any]]:
    """What rollback, validation and repoint go by."""
    photos = site.execute("SELECT * FROM pp_photo WHERE source IS NOT NULL ORDER BY id")
    return {
        "photos": [
            {k: v for k, v in row._mapping.items() if k not in ("validated_at", "updated_at")}
            for row in photos
        ],
        "rewrites": site.execute("SELECT * FROM pp_rewrite ORDER BY id"),
        "links": site.execute("SELECT * FROM pp_rewrite_photo ORDER BY 1, 2"),
        "objects": site.execute(f"SELECT {OBJECT_FACTS} FROM pp_object ORDER BY key"),
        "recipes": site.execute("SELECT digest, variants, formats, definition FROM pp_recipe ORDER BY 1"),
        "batches": site.execute("SELECT key, state, priority FROM pp_batch ORDER BY 1"),
    }


@MOSTLY_SQLITE
def test_what_was_lost_is_there_again_and_works(make_site: MakeSite, database: str) -> None:
    long_path = f"{'é' * 90}/{'ü' * 90}/{'ö' * 90}.jpg"  # 1,623 characters once it is percent-encoded
    site = make_site(photos=1, database=database)
    photo(site.uploads / long_path, seed=5)
    row = item_photo(1, f"/uploads/{long_path}")
    columns = ", ".join(row)
    site.execute(f"INSERT INTO item_photos ({columns}) VALUES ({', '.join(':' + c for c in row)})", **row)
    before = site.dump()
    (outcome,) = site.migrate()
    assert outcome.validated.passed == 2
    expected = state(site)
    lose_the_state_tables(site)
    shutil.rmtree(site.home / "backups")
    done = rebuilt(site)
    assert not done.has_findings, done
    assert (done.photos, done.objects, done.batches, done.recipes) == (2, 2 * 7, 1, 1)
    assert state(site) == expected
    with site.project() as project:
        (batch,) = batches_to_validate(project.database)
        assert validate_batch(project.database, project.config, project.cdn, batch, run="v").passed == 2
    shutil.rmtree(site.uploads / "items")
    (rolled,) = site.roll_back()
    assert (rolled.rolled_back, rolled.files_restored) == (2, 1)
    assert site.dump() == before
    # New ids do not collide with those that were inserted.
    photo(site.uploads / "items/7.jpg", seed=7)
    site.execute("UPDATE item_photos SET original_url = '/uploads/items/7.jpg' WHERE alt = 'photo 0'")
    site.migrate()
    assert site.states()["migrated"] == 1


@MOSTLY_SQLITE
def test_what_was_rolled_back_after_the_copy_is_seen_in_the_rows(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=3, database=database)
    before = site.dump()
    migrated(site)
    to_another_domain(site)
    repointed(site)
    ((first,),) = site.execute("SELECT MIN(id) FROM pp_photo WHERE source IS NOT NULL")
    rolled_back(site, only_photos=[first])
    expected = site.states()
    outcomes = site.execute("SELECT id, outcome FROM pp_rewrite ORDER BY id")
    lose_the_state_tables(site)
    assert rebuilt(site).rolled_back_since > 0
    assert site.states() == expected == {"migrated": 2, "rolled_back": 1}
    assert site.execute("SELECT id, outcome FROM pp_rewrite ORDER BY id") == outcomes
    rolled_back(site)
    assert site.dump() == before


def backups(site: Site) -> set[Path]:
    return set((site.home / "backups").rglob("*.parquet"))


def remove_copies(site: Site, *, made_after: Collection[Path] = ()) -> None:
    """As if the run had died before it copied ledger and catalog."""
    for path in backups(site).difference(made_after):
        if "-rows-" not in path.name:
            with site.project() as project:
                project.store.delete(f"originals/{site.name}-backups/batch-000001/{path.name}")
            path.unlink()


def rewritten_one_by_one(site: Site, *, clock_ahead: timedelta = timedelta()) -> set[Path]:
    """Rewrite the batch's last photo in a pass of its own; return the backup files of the first pass.

    That one is done on a machine whose clock is ahead.
    """
    uploaded(site)
    ((last,),) = site.execute("SELECT MAX(id) FROM pp_photo WHERE source IS NOT NULL")
    site.execute("UPDATE pp_photo SET state = 'processed' WHERE id = :i", i=last)
    assert rewritten(site).rewritten == 1
    first = backups(site)
    made_at = str((utc_now() + clock_ahead).replace(tzinfo=None))
    site.execute("UPDATE pp_backup SET made_at = :at", at=made_at)
    site.execute("UPDATE pp_photo SET state = 'uploaded' WHERE id = :i", i=last)
    assert rewritten(site).rewritten == 1
    return first


def test_a_batch_whose_last_rewrites_no_copy_has_is_named(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    before = site.dump()
    first = rewritten_one_by_one(site)
    lose_the_state_tables(site)
    remove_copies(site, made_after=first)
    done = rebuilt(site)
    assert (done.without_copy, done.has_findings) == (["batch-000001"], True)
    applied(site, force=True)  # what the rewrite wrote beside the photo, only a ledger could tell
    assert site.dump() == before


def test_a_batch_of_which_all_is_copied_is_not_named(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    rewritten_one_by_one(site)
    lose_the_state_tables(site)
    assert not rebuilt(site).has_findings


def test_new_rewrites_are_copied_whatever_the_clock_of_the_machine_before_said(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    before = site.dump()
    first = rewritten_one_by_one(site, clock_ahead=timedelta(minutes=5))
    kinds = ("-rows-", "-ledger-", "-photos-")
    assert [sum(kind in path.name for path in backups(site) - first) for kind in kinds] == [1, 1, 1]
    # What is copied is not copied again.
    there = backups(site)
    assert rewritten(site).already_done == 2
    assert backups(site) == there
    lose_the_state_tables(site)
    applied(site)
    assert site.dump() == before


def test_a_written_back_column_that_was_dropped_since_does_not_keep_the_rest(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrated(site)
    expected = state(site)["rewrites"]
    lose_the_state_tables(site)
    source = copy.deepcopy(ITEM_PHOTOS)
    del source["rewrite"]["write_back"]["width"]
    site.configure(sources=[source])
    site.execute("ALTER TABLE item_photos DROP COLUMN width")
    assert rebuilt(site).rolled_back_since == 0
    assert state(site)["rewrites"] == expected
    assert rolled_back(site).rolled_back == 1


def test_a_batch_without_a_copied_ledger_is_named_and_goes_back_by_restore(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrated(site)
    remove_copies(site)
    lose_the_state_tables(site)
    done = rebuilt(site)
    assert done.without_copy == ["batch-000001"]
    assert applied(site).rows_restored == 1


def test_foreign_and_damaged_objects_are_named_and_not_trusted(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrated(site)
    with site.project() as project:
        store = project.store
        key = f"{store.settings.prefix}/somebody-else.txt"
        store.put_new(key, b"hello", content_type="text/plain")
        (damaged, *_) = [k for k, _ in store.list(store.settings.prefix) if k.endswith("full.jpg")]
        metadata = store.head(damaged).metadata  # type: ignore[union-attr]
        store.delete(damaged)
        store.put_new(damaged, b"other bytes", content_type="image/jpeg", metadata=metadata)
    lose_the_state_tables(site)
    done = rebuilt(site)
    assert (done.foreign, done.unproven) == ([key], 1)
    assert site.execute("SELECT key FROM pp_object WHERE verified_at IS NULL") == [(damaged,)]


def test_state_tables_that_are_there_are_not_replaced(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrated(site)
    before = state(site)
    with pytest.raises(GuardRefusedError, match="not lost"):
        rebuilt(site)
    assert state(site) == before


@MOSTLY_SQLITE
def test_files_of_rows_that_a_restored_database_shows_again_come_from_their_originals(
    make_site: MakeSite, database: str
) -> None:
    # docs/runbooks/database-restore.md: a backup from before the migration; files were cleaned up since.
    site = make_site(photos=3, database=database)
    before, dumped = site.dump(), site.execute("SELECT * FROM item_photos")
    files = {path: path.read_bytes() for path in site.uploads.rglob("*.jpg")}
    migrated(site)
    ((lost,),) = site.execute(
        "SELECT o.key FROM pp_object o JOIN pp_photo p ON p.sha256 = o.source_sha256 "
        "WHERE o.variant = 'original' AND p.value = '/uploads/items/1.jpg'"
    )
    shutil.rmtree(site.uploads / "items")
    site.execute("DELETE FROM item_photos")
    for row in dumped:
        columns = ", ".join(row._mapping)
        values = ", ".join(f":{name}" for name in row._mapping)
        site.execute(f"INSERT INTO item_photos ({columns}) VALUES ({values})", **row._mapping)
    assert site.dump() == before
    lose_the_state_tables(site)
    with site.project() as project:
        project.store.delete(lost)
    rebuilt(site)
    with site.project() as project:
        (batch,) = batches_to_roll_back(project.database, config=project.config)
        outcome = roll_back_batch(project, batch, run="files")
    assert (outcome.rolled_back, outcome.files_restored, len(outcome.files_lost)) == (0, 2, 1)
    assert "items/1.jpg" in outcome.files_lost[0]
    there = {path: path.read_bytes() for path in site.uploads.rglob("*.jpg")}
    assert there == {path: content for path, content in files.items() if path.name != "1.jpg"}
    assert site.dump() == before
    assert site.execute("SELECT subject FROM pp_audit WHERE action = 'restore_files'") == [
        (f"2 files of {batch}",)
    ]
