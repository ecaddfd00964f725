"""Clean-up and deletion die by SIGKILL at each of their steps; nothing is lost, and the next run finishes.

After each death the whole is finished and taken back, so that the next death finds the site as the first did.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from photo_pipeline.core import audit
from photo_pipeline_tests.core.cleanup.conftest import (
    TO_TRASH,
    MakeMigrated,
    cleaned,
    counts,
    files_of,
    trash_counts,
    trash_of,
    undone,
)
from photo_pipeline_tests.core.cleanup.killed import Request
from photo_pipeline_tests.core.cleanup.test_deletion import (
    confirmed,
    objects_of,
    planned,
    taken_back,
    urls,
)
from photo_pipeline_tests.faults.processes import Ended, Runner
from photo_pipeline_tests.sites import Site

AT_ONCE = {"retention_days": 0, "trash_days": 0}
# Each death costs two runs: of every so many steps one.
EVERY = pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 13])


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner("photo_pipeline_tests.core.cleanup.killed", tmp_path_factory.mktemp("killed") / "log")
    yield runner
    runner.stop()


@dataclass
class Deaths:
    """One operation on one site, again and again."""

    site: Site
    runner: Runner

    def run(self, request: Request) -> Ended:
        environment = os.environ | {
            "APP_DATABASE_URL": self.site.url,
            "PHOTO_PIPELINE_CONFIG": str(self.site.config_path),
        }
        return self.runner.run(asdict(request), environment=environment, log=self.site.home / "run.log")

    def steps(self, operation: str, kinds: tuple[str, ...], *, token: str = "") -> list[tuple[str, int]]:
        """Let it live once; return its steps of those kinds, as (kind, which)."""
        report = self.site.home / "steps.json"
        ended = self.run(Request(operation, token, report=str(report)))
        assert ended.code == 0, (self.site.home / "run.log").read_text()[-3000:]
        taken = json.loads(report.read_text())
        return [(kind, n) for kind in kinds for n in range(1, taken.get(kind, 0) + 1)]

    def die(self, operation: str, kind: str, n: int, *, token: str = "") -> None:
        ended = self.run(Request(operation, token, n=n, kind=kind))
        assert ended.died, (operation, kind, n, (self.site.home / "run.log").read_text()[-3000:])


CLEANING = ("commit pp_trash", "commit pp_audit", "rename", "unlink", "fsync")


def nothing_is_lost(site: Site, before: dict[str, bytes]) -> None:
    """Each file is in its place or in the trash, and the manifest knows of what is in the trash."""
    there = [*files_of(site).values(), *trash_of(site)]
    assert sorted(there) == sorted(before.values())
    known = {row[0] for row in site.execute("SELECT name FROM pp_trash")}
    folder = site.uploads / ".photo_pipeline-trash"
    assert {path.name for path in folder.iterdir()} <= known


def audit_holds(site: Site) -> None:
    with site.project() as project, project.database.read() as connection:
        assert audit.verify(connection).holds


@EVERY
def test_at_each_step_of_the_way_into_the_trash(
    make_copied: MakeMigrated, runner: Runner, every: int
) -> None:
    site = make_copied(photos=2)
    before, deaths = files_of(site), Deaths(site, runner)
    cleaned(site)  # the first one also makes the trash folder
    undone(site)
    steps = deaths.steps("clean", CLEANING)
    undone(site)
    assert len(steps) > 8
    for kind, n in steps[::every]:
        deaths.die("clean", kind, n)
        nothing_is_lost(site, before)
        cleaned(site)
        assert (files_of(site), sorted(trash_of(site))) == ({}, sorted(before.values())), (kind, n)
        assert undone(site).left == {}
        assert files_of(site) == before
    audit_holds(site)


@EVERY
def test_at_each_step_of_the_way_back(make_copied: MakeMigrated, runner: Runner, every: int) -> None:
    site = make_copied(photos=2)
    before, deaths = files_of(site), Deaths(site, runner)
    cleaned(site)
    steps = deaths.steps("undo", CLEANING)
    for kind, n in steps[::every]:
        assert counts(cleaned(site)) == {"trashed": 2}
        deaths.die("undo", kind, n)
        nothing_is_lost(site, before)
        undone(site)
        assert files_of(site) == before
    audit_holds(site)


@pytest.mark.slow
def test_at_each_step_of_the_end(make_copied: MakeMigrated, runner: Runner) -> None:
    """Files that are deleted for good are put back by hand afterwards, inode and all."""
    site = make_copied(photos=2, cleanup=TO_TRASH)
    links = site.home / "links"
    links.mkdir()
    deaths = Deaths(site, runner)
    original = keep_names(site, links)
    steps: list[tuple[str, int]] = []
    for kind, n in [("", 0), *((k, i) for k in ("unlink", "commit pp_trash") for i in (1, 2))]:
        site.configure(cleanup=TO_TRASH | {"hard_links": "move"})
        assert counts(cleaned(site)) == {"trashed": 2}
        site.configure(cleanup=AT_ONCE | {"hard_links": "move"})
        if not n:
            steps = deaths.steps("clean", ("unlink", "commit pp_trash", "fsync"))
        elif (kind, n) in steps:
            deaths.die("clean", kind, n)
            gone = 2 - len(trash_of(site))
            assert 0 <= gone <= 2
        outcome = cleaned(site)
        assert trash_of(site) == []
        assert set(trash_counts(outcome)) <= {"purged"}
        put_back(site, links)
        assert files_of(site) == original
    assert ("unlink", 2) in steps
    audit_holds(site)


def keep_names(site: Site, links: Path) -> dict[str, bytes]:
    for path in (site.uploads / "items").iterdir():
        (links / path.name).hardlink_to(path)
    return files_of(site)


def put_back(site: Site, links: Path) -> None:
    for path in links.iterdir():
        (site.uploads / "items" / path.name).hardlink_to(path)
    with site.project() as project:
        site.inventory(project)


DELETING = (
    *("commit pp_deletion", "commit item_photos", "commit pp_object", "DELETE", "commit pp_deleted_object"),
    "commit pp_photo",
)


@EVERY
def test_at_each_step_of_a_deletion(make_migrated: MakeMigrated, runner: Runner, every: int) -> None:
    site = make_migrated(photos=2)
    rows, objects, deaths = site.dump(), objects_of(site), Deaths(site, runner)
    token = planned(site, photos=(1, 2)).token
    steps = deaths.steps("delete", DELETING, token=token)
    assert taken_back(site, token).left == {}
    for kind, n in steps[:: every * 4 - 3]:
        forget(site)
        token = planned(site, photos=(1, 2)).token
        deaths.die("delete", kind, n, token=token)
        no_row_names_what_is_gone(site)
        assert confirmed(site, token, photos=(1, 2)).state == "done"
        assert (urls(site), objects_of(site)) == ([None, None], set())
        undone = taken_back(site, token)
        assert undone.left == {}, (kind, n)
        assert (site.dump(), objects_of(site)) == (rows, objects)
    audit_holds(site)


@pytest.mark.slow
def test_at_each_step_of_the_undo_of_a_deletion(make_migrated: MakeMigrated, runner: Runner) -> None:
    site = make_migrated(photos=2)
    rows, objects, deaths = site.dump(), objects_of(site), Deaths(site, runner)
    token = planned(site, photos=(1, 2)).token
    confirmed(site, token, photos=(1, 2))
    for kind, n in deaths.steps("undelete", DELETING, token=token):
        forget(site)
        token = planned(site, photos=(1, 2)).token
        confirmed(site, token, photos=(1, 2))
        deaths.die("undelete", kind, n, token=token)
        no_row_names_what_is_gone(site)
        assert taken_back(site, token).left == {}
        assert (site.dump(), objects_of(site)) == (rows, objects)
    audit_holds(site)


def forget(site: Site) -> None:
    """The same plan has the same token: an undone deletion has to make room for it."""
    for table in ("pp_deletion", "pp_deleted_row", "pp_deleted_object"):
        site.execute(f"DELETE FROM {table}")


def no_row_names_what_is_gone(site: Site) -> None:
    there = objects_of(site)
    for url in urls(site):
        assert url is None or any(url.endswith(key) for key in there), url
