"""`kill -9`, or a power cut, between every two durable steps of every operation; then an ordinary run.

A durable step is a COMMIT, a PUT or DELETE of the store, an fsync, a rename or an unlink. `steps` finds and
counts them in a real process, so a new one is in the matrix by itself. `make test` dies at one step of each
kind and operation; the slow tests at every one, on SQLite and PostgreSQL.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.errors import PhotoPipelineError
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.core.migration.test_restore import lose_the_state_tables
from photo_pipeline_tests.faults.aftermath import (
    OBJECTS_OF_A_PHOTO,
    assert_log_is_unbroken,
    assert_migrated_as_if_nothing_happened,
    assert_no_row_is_half_written,
    assert_nothing_recorded_was_sent_again,
    assert_objects_stored_once,
    assert_rolled_back_as_if_nothing_happened,
    recorded_objects,
)
from photo_pipeline_tests.faults.processes import Ended, Runner
from photo_pipeline_tests.faults.stepwise_run import OPERATIONS, Request, work_inline
from photo_pipeline_tests.sites import Site, build_site, item_photo, photo

PHOTOS = 2
VARIANTS = {
    "default": {
        "full": {"fit": "inside", "width": 32, "height": 32},
        "thumb": {"fit": "cover", "width": 16, "height": 16},
    }
}


@dataclass
class Scene:
    """One site, on which a process dies and others carry on."""

    site: Site
    access_log: Path
    runner: Runner
    photos: int = PHOTOS
    before: list[str] = field(default_factory=list)
    recorded: set[str] = field(default_factory=set)

    def run(self, operation: str, **request: Any) -> Ended:
        """Do the operation in a process that may die."""
        environment = os.environ | {
            "APP_DATABASE_URL": self.site.url,
            "PHOTO_PIPELINE_CONFIG": str(self.site.config_path),
        }
        log = self.site.home / "run.log"
        return self.runner.run(asdict(Request(operation, **request)), environment=environment, log=log)

    def do(self, operation: str) -> None:
        """Do the operation here, by an ordinary run that lives."""
        with self.site.project() as project:
            work_inline(project)
            OPERATIONS[operation](project)

    def tail(self) -> str:
        return (self.site.home / "run.log").read_text(encoding="utf-8")[-3000:]


@pytest.fixture(scope="session")
def stepwise_runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    log = tmp_path_factory.mktemp("stepwise") / "runner.log"
    runner = Runner("photo_pipeline_tests.faults.stepwise_run", log)
    yield runner
    runner.stop()


MakeScene = Callable[..., Scene]


@pytest.fixture
def make_scene(
    tmp_path: Path,
    servers: RunningServers,
    s3_access_log: Path,
    aws_environment: None,
    stepwise_runner: Runner,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> MakeScene:
    """Build a site whose rows are rewritten one by one."""
    numbers = count()

    def make(*, database: str = "sqlite", photos: int = PHOTOS, **settings: Any) -> Scene:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        url = f"sqlite:///{folder / 'app.db'}"
        if database == "postgres":
            url = request.getfixturevalue("postgres").new_database()
        monkeypatch.setenv("APP_DATABASE_URL", url)
        site = build_site(
            folder,
            url=url,
            servers=servers,
            name=f"{os.getpid()}-{utc_now().timestamp():.6f}",
            photos=0,
            rows=[item_photo(n, f"/uploads/items/{n}.jpg") for n in range(photos)],
            variants=VARIANTS,
            rewrite={"rows_per_transaction": 1},
            upload={"concurrency": 2},
            **settings,
        )
        for n in range(photos):
            photo(site.uploads / f"items/{n}.jpg", width=48, height=36, seed=n)
        return Scene(site, s3_access_log, stepwise_runner, photos=photos, before=site.dump())

    return make


# --- the operations: how the site gets there, and what must hold after it


def nothing(_scene: Scene) -> None: ...


def migrated(scene: Scene) -> None:
    scene.do("migrate")


def migrated_and_a_file_lost(scene: Scene) -> None:
    scene.do("migrate")
    (scene.site.uploads / "items/0.jpg").unlink()


def migrated_and_moved(scene: Scene) -> None:
    scene.do("migrate")
    scene.site.configure(store=scene.site.settings["store"] | {"prefix": f"{scene.site.name}/moved"})


def migrated_and_state_lost(scene: Scene) -> None:
    scene.do("migrate")
    lose_the_state_tables(scene.site)


def is_migrated(scene: Scene) -> None:
    assert_migrated_as_if_nothing_happened(scene.site, scene.access_log, photos=scene.photos)
    scene.do("roll_back")
    is_rolled_back(scene)


def is_migrated_later(scene: Scene) -> None:
    scene.do("migrate")
    is_migrated(scene)


def is_rolled_back(scene: Scene) -> None:
    assert_rolled_back_as_if_nothing_happened(scene.site, scene.access_log, scene.before, photos=scene.photos)
    assert sorted(path.name for path in (scene.site.uploads / "items").iterdir()) == [
        f"{number}.jpg" for number in range(scene.photos)
    ]


def is_repointed(scene: Scene) -> None:
    assert_no_row_is_half_written(scene.site)
    urls = [row.original_url for row in scene.site.execute("SELECT original_url FROM item_photos")]
    assert all(f"/{scene.site.name}/moved/" in url for url in urls)
    entries = scene.site.execute('SELECT row_key, "column" FROM pp_rewrite WHERE "column" = \'original_url\'')
    assert set(Counter(entries).values()) == {2}
    assert scene.site.states() == {"migrated": scene.photos}
    old = scene.site.settings["store"] | {"prefix": f"{scene.site.name}"}
    scene.do("roll_back")
    scene.site.configure(store=old)  # below it lie the objects of both prefixes
    with scene.site.project() as project:
        # The originals did not move.
        objects = scene.photos * (2 * OBJECTS_OF_A_PHOTO - 1)
        assert_objects_stored_once(scene.site, scene.access_log, project, objects=objects)
    assert_log_is_unbroken(scene.site)
    assert scene.site.dump() == scene.before


def is_as_before(scene: Scene) -> None:
    assert scene.site.dump() == scene.before


@dataclass(frozen=True)
class Case:
    """An operation with its beginning and its end; `looks` at what lies there right after the death."""

    operation: str
    prepare: Callable[[Scene], None]
    check: Callable[[Scene], None]
    has_state: bool = True


CASES = {
    "inventory": Case("inventory", nothing, is_migrated_later),
    "migrate": Case("migrate", nothing, is_migrated),
    "rollback": Case("roll_back", migrated, is_rolled_back),
    "rollback of lost files": Case("roll_back", migrated_and_a_file_lost, is_rolled_back),
    "repoint": Case("repoint", migrated_and_moved, is_repointed),
    "restore": Case("restore_from_files", migrated, is_as_before),
    "restore from the bucket alone": Case(
        "restore_from_bucket", migrated_and_state_lost, is_as_before, has_state=False
    ),
    "pause and resume": Case("pause_and_resume", migrated, is_migrated),
}


def survives(
    make_scene: MakeScene, name: str, *, database: str = "sqlite", without: str = "", **death: Any
) -> bool:
    """Let the operation die as said and carry on; return whether it died (or was through before)."""
    case = CASES[name]
    scene = make_scene(database=database)
    case.prepare(scene)
    ended = scene.run(case.operation, without=without, **death)
    assert ended.died or ended.code == 0, f"exit code {ended.code}, log:\n{scene.tail()}"
    if ended.died:
        look_at_once(scene, case)
        if without:
            assert scene.run(case.operation, without=without).code == 0, scene.tail()
        else:
            scene.do(case.operation)
        if case.has_state:
            assert_nothing_recorded_was_sent_again(scene.site, scene.access_log, scene.recorded)
        case.check(scene)
    shutil.rmtree(scene.site.home)
    return ended.died


def look_at_once(scene: Scene, case: Case) -> None:
    """Right after the death, before anything is mended, no row is half written or shows what is not there."""
    engine = scene.site.engine()
    tables = sa.inspect(engine).get_table_names()
    engine.dispose()
    if case.has_state and "pp_rewrite" in tables:
        assert_no_row_is_half_written(scene.site)
        scene.recorded = recorded_objects(scene.site)


CUT = {"power_cut": True}
AFTER = {"after": True}


@pytest.mark.parametrize(
    ("name", "kind", "n", "how"),
    [
        ("inventory", "commit pp_photo", 1, AFTER),
        ("migrate", "rename", 3, CUT),
        ("migrate", "PUT", 7, {}),
        ("migrate", "commit pp_backup", 1, CUT),
        ("migrate", "commit pp_rewrite", 1, AFTER),
        ("rollback", "commit pp_rewrite", 1, AFTER),
        ("rollback of lost files", "rename", 1, CUT),
        ("repoint", "PUT", 3, {}),
        ("repoint", "commit pp_rewrite", 1, AFTER),
        ("restore", "commit item_photos", 1, AFTER),
    ],
)
def test_after_death_at_a_step_the_next_run_completes_as_if_nothing_had_happened(
    make_scene: MakeScene, name: str, kind: str, n: int, how: dict[str, bool]
) -> None:
    assert survives(make_scene, name, kind=kind, n=n, **how)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("without", "name", "kind", "n", "how"),
    [
        ("one transaction", "migrate", "commit item_photos", 1, AFTER),
        pytest.param("one transaction", "rollback", "commit item_photos", 1, AFTER, marks=SLOW),
        pytest.param("one transaction", "repoint", "commit item_photos", 1, AFTER, marks=SLOW),
        ("conditional PUT", "migrate", "PUT", 5, {}),
        ("fsync of files", "migrate", "commit pp_backup", 1, CUT),
        pytest.param("fsync of folders", "migrate", "commit pp_backup", 1, CUT | AFTER, marks=SLOW),
        pytest.param("rename", "migrate", "fsync .parquet", 2, CUT, marks=SLOW),
        pytest.param("rename", "rollback of lost files", "fsync .jpg", 1, CUT, marks=SLOW),
    ],
)
def test_without_its_defence_the_same_death_is_found_out(
    make_scene: MakeScene, without: str, name: str, kind: str, n: int, how: dict[str, bool]
) -> None:
    with pytest.raises((AssertionError, PhotoPipelineError)) as caught:
        survives(make_scene, name, kind=kind, n=n, without=without, **how)
    assert "exit code" not in str(caught.value), "it did not even come to the death"
    print(f"\n{without}: {str(caught.value)[:200]}")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("database", "how"), [("sqlite", {}), ("sqlite", CUT), ("postgres", {"kind": "commit"})]
)
def test_after_death_at_any_step_the_next_run_completes_as_if_nothing_had_happened(
    make_scene: MakeScene, name: str, database: str, how: dict[str, Any]
) -> None:
    """On PostgreSQL at each commit: what the store and the files do does not depend on the database."""
    steps = 0
    while survives(make_scene, name, database=database, n=steps + 1, **how):
        steps += 1
    print(f"\n{name}, {database} {how}: died at {steps} steps")
    assert steps > 1
