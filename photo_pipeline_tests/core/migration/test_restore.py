"""Backup before the rewrite, and the way back from the backup files when all state tables are lost."""

import copy
import os
import shutil
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.errors import (
    ConfigurationError,
    GuardRefusedError,
    InfrastructureError,
    StoreError,
    StoreRefusedError,
)
from photo_pipeline.core.migration import backup
from photo_pipeline.core.migration.backup import back_up_ledger
from photo_pipeline.core.migration.backup_file import BackupFile, BackupKind
from photo_pipeline.core.migration.restore import CellOutcome, Restored, restore
from photo_pipeline.core.migration.stored_backups import read_bucket_backups, read_local_backups
from photo_pipeline.core.sources.mapping import Source
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import again, migrated, rewritten, rolled_back, uploaded
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo


def lose_the_state_tables(site: Site) -> None:
    engine = site.engine()
    with engine.begin() as connection:
        for name in sa.inspect(connection).get_table_names():
            if name.startswith("pp_"):
                connection.execute(sa.text(f'DROP TABLE "{name}"'))
    engine.dispose()


def restored(site: Site, *, from_bucket: bool = False, **options: Any) -> Restored:
    with site.project() as project:
        files = (
            read_bucket_backups(project.config, project.store)
            if from_bucket
            else read_local_backups(project.config)
        )
        return restore(project.database, project.config, files, run="restore", **options)


def applied(site: Site, **options: Any) -> Restored:
    return restored(site, apply=True, **options)


def without_ledger_copies(site: Site) -> None:
    """As after a crash between the last commit and the copy of the ledger."""
    for path in (site.home / "backups").rglob("*.parquet"):
        if "-rows-" not in path.name:
            path.unlink()


def varied_rows() -> list[dict[str, Any]]:
    rows = [item_photo(n, f"/uploads/items/{n}.jpg", f"/uploads/items/{n}.jpg") for n in range(3)]
    rows[1] |= {"file_size": 123, "mime_type": "image/x-old", "width": 0, "updated_at": None}
    rows[2] |= {"updated_at": "2024-05-01T10:00:00.123Z"}
    return rows


@pytest.mark.parametrize(
    ("database", "place"),
    [
        ("sqlite", "folder"),
        ("postgres", "folder"),
        ("sqlite", "bucket"),
        pytest.param("postgres", "bucket", marks=pytest.mark.slow),
    ],
)
def test_with_every_state_table_lost_the_rows_come_back_byte_identical(
    make_site: MakeSite, database: str, place: str
) -> None:
    site = make_site(photos=3, rows=varied_rows(), database=database)
    before = site.dump()
    migrated(site)
    after = site.dump()
    lose_the_state_tables(site)
    if place == "bucket":
        shutil.rmtree(site.home / "backups")
    dry = restored(site, from_bucket=place == "bucket")
    assert (dry.rows_restored, site.dump()) == (3, after)
    done = applied(site, from_bucket=place == "bucket")
    assert site.dump() == before != after
    assert (done.rows_restored, done.left, done.rows_deleted) == (3, [], [])
    # Running it twice changes nothing.
    assert applied(site, from_bucket=place == "bucket").rows_restored == 0
    assert site.dump() == before


@MOSTLY_SQLITE
def test_what_the_application_has_edited_since_is_listed_and_left(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=4, database=database)
    migrated(site)
    lose_the_state_tables(site)
    site.execute("UPDATE item_photos SET original_url = '/uploads/newer.jpg' WHERE alt = 'photo 1'")
    site.execute("UPDATE item_photos SET updated_at = '2031-01-01' WHERE alt = 'photo 2'")
    site.execute("DELETE FROM item_photos WHERE alt = 'photo 3'")
    (edited,) = site.execute("SELECT * FROM item_photos WHERE alt = 'photo 1'")
    done = applied(site)
    assert site.execute("SELECT * FROM item_photos WHERE alt = 'photo 1'") == [edited]
    assert site.execute("SELECT original_url, updated_at FROM item_photos WHERE alt = 'photo 2'") == [
        ("/uploads/items/2.jpg", "2031-01-01")
    ]
    assert done.rows_restored == 2
    assert len(done.rows_deleted) == 1
    listed = {(c.row_key[-3], c.column) for c in done.left if c.outcome is CellOutcome.EDITED}
    assert {("1", "original_url"), ("2", "updated_at")} <= listed
    assert {row for row, _ in listed} == {"1", "2"}


@MOSTLY_SQLITE
def test_by_force_edits_are_overwritten_and_the_lost_values_are_named(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=2, database=database)
    before = site.dump()
    migrated(site)
    lose_the_state_tables(site)
    site.execute("UPDATE item_photos SET original_url = '/uploads/newer.jpg' WHERE alt = 'photo 1'")
    done = applied(site, force=True)
    assert site.dump() == before
    (lost,) = [c for c in done.left if c.column == "original_url"]
    assert (lost.outcome, lost.before) == (CellOutcome.OVERWRITTEN, "/uploads/newer.jpg")


@MOSTLY_SQLITE
def test_without_a_copied_ledger_only_our_own_addresses_go_back(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=2, database=database)
    before = site.dump()
    migrated(site)
    lose_the_state_tables(site)
    without_ledger_copies(site)
    # The application shows another migrated photo in this row by now.
    ((other,),) = site.execute("SELECT original_url FROM item_photos WHERE alt = 'photo 0'")
    site.execute("UPDATE item_photos SET original_url = :u WHERE alt = 'photo 1'", u=other)
    done = applied(site)
    assert site.execute("SELECT original_url FROM item_photos ORDER BY alt") == [
        ("/uploads/items/0.jpg",),
        (other,),
    ]
    assert done.cells["unproven"] > 0
    site.execute("UPDATE item_photos SET original_url = '/uploads/items/1.jpg' WHERE alt = 'photo 1'")
    applied(site, force=True)
    assert site.dump() == before


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_backup_is_refused_by_its_name(make_site: MakeSite, damage: str) -> None:
    site = make_site(photos=1)
    migrated(site)
    after = site.dump()
    (path,) = (site.home / "backups").rglob("*-rows-*.parquet")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[:-20], "flip": data, "empty": b""}[damage])
    with pytest.raises(ConfigurationError, match=path.name):
        applied(site)
    assert site.dump() == after
    # The copy in the bucket is whole.
    applied(site, from_bucket=True)
    assert site.dump() != after


@MOSTLY_SQLITE
def test_where_the_state_tables_stand_they_learn_of_the_restore(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=2, database=database)
    before = site.dump()
    migrated(site)
    applied(site)
    assert site.dump() == before
    assert site.states() == {"rolled_back": 2}
    assert site.execute("SELECT state FROM pp_batch") == [("rolled_back",)]
    assert rolled_back(site).rows == 0
    again_done = site.execute("SELECT COUNT(*) FROM pp_audit WHERE action = 'restore'")
    assert again_done == [(1,)]


def test_a_batch_on_its_way_forward_again_is_not_closed_by_the_restore_of_others(make_site: MakeSite) -> None:
    site = make_site(photos=2, batch_size=1)
    for batch in uploaded(site):
        rewritten(site, batch)
    rolled_back(site, "batch-000002")
    # As after a run of it by its name, which was paused.
    site.execute("UPDATE pp_batch SET state = 'paused' WHERE key = 'batch-000002'")
    site.execute("UPDATE pp_photo SET state = 'uploaded' WHERE batch = 'batch-000002'")
    applied(site)
    assert site.execute("SELECT state FROM pp_batch ORDER BY key") == [("rolled_back",), ("paused",)]
    assert site.states() == {"rolled_back": 1, "uploaded": 1}


@MOSTLY_SQLITE
def test_a_row_migrated_twice_goes_back_to_what_the_application_wrote_in_between(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=2, database=database)
    migrated(site)
    rolled_back(site)
    site.execute("UPDATE item_photos SET width = 77, updated_at = '2029-09-09 09:09:09'")
    between = site.dump()
    site.execute("UPDATE pp_photo SET state = 'pending' WHERE state = 'rolled_back'")
    again(site, "batch-000001")
    assert site.dump() != between
    lose_the_state_tables(site)
    applied(site)
    assert site.dump() == between


@pytest.mark.parametrize("rolled", [False, True])
def test_a_replaced_photo_does_not_get_the_facts_of_the_one_before(make_site: MakeSite, rolled: bool) -> None:
    """The PNG's facts stood below the JPEG's, and of its type the second rewrite had nothing to change."""
    rows = [item_photo(0, "/uploads/items/0.png") | {"mime_type": "image/png"}]
    site = make_site(photos=2, rows=rows)
    photo(site.uploads / "items/0.png", seed=5)
    migrated(site)
    if rolled:
        rolled_back(site)
    site.execute(
        "UPDATE item_photos SET original_url = '/uploads/items/1.jpg', mime_type = 'image/jpeg', "
        "file_size = 777, width = 1000, height = 800, updated_at = '2025-01-01 10:00:00'"
    )
    between = site.dump()
    (batch,) = uploaded(site)
    rewritten(site, batch)
    lose_the_state_tables(site)
    assert applied(site).left == []
    assert site.dump() == between


def test_facts_of_a_photo_that_the_application_took_back_itself_go_back_to_the_first(
    make_site: MakeSite,
) -> None:
    site = make_site(photos=1)
    migrated(site)
    # The application's edit form saves its row again: the local value, and a fact of its own.
    site.execute("UPDATE item_photos SET original_url = '/uploads/items/0.jpg', width = 77")
    for batch in uploaded(site):
        rewritten(site, batch)
    assert site.execute("SELECT width FROM item_photos") != [(77,)]
    lose_the_state_tables(site)
    applied(site)
    shown = "original_url, width, height, mime_type"
    assert site.execute(f"SELECT {shown} FROM item_photos") == [("/uploads/items/0.jpg", 77, None, None)]


def test_facts_go_no_further_back_than_the_primary_photo_that_they_speak_of(make_site: MakeSite) -> None:
    source = copy.deepcopy(ITEM_PHOTOS)
    source["fields"][1] |= {"role": "duplicate", "variant": "full"}
    rows = [item_photo(0, "/uploads/items/0.png", "/uploads/items/1.jpg") | {"mime_type": "image/png"}]
    site = make_site(photos=3, rows=rows, sources=[source])
    photo(site.uploads / "items/0.png", seed=5)
    migrated(site)
    site.execute(
        "UPDATE item_photos SET original_url = '/uploads/items/2.jpg', mime_type = 'image/jpeg', width = 10"
    )
    (batch,) = uploaded(site)
    rewritten(site, batch)
    lose_the_state_tables(site)
    applied(site)
    # The other photo, and the time that was touched for both, go back to before the first rewrite.
    assert site.execute(
        "SELECT original_url, thumbnail_url, mime_type, width, updated_at FROM item_photos"
    ) == [("/uploads/items/2.jpg", "/uploads/items/1.jpg", "image/jpeg", 10, "2024-05-01 10:00:00")]


def test_no_row_is_rewritten_when_its_backup_cannot_be_written(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    before = site.dump()
    (batch,) = uploaded(site)
    (site.home / "backups").write_text("a file where the folder should be")
    with pytest.raises(InfrastructureError, match="no row is rewritten without it"):
        rewritten(site, batch)
    assert site.dump() == before
    (site.home / "backups").unlink()
    assert rewritten(site, batch).rewritten == 2


def test_no_row_is_rewritten_when_the_bucket_does_not_take_the_backup(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=2)
    before = site.dump()
    (batch,) = uploaded(site)
    monkeypatch.setattr(backup, "is_proven", lambda *_, **__: False)
    with pytest.raises(StoreError, match="does not give back the backup") as refused:
        rewritten(site, batch)
    assert "stays there" not in str(refused.value)

    def deny(_store: PhotoStore, key: str) -> None:
        raise StoreRefusedError(key, cause="AccessDenied", fix="allow it")

    # As with the policy of the role `migrator`.
    monkeypatch.setattr(PhotoStore, "delete", deny)
    with pytest.raises(StoreError, match=r"does not give back .* stays there \(AccessDenied\).* by hand"):
        rewritten(site, batch)
    assert site.dump() == before


def test_photos_that_the_user_has_swapped_are_left_also_without_a_copy_of_the_ledger(
    make_site: MakeSite,
) -> None:
    fields = [
        {"kind": "url", "column": "original_url", "root": "uploads"},
        {"kind": "url", "column": "thumbnail_url", "root": "uploads", "role": "duplicate"},
    ]
    source = {"name": "item_photos", "table": "item_photos", "key": ["id"], "fields": fields}
    rows = [item_photo(0, "/uploads/items/0.jpg", "/uploads/items/1.jpg")]
    site = make_site(photos=2, rows=rows, sources=[source | {"rewrite": {"mode": "url"}}])
    migrated(site)
    without_ledger_copies(site)
    lose_the_state_tables(site)
    site.execute("UPDATE item_photos SET original_url = thumbnail_url, thumbnail_url = original_url")
    swapped = site.dump()
    outcome = applied(site)
    assert (outcome.rows_restored, outcome.cells[CellOutcome.EDITED]) == (0, 2)
    assert site.dump() == swapped


@MOSTLY_SQLITE
def test_a_row_that_changes_while_it_is_backed_up_is_backed_up_again(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """An edit between reading the row and comparing the file with it must not leave a stale backup."""
    site = make_site(photos=2, database=database)
    (batch,) = uploaded(site)
    encoded, edits = BackupFile.encoded, ["2030-01-01 00:00:00"]

    def edit_meanwhile(file: BackupFile) -> bytes:
        if file.kind is BackupKind.ROWS and edits:
            site.execute("UPDATE item_photos SET updated_at = :t WHERE alt = 'photo 1'", t=edits.pop())
        return encoded(file)

    monkeypatch.setattr(BackupFile, "encoded", edit_meanwhile)
    assert rewritten(site, batch).rewritten == 2
    assert len(list((site.home / "backups").rglob("*-rows-*"))) == 2
    lose_the_state_tables(site)
    applied(site)
    assert site.execute("SELECT updated_at FROM item_photos WHERE alt = 'photo 1'") == [
        ("2030-01-01 00:00:00",)
    ]


def test_a_row_that_never_holds_still_is_not_rewritten(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=2)
    (batch,) = uploaded(site)
    encoded, edits = BackupFile.encoded, iter(range(100))

    def edit_meanwhile(file: BackupFile) -> bytes:
        site.execute("UPDATE item_photos SET width = :w WHERE alt = 'photo 1'", w=next(edits))
        return encoded(file)

    monkeypatch.setattr(BackupFile, "encoded", edit_meanwhile)
    outcome = rewritten(site, batch)
    assert (outcome.rewritten, outcome.not_ready) == (1, 1)
    assert site.states() == {"migrated": 1, "uploaded": 1}


def test_a_copy_of_the_ledger_that_a_crash_prevented_is_made_by_the_next_run(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=2)
    before = site.dump()
    (batch,) = uploaded(site)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("photo_pipeline.core.migration.rewrite.back_up_ledger", crash)
    with pytest.raises(KeyboardInterrupt):
        rewritten(site, batch)
    monkeypatch.setattr("photo_pipeline.core.migration.rewrite.back_up_ledger", back_up_ledger)
    assert rewritten(site, batch).already_done == 2
    lose_the_state_tables(site)
    applied(site)
    assert site.dump() == before


def test_files_and_folders_reach_the_disk_before_a_row_is_rewritten(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=1)
    (batch,) = uploaded(site)
    synced, fsync = [], os.fsync

    def watched(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    rewritten(site, batch)
    backups = site.home / "backups"
    assert any(path.name.startswith(".") and "-rows-" in path.name for path in synced)
    assert {backups / batch, backups, site.home} <= set(synced)


@MOSTLY_SQLITE
def test_each_backup_is_on_record_with_its_checksum_and_proof(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=2, database=database)
    migrated(site)
    rows = site.execute('SELECT path, sha256, rows, "table", verified_at, bucket, key FROM pp_backup')
    assert sorted(row[3] for row in rows) == ["item_photos", "pp_photo", "pp_rewrite"]
    with site.project() as project:
        store: PhotoStore = project.store
        for path, sha256, _, _, verified_at, _, key in rows:
            assert verified_at is not None
            assert sha256 in path
            assert store.read(key) == (site.home / "backups" / path).read_bytes()


SHA = "ab" * 32
OURS = f"https://cdn.example/p/photos/ab/{SHA}/r1/full.jpg"


@pytest.mark.parametrize(
    ("before", "after", "goes_back"),
    [
        ("<img src='/uploads/a b.jpg'> & more", f"<img src='{OURS}'> & more", True),
        ('{"url": "\\/uploads\\/a.jpg"}', '{"url": "' + OURS.replace("/", "\\/") + '"}', True),
        ("![](/uploads/a.jpg) /uploads/b.jpg end", f"![]({OURS}) {OURS} end", True),
        ("x?u=%2Fuploads%2Fa.jpg&y", "x?u=" + OURS.replace(":", "%3A").replace("/", "%2F") + "&y", True),
        ("uploads/a.jpg", f"photos/ab/{SHA}/r1/full.jpg", True),
        # The application has edited the text around it, or shows a photo that the row never had.
        ("<img src='/uploads/a.jpg'> & more", f"<img src='{OURS}'> & less", False),
        ("a /uploads/a.jpg b c", f"a {OURS} c", False),
        ("/uploads/a.jpg", OURS.replace("ab/" + SHA, "cd/" + "cd" * 32), False),
        ("/uploads/a.jpg", "https://elsewhere.example/a.jpg", False),
    ],
)
def test_addresses_inside_a_text_go_back_if_nothing_else_was_changed(
    make_site: MakeSite, before: str, after: str, goes_back: bool
) -> None:
    source = {
        "name": "texts",
        "table": "item_photos",
        "key": ["id"],
        "fields": [{"kind": "url", "column": "alt", "root": "uploads"}],
        "rewrite": {"mode": "url"},
    }
    site = make_site(photos=0, rows=[item_photo(1, None) | {"alt": after}])
    key = f'["{item_photo(1, None)["id"]}"]'
    cell = {"row_key": key, "column": "alt", "value": before, "type": "text", "contents": [SHA]}
    made = datetime(2026, 1, 1, tzinfo=UTC)
    file = BackupFile(BackupKind.ROWS, "batch-000001", "run", Source.model_validate(source), made, [cell])
    with site.project() as project:
        done = restore(project.database, project.config, [file], run="restore", apply=True)
    assert site.execute("SELECT alt FROM item_photos") == [(before if goes_back else after,)]
    assert [each.outcome for each in done.left] == ([] if goes_back else [CellOutcome.EDITED])


def lease_held_by(site: Site, pid: int) -> None:
    site.execute(
        "UPDATE pp_batch SET lease_owner = :owner, lease_expires_at = :at",
        owner=f"{socket.gethostname()}/{pid}/run",
        at=str((utc_now() + timedelta(seconds=100)).replace(tzinfo=None)),
    )


def test_a_killed_run_keeps_no_restore_out_and_a_living_one_does(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    before = site.dump()
    migrated(site)
    lease_held_by(site, os.getpid())
    with pytest.raises(GuardRefusedError, match="is working on it"):
        applied(site)
    dead = subprocess.Popen(["true"])
    dead.wait()
    lease_held_by(site, dead.pid)
    assert applied(site).rows_restored == 1
    assert site.dump() == before
    assert site.execute("SELECT status FROM pp_migration") == [("rolled_back",)]
