"""Orphans: found, marked, deleted after the grace period, brought back. On the embedded server over HTTP."""

from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.cleanup.scene import opened
from photo_pipeline_tests.core.migration.quick import migrated


def test_an_orphan_is_marked_deleted_after_its_grace_and_brought_back(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    migrated(site)
    with opened(site) as scene:
        before = scene.keys()
        key = scene.put(scene.key_of_nobody())
        assert scene.orphans() == set(), "it is fresh"
        scene.later(hours=25)
        assert scene.orphans() == {key}
        assert scene.mark().new == 1
        assert scene.delete().waiting == 1, "its mark is fresh"
        scene.later(hours=25)
        done = scene.delete()
        assert (done.deleted, done.keys) == (1, [key])
        assert scene.keys() == before
        assert scene.undo().restored == 1
        assert scene.keys() == before | {key}
