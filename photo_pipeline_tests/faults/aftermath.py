"""What must hold once a run that was killed has been followed by an ordinary one, whatever it was doing."""

import json
from collections import Counter
from pathlib import Path

import urllib3

from photo_pipeline.core import audit
from photo_pipeline.core.migration import invariants
from photo_pipeline.core.migration.backup_file import decode
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.ledger_audit import verify_ledger
from photo_pipeline.core.migration.stored_backups import read_local_backups
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline_tests.sites import Site

OBJECTS_OF_A_PHOTO = 7  # two variants in three formats, and the original
ROW_COLUMNS = ("original_url", "file_size", "updated_at")


def requests(site: Site, access_log: Path, method: str) -> list[tuple[str, int]]:
    """Key and status of each request for an object of this site, from the server's own log.

    Left out are the probe of the store's nature, and backups: each is a new object by design.
    """
    everything = access_log.read_text(encoding="utf-8").splitlines()
    lines = [json.loads(line) for line in everything if site.name in line]
    bucket = f"/{site.settings['store']['bucket']}/"
    return [
        (line["path"].removeprefix(bucket), line["status"])
        for line in lines
        if line["method"] == method
        and f"/{site.name}/" in line["path"]
        and "/.probe/" not in line["path"]
        and "-backups/" not in line["path"]
    ]


def recorded_objects(site: Site) -> set[str]:
    """Keys of the objects that the catalog calls proven."""
    return {row[0] for row in site.execute("SELECT key FROM pp_object WHERE verified_at IS NOT NULL")}


def listed_objects(project: Project) -> set[str]:
    """Keys of the photos' objects that the store has.

    Left out is what a probe that died has left: a later one deletes it, see `core/storage/test_probe.py`.
    """
    store = project.config.store
    found = {
        key for prefix in (store.prefix, store.originals_prefix) for key, _ in project.store.list(prefix)
    }
    return {key for key in found if "/.probe/" not in key}


def assert_no_row_is_half_written(site: Site) -> None:
    """At any moment: each row that shows one of our URLs delivers it, and has one ledger entry per column.

    Rows without one are as the application wrote them.
    """
    entries = site.execute('SELECT row_key, "column", after, outcome FROM pp_rewrite ORDER BY id')
    standing = {(json.loads(e.row_key)[0], e.column): e.after for e in entries if e.outcome == "applied"}
    for row in site.execute(f"SELECT id, {', '.join(ROW_COLUMNS)} FROM item_photos"):
        shown = {name: standing.get((row.id, name)) for name in ROW_COLUMNS}
        if str(row.original_url).startswith("http"):
            expected = (row.original_url, str(row.file_size), row.updated_at)
            assert tuple(shown.values()) == expected, row
            assert_delivers(row.original_url, row.file_size)
        else:
            assert set(shown.values()) == {None}, row
            assert row.file_size is None, row


def assert_delivers(url: str, size: int) -> None:
    answer = urllib3.request("GET", url)
    assert (answer.status, len(answer.data)) == (200, size), url


def assert_rewritten_exactly_once(site: Site, photos: int) -> None:
    """Each changed column has one ledger entry, which says what stood there and what stands there now."""
    entries = site.execute('SELECT row_key, "column", outcome, photo_id FROM pp_rewrite')
    assert {entry.outcome for entry in entries} == {"applied"}
    columns = Counter((entry.row_key, entry.column) for entry in entries)
    assert set(columns.values()) == {1}, columns
    assert sum(entry.photo_id is not None for entry in entries) == photos
    rows = site.execute("SELECT original_url FROM item_photos")
    assert [row for row in rows if not row.original_url.startswith("http")] == []
    assert_no_row_is_half_written(site)


def assert_objects_stored_once(
    site: Site, access_log: Path, project: Project, *, objects: int, kills: int = 1
) -> None:
    """No object is missing, foreign, damaged or stored twice; no kill cost an item a second repeat."""
    puts = requests(site, access_log, "PUT")
    stored = Counter(key for key, status in puts if status == 200)
    known = {row.key: row.checksum for row in site.execute("SELECT key, checksum FROM pp_object")}
    listed = listed_objects(project)
    assert set(stored.values()) == {1}, stored
    assert set(stored) == recorded_objects(site) == set(known) == listed
    assert len(listed) == objects
    damaged = [key for key in listed if sha256_hex(project.store.read(key) or b"") != known[key]]
    assert damaged == []
    assert max(Counter(key for key, _ in puts).values()) <= 1 + kills
    assert requests(site, access_log, "DELETE") == []


def assert_backups_are_whole(site: Site, project: Project) -> None:
    """Each backup file is what its name vouches for, on disk and in the bucket; each record has both."""
    read_local_backups(project.config)
    prefix, store = f"{project.config.store.backups_prefix}/", project.store
    kept = {key.removeprefix(prefix) for key, _ in store.list(prefix)}
    for name in kept:
        decode(name, store.read(f"{prefix}{name}") or b"")
    recorded = {row.path for row in site.execute("SELECT path FROM pp_backup")}
    assert recorded <= kept
    assert all((project.config.state.backup_dir / name).is_file() for name in recorded)


def assert_state_is_consistent(site: Site, project: Project, *, batch_state: str) -> None:
    """Every invariant of the state tables holds, and nobody is kept out by a dead run's lease."""
    database, config = project.database, project.config
    batches = [row.key for row in site.execute("SELECT key FROM pp_batch ORDER BY key")]
    # After another inventory, what is migrated is no longer a match.
    assert invariants.every_match_is_batched(database).holds
    for invariant in (
        invariants.classes_add_up(database),
        *(invariants.every_photo_is_uploaded_or_explained(database, batch) for batch in batches),
        *(invariants.every_rewritten_row_is_backed(database, config, batch) for batch in batches),
        *(invariants.validation_passed(database, batch) for batch in batches),
    ):
        assert invariant.holds, invariant
        assert invariant.checked or batch_state == "rolled_back", invariant
    for batch in batches:
        with BatchLease(database, batch, run="afterwards"):
            pass
    closed = site.execute("SELECT key, state, lease_owner, error FROM pp_batch ORDER BY key")
    assert [tuple(row) for row in closed] == [(batch, batch_state, None, None) for batch in batches]
    assert [row.status for row in site.execute("SELECT status FROM pp_migration")] == [batch_state]


def assert_migrated_as_if_nothing_happened(
    site: Site, access_log: Path, *, photos: int, kills: int = 1
) -> None:
    with site.project() as project:
        assert_rewritten_exactly_once(site, photos)
        assert_objects_stored_once(
            site, access_log, project, objects=photos * OBJECTS_OF_A_PHOTO, kills=kills
        )
        assert_state_is_consistent(site, project, batch_state="completed")
        assert_backups_are_whole(site, project)
    assert_log_is_unbroken(site)
    assert site.states() == {"migrated": photos}


def assert_rolled_back_as_if_nothing_happened(
    site: Site, access_log: Path, before: list[str], *, photos: int, kills: int = 1
) -> None:
    assert site.dump() == before
    assert site.states() == {"rolled_back": photos}
    entries = site.execute("SELECT outcome, reason FROM pp_rewrite")
    assert {tuple(entry) for entry in entries} == {("rolled_back", None)}
    with site.project() as project:
        assert_objects_stored_once(
            site, access_log, project, objects=photos * OBJECTS_OF_A_PHOTO, kills=kills
        )
        assert_state_is_consistent(site, project, batch_state="rolled_back")
        assert_backups_are_whole(site, project)
    assert_log_is_unbroken(site)


def assert_log_is_unbroken(site: Site) -> None:
    """The audit log's chain holds, and the ledger is what it says."""
    with site.project() as project, project.database.read() as connection:
        verdict, ledger = audit.verify(connection), verify_ledger(connection)
    assert verdict.holds, verdict.reason
    assert ledger.holds, ledger.reason
    assert ledger.unaudited == 0
