"""What the catalog keeps of each content: how it looks, and what its camera wrote, if somebody wants that."""

import base64
import shutil
from pathlib import Path
from typing import Any

import pytest

from photo_pipeline.core.imaging.fingerprint import FEATURELESS
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.process import process_batch
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.sites import TINY_VARIANTS, Site, item_photo, photo

WITH_GPS = {"images": {"default": {"gps": True}}}


def site_of_a_phone(
    make_site: MakeSite, shared_photos: Path, database: str = "sqlite", **settings: Any
) -> Site:
    """One photo of a phone that wrote where it was."""
    rows = [item_photo(0, "/uploads/phone.jpg")]
    site = make_site(photos=0, rows=rows, database=database, variants=TINY_VARIANTS, **settings)
    shutil.copy(shared_photos / "real/drewnoakes_Apple_iPhone_5.jpg", site.uploads / "phone.jpg")
    return site


def processed(site: Site) -> None:
    """Bring the batch to where its variants are made; no row is touched."""
    with site.project() as project:
        site.inventory(project)
        with BatchLease(project.database, "batch-000001", run=new_run_id()) as lease:
            process_batch(project.database, project.config, lease, project.workers)


def places(site: Site) -> list[Any]:
    return [tuple(row) for row in site.execute("SELECT latitude, longitude FROM pp_picture")]


@DATABASES
def test_a_content_is_kept_with_its_looks_and_its_camera(
    make_site: MakeSite, shared_photos: Path, database: str
) -> None:
    site = site_of_a_phone(make_site, shared_photos, database)
    processed(site)
    (kept,) = site.execute("SELECT * FROM pp_picture")
    assert site.execute("SELECT sha256 FROM pp_photo") == [(kept.sha256,)]
    assert 5 <= len(base64.b64decode(kept.thumbhash, validate=True)) <= 25
    assert kept.placeholder.startswith("data:image/")
    assert len(kept.dominant_colour) == 7
    assert kept.dominant_colour.startswith("#")
    assert len(kept.perceptual_hash) == len(FEATURELESS)
    assert kept.perceptual_hash != FEATURELESS
    assert (kept.camera, kept.taken_at) == ("Apple iPhone 5", "2012-09-29T16:11:25")


def test_where_a_photo_was_taken_is_not_kept(make_site: MakeSite, shared_photos: Path) -> None:
    site = site_of_a_phone(make_site, shared_photos)
    processed(site)
    assert places(site) == [(None, None)]


@MOSTLY_SQLITE
def test_where_a_photo_was_taken_is_kept_for_a_preset_that_says_so(
    make_site: MakeSite, shared_photos: Path, database: str
) -> None:
    site = site_of_a_phone(make_site, shared_photos, database, **WITH_GPS)
    processed(site)
    assert places(site) == [pytest.approx((47.6271667, -122.3373333))]


def test_the_gps_of_another_preset_does_not_count(make_site: MakeSite, shared_photos: Path) -> None:
    site = site_of_a_phone(make_site, shared_photos, images={"original": {"gps": True}})
    processed(site)
    assert places(site) == [(None, None)]


@MOSTLY_SQLITE
def test_a_content_that_many_rows_show_is_kept_once(make_site: MakeSite, database: str) -> None:
    rows = [item_photo(number, f"/uploads/{name}.jpg") for number, name in enumerate("aaab")]
    site = make_site(photos=0, rows=rows, database=database)
    photo(site.uploads / "a.jpg", width=64, height=48)
    shutil.copy(site.uploads / "a.jpg", site.uploads / "b.jpg")
    processed(site)
    assert site.execute("SELECT COUNT(*) FROM pp_picture") == [(1,)]


def test_a_content_without_exif_has_neither_camera_nor_time(make_site: MakeSite) -> None:
    site = make_site(photos=1, **WITH_GPS)
    processed(site)
    kept = site.execute("SELECT camera, taken_at, latitude, longitude FROM pp_picture")
    assert kept == [(None, None, None, None)]


def test_a_resized_copy_is_not_kept_since_nothing_is_made_of_it(make_site: MakeSite) -> None:
    site = make_site(photos=1, rows=[item_photo(0, "/uploads/items/0.jpg", "/uploads/t.jpg")])
    photo(site.uploads / "t.jpg", width=64, height=48, seed=5)
    processed(site)
    kept = site.execute("SELECT path FROM pp_photo JOIN pp_picture USING (sha256)")
    assert kept == [("items/0.jpg",)]


def test_contents_that_are_made_again_are_kept_anew_and_not_twice(
    make_site: MakeSite, shared_photos: Path
) -> None:
    site = site_of_a_phone(make_site, shared_photos, **WITH_GPS)
    processed(site)
    site.configure(images={"default": {"gps": False, "effort": "speed"}})
    processed(site)
    assert places(site) == [(None, None)]
