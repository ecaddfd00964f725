"""Keys that do not tell the content (`key_template`): whatever a row says of one, the bytes decide."""

import shutil
import uuid
from typing import Any

import pytest

from photo_pipeline.core.migration import upload
from photo_pipeline.core.migration.run import retry_photos
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import uploaded
from photo_pipeline_tests.core.migration.test_modes import files_site
from photo_pipeline_tests.sites import Site, photo

CONFLICT = ("quarantined", "storage_conflict")


def site_with(make_site: MakeSite, template: str) -> Site:
    # The bucket is shared, and these keys have no prefix of the site's.
    own = f"{uuid.uuid4().hex[:8]}-{template}"
    rewrite = {"mode": "columns", "set": {"disk": "s3"}, "key_template": own}
    return files_site(make_site, "sqlite", rewrite=rewrite)


def states(site: Site) -> dict[str, tuple[str, str | None]]:
    return {
        path: (state, why)
        for path, state, why in site.execute("SELECT path, state, error_type FROM pp_photo")
    }


def photo_id(site: Site, path: str) -> int:
    return int(site.execute("SELECT id FROM pp_photo WHERE path = :path", path=path)[0][0])


def stored(site: Site, path: str) -> bytes | None:
    """Return what the bucket has under the key that the template makes of that path or name."""
    template: str = site.settings["sources"][0]["rewrite"]["key_template"]
    with site.project() as project:
        return project.store.read(template.format(path=path, name=path))


def replaced_after_its_upload(site: Site) -> bytes:
    """Upload, replace the first photo's file, and find that out; return the file's first content."""
    uploaded(site)
    file = site.uploads / "items/0.jpg"
    before = file.read_bytes()
    photo(file, seed=77)
    with site.project() as project:
        site.inventory(project)
    return before


def test_a_file_that_was_replaced_after_its_upload_does_not_pass_for_the_one_that_is_stored(
    make_site: MakeSite,
) -> None:
    site = site_with(make_site, "{path}")
    before = replaced_after_its_upload(site)
    uploaded(site)
    assert stored(site, "items/0.jpg") == before
    assert states(site) == {
        "items/0.jpg": ("quarantined", "storage_conflict"),
        "items/1.jpg": ("uploaded", None),
    }


def test_two_files_that_need_one_key_do_not_pass_for_each_other(make_site: MakeSite) -> None:
    site = site_with(make_site, "{name}")
    (site.uploads / "other").mkdir()
    shutil.move(site.uploads / "items/1.jpg", site.uploads / "other/0.jpg")
    site.execute("UPDATE files SET path = 'other/0.jpg' WHERE id = 1")
    uploaded(site)
    assert stored(site, "0.jpg") == (site.uploads / "items/0.jpg").read_bytes()
    assert states(site) == {
        "items/0.jpg": ("uploaded", None),
        "other/0.jpg": ("quarantined", "storage_conflict"),
    }
    ((detail,),) = site.execute("SELECT error_detail FROM pp_photo WHERE state = 'quarantined'")
    assert "another file, items/0.jpg, needs the same key" in detail
    # With a key that tells them apart both go.
    source = site.settings["sources"][0]
    rewrite = source["rewrite"] | {"key_template": f"{uuid.uuid4().hex[:8]}-{{path}}"}
    site.configure(sources=[source | {"rewrite": rewrite}])
    with site.project() as project:
        retry_photos(project, [photo_id(site, "other/0.jpg")], run="test")
    uploaded(site)
    assert {state for state, _ in states(site).values()} == {"uploaded"}


def test_equal_files_share_a_key(make_site: MakeSite) -> None:
    site = site_with(make_site, "{name}")
    (site.uploads / "other").mkdir()
    (site.uploads / "items/1.jpg").unlink()
    shutil.copy(site.uploads / "items/0.jpg", site.uploads / "other/0.jpg")
    site.execute("UPDATE files SET path = 'other/0.jpg' WHERE id = 1")
    uploaded(site)
    assert {state for state, _ in states(site).values()} == {"uploaded"}


def test_what_another_machine_has_made_anew_meanwhile_is_not_proven_by_the_bytes_before_it(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=1)
    record = upload._BatchUploader._record
    changed = "UPDATE pp_object SET checksum = :other WHERE variant = 'thumb' AND format = 'webp'"

    def other_first(uploader: Any, proven: Any) -> None:
        site.execute(changed, other="f" * 64)
        record(uploader, proven)

    monkeypatch.setattr(upload._BatchUploader, "_record", other_first)
    uploaded(site)
    unproven = site.execute("SELECT variant, format FROM pp_object WHERE verified_at IS NULL")
    assert [tuple(row) for row in unproven] == [("thumb", "webp")]
    assert site.states() == {"processed": 1}
