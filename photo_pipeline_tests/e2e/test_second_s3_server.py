"""The whole migration on `rclone serve s3`, which checks far less than S3 does (docs/s3-servers.md)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from photo_pipeline.core.errors import ConfigurationError, DeliveryError, StoreError
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.process import process_batch
from photo_pipeline.core.migration.run import MigratedBatch, migrate_batch, new_run_id
from photo_pipeline.core.migration.upload import upload_batch
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline.core.storage.probe import StoreProbe, probe_store
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY, MakeSite
from photo_pipeline_tests.fault_proxy import Fault, FaultProxy
from photo_pipeline_tests.rclone_server import RcloneServer
from photo_pipeline_tests.sites import Site

BATCH = "batch-000001"


@pytest.fixture
def rclone(tmp_path: Path) -> Iterator[RcloneServer]:
    server = RcloneServer.start(
        tmp_path / "rclone", bucket="second", access_key=ACCESS_KEY, secret_key=SECRET_KEY
    )
    yield server
    server.stop()


@pytest.fixture
def servers(rclone: RcloneServer) -> RunningServers:
    """Takes the place of the embedded servers in `make_site`."""
    return rclone.servers


def upload_only(site: Site, project: Project) -> None:
    """Go as far as a run that died between its uploads and its rewrite."""
    site.inventory(project)
    with BatchLease(project.database, BATCH, run=new_run_id()) as lease:
        process_batch(project.database, project.config, lease, project.workers)
        upload_batch(project.database, project.config, lease, project.store, project.workers)


def migrate(project: Project) -> MigratedBatch:
    return migrate_batch(project, BATCH, run=new_run_id())


def test_the_probe_finds_out_that_the_server_checks_nothing(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    site.migrate()
    with site.project() as project:
        probe = probe_store(project.database, project.store)
    assert probe == StoreProbe(
        rejects_wrong_checksum=False,
        reports_checksum=False,
        honours_if_none_match=False,
        reports_md5=True,
        honours_if_match=False,
    )
    assert probe.verification == "etag"


def test_the_probe_leaves_nothing_behind(make_site: MakeSite, rclone: RcloneServer) -> None:
    site = make_site(photos=1)
    with site.project() as project:
        site.inventory(project)
        probe_store(project.database, project.store)
    assert any("/.probe/" in key for key in rclone.puts())
    assert rclone.stored() == {}


def test_rows_point_to_urls_that_deliver_the_picture_and_every_object_was_proven(
    make_site: MakeSite,
) -> None:
    site = make_site(photos=3)
    (outcome,) = site.migrate()
    assert (outcome.state, outcome.uploaded.verification) == ("completed", "etag")
    assert (outcome.uploaded.uploaded, outcome.validated.passed) == (3 * 7, 3)
    for url, size, mime in site.execute("SELECT original_url, file_size, mime_type FROM item_photos"):
        answer = urllib3.request("GET", url)
        assert (answer.status, len(answer.data)) == (200, size)
        assert answer.headers["Content-Type"] == mime == "image/jpeg"
    assert site.execute("SELECT DISTINCT verified_by FROM pp_object") == [("etag",)]
    # A look before (it would overwrite) and one after, each with the MD5 that it was never told.
    assert outcome.uploaded.requests == {"HEAD": 2 * 3 * 7, "PUT": 3 * 7}


@pytest.mark.slow
def test_a_second_run_sends_nothing_and_changes_nothing(make_site: MakeSite, rclone: RcloneServer) -> None:
    site = make_site(photos=2)
    site.migrate()
    after_first, stored, puts = site.dump(), rclone.stored(), rclone.puts()
    assert len(stored) == 2 * 7
    assert site.migrate() == []
    assert (site.dump(), rclone.stored(), rclone.puts()) == (after_first, stored, puts)


@pytest.mark.slow
def test_a_rollback_leaves_the_application_byte_identical(make_site: MakeSite) -> None:
    site = make_site(photos=3)
    before = site.dump()
    site.migrate()
    assert site.dump() != before
    assert sum(result.rolled_back for result in site.roll_back()) == 3
    assert site.dump() == before


def test_objects_whose_record_was_lost_are_proven_by_their_md5_and_not_sent_again(
    make_site: MakeSite, rclone: RcloneServer
) -> None:
    site = make_site(photos=2)
    with site.project() as project:
        upload_only(site, project)
        stored, puts = rclone.stored(), len(rclone.puts())
        site.execute("UPDATE pp_object SET verified_at = NULL, uploaded_at = NULL, verified_by = NULL")
        outcome = migrate(project)
    assert (outcome.uploaded.uploaded, outcome.uploaded.adopted) == (0, 2 * 7)
    assert outcome.uploaded.requests == {"HEAD": 2 * 7}
    assert outcome.state == "completed"
    assert (rclone.stored(), len(rclone.puts())) == (stored, puts)


@pytest.mark.slow
def test_objects_are_adopted_even_when_every_row_about_them_is_gone(
    make_site: MakeSite, rclone: RcloneServer
) -> None:
    site = make_site(photos=2)
    with site.project() as project:
        upload_only(site, project)
        stored, puts = rclone.stored(), len(rclone.puts())
        site.execute("DELETE FROM pp_object")
        outcome = migrate(project)
    assert outcome.state == "completed"
    assert (outcome.uploaded.uploaded, outcome.uploaded.adopted) == (0, 2 * 7)
    assert (rclone.stored(), len(rclone.puts())) == (stored, puts)


def test_a_bit_that_flips_on_the_way_is_stored_but_caught_by_the_servers_md5_and_mended(
    make_site: MakeSite, rclone: RcloneServer
) -> None:
    def first_original(method: str, path: str, earlier: int) -> Fault | None:
        hit = method == "PUT" and path.startswith("/second/originals/") and path.endswith(".jpg")
        hit = hit and earlier == 0
        return Fault.FLIP_BIT if hit else None

    site = make_site(photos=1)
    before = site.dump()
    with FaultProxy(rclone.servers.s3_url, first_original) as proxy:
        site.configure(store=site.settings["store"] | {"endpoint_url": proxy.url})
        with pytest.raises(StoreError, match="does not give back"):
            site.migrate()
        assert site.dump() == before
        (damaged,) = (rclone.folder / "second/originals").rglob("*.jpg")
        assert sha256_hex(damaged.read_bytes()) != damaged.stem
        (outcome,) = site.migrate()
    assert (outcome.state, outcome.uploaded.uploaded) == ("completed", 1)
    assert sha256_hex(damaged.read_bytes()) == damaged.stem


def test_wrong_credentials_are_refused(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(photos=0)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with site.project() as project, pytest.raises(ConfigurationError, match="refuses these credentials"):
        _ = project.store


def test_a_missing_bucket_is_named(make_site: MakeSite) -> None:
    site = make_site(photos=0)
    site.configure(store=site.settings["store"] | {"bucket": "no-such-bucket"})
    with site.project() as project, pytest.raises(ConfigurationError, match="'no-such-bucket': it does not"):
        _ = project.store


def test_bytes_that_were_damaged_on_the_servers_disk_reach_no_row(
    make_site: MakeSite, rclone: RcloneServer
) -> None:
    """The server knows no checksums, so only the canary's own look at the bytes can notice."""
    site = make_site(photos=1)
    before = site.dump()
    with site.project() as project:
        upload_only(site, project)
        served = rclone.folder / "second" / site.name / "photos"
        for path in served.rglob("full.jpg"):
            path.write_bytes(path.read_bytes()[:-1] + b"\0")
        with pytest.raises(DeliveryError, match="other bytes"):
            migrate(project)
    assert site.dump() == before
