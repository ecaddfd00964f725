"""Migrated and validated sites whose local files may be cleaned up at once."""

import copy
import json
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.cleanup.clean_up_counts import CleanedUp
from photo_pipeline.core.cleanup.local_files import clean_up
from photo_pipeline.core.cleanup.undo import BroughtBack, bring_back
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import MakeSite, client_of, embedded_servers
from photo_pipeline_tests.core.migration.quick import rewritten, uploaded
from photo_pipeline_tests.sites import Site

AT_ONCE = {"retention_days": 0, "trash_days": 0}
TO_TRASH = {"retention_days": 0, "trash_days": 7}

MakeMigrated = Callable[..., Site]


@pytest.fixture(scope="session")
def s3_access_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s3-log") / "access.jsonl"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, s3_access_log: Path) -> Iterator[RunningServers]:
    """A server of these tests' own, whose bucket keeps versions."""
    folder = tmp_path_factory.mktemp("s3")
    with embedded_servers(folder, "versioned-photos", access_log=s3_access_log) as running:
        _set_versioning(running, "Enabled")
        yield running


@contextmanager
def suspended_versions(servers: RunningServers) -> Iterator[None]:
    """For a while, no versions are kept of what is stored and deleted."""
    _set_versioning(servers, "Suspended")
    yield
    _set_versioning(servers, "Enabled")


def _set_versioning(servers: RunningServers, status: Literal["Enabled", "Suspended"]) -> None:
    versioning = {"Status": status}
    client_of(servers).put_bucket_versioning(Bucket=servers.bucket, VersioningConfiguration=versioning)


def pass_validation(site: Site) -> None:
    """Say that each migrated photo was validated; that a validation tells the truth is shown elsewhere."""
    site.execute(
        "INSERT INTO pp_validation (photo_id, batch, ok, problems, run, checked_at) "
        "SELECT id, batch, :ok, '[]', 'test', :now FROM pp_photo WHERE state = 'migrated' "
        "AND id NOT IN (SELECT photo_id FROM pp_validation)",
        ok=True,
        now=utc_now(),
    )
    site.execute("UPDATE pp_photo SET validated_at = :now WHERE state = 'migrated'", now=utc_now())


@pytest.fixture
def make_migrated(make_site: MakeSite) -> MakeMigrated:
    """Build a site and bring it to where its clean-up may begin."""

    def make(*, cleanup: dict[str, Any] = TO_TRASH, **settings: Any) -> Site:
        site = make_site(cleanup=cleanup, **settings)
        for batch in uploaded(site):
            rewritten(site, batch)
        pass_validation(site)
        return site

    return make


@pytest.fixture(scope="session")
def templates() -> dict[int, Site]:
    """Migrated sites by their number of photos, to be copied."""
    return {}


@pytest.fixture
def make_copied(
    make_migrated: MakeMigrated,
    templates: dict[int, Site],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> MakeMigrated:
    """Copy a migrated site, for tests that leave the bucket as it is: they share the objects."""

    def make(*, photos: int = 4, cleanup: dict[str, Any] = TO_TRASH) -> Site:
        if photos not in templates:
            site = make_migrated(photos=photos)
            home = tmp_path_factory.mktemp("template")
            shutil.copytree(site.home, home, dirs_exist_ok=True)
            templates[photos] = replace(site, home=home, settings=copy.deepcopy(site.settings))
            return site_with(site, cleanup)
        return site_with(_copied(templates[photos], tmp_path, monkeypatch), cleanup)

    return make


def site_with(site: Site, cleanup: dict[str, Any]) -> Site:
    site.configure(cleanup=cleanup)
    return site


def _copied(template: Site, home: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    shutil.copytree(template.home, home, dirs_exist_ok=True)
    old, new = str(template.settings["roots"][0]["dir"]).removesuffix("/uploads"), str(home)
    settings = json.loads(json.dumps(template.settings).replace(old, new))
    site = replace(
        template,
        home=home,
        url=f"sqlite:///{home / 'app.db'}",
        uploads=home / "uploads",
        config_path=home / "photo_pipeline.yaml",
        settings=settings,
    )
    monkeypatch.setenv("APP_DATABASE_URL", site.url)
    monkeypatch.setenv("PHOTO_PIPELINE_CONFIG", str(site.config_path))
    for path in (home / "uploads/items").iterdir():
        for table in ("pp_file", "pp_photo"):
            site.execute(
                f"UPDATE {table} SET inode = :inode WHERE path = :path",
                inode=path.stat().st_ino,
                path=f"items/{path.name}",
            )
    return site


def cleaned(site: Site, **options: Any) -> CleanedUp:
    """Clean up for real."""
    with site.project() as project:
        return clean_up(project.database, project.config, project.store, run=new_run_id(), **options)


def undone(site: Site, **options: Any) -> BroughtBack:
    """Bring files back from the trash."""
    with site.project() as project:
        return bring_back(project.database, project.config, run=new_run_id(), **options)


def counts(outcome: CleanedUp) -> dict[str, int]:
    """The classes that have files."""
    return {name: tally.files for name, tally in outcome.files.items() if tally.files}


def trash_counts(outcome: CleanedUp) -> dict[str, int]:
    return {name: tally.files for name, tally in outcome.trash.items() if tally.files}


def files_of(site: Site) -> dict[str, bytes]:
    """Every file below the root, outside of the trash, with its content."""
    return {
        str(path.relative_to(site.uploads)): path.read_bytes()
        for path in sorted(site.uploads.rglob("*"))
        if path.is_file() and ".photo_pipeline-trash" not in path.parts
    }


def trash_of(site: Site) -> list[bytes]:
    """The content of every file in the trash.

    A link or FIFO that was swapped in, and could not be put back because its name was taken again, stays
    there as what it is; it is not followed.
    """
    folder = site.uploads / ".photo_pipeline-trash"
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path.read_bytes() for path in there if stat.S_ISREG(path.lstat().st_mode)]
