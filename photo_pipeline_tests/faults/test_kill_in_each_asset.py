"""`kill -9` in the middle of each asset, right before or after a commit or a PUT, then an ordinary new run.

The killed process and the one after it are real, with a persistent Dagster instance, and die by SIGKILL:
no handler, no `finally`. See `killed_run` for how the moment is chosen. `make test` dies at one place, the
slow tests at every commit and PUT. This is about Dagster's part; the steps themselves are `test_kill_matrix`.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.config import CONFIG_ENV
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.faults.aftermath import (
    OBJECTS_OF_A_PHOTO,
    assert_migrated_as_if_nothing_happened,
    assert_rolled_back_as_if_nothing_happened,
)
from photo_pipeline_tests.faults.killed_run import Defence, Moment, Plan
from photo_pipeline_tests.faults.processes import Runner
from photo_pipeline_tests.postgres import PostgresServer
from photo_pipeline_tests.sites import Site, build_site

PHOTOS = 3
OBJECTS = PHOTOS * OBJECTS_OF_A_PHOTO
MOMENTS = pytest.mark.parametrize("moment", ["before", "after"])

FORWARD = ("inventory", "migrate")
# The place (job, asset), and an n-th commit of it that does the asset's own work (not lease or status).
PLACES = {
    "local_inventory": ("inventory", "local_inventory", 5),
    "checksum_catalog": ("inventory", "checksum_catalog", 3),
    "processed_variants": ("migrate", "processed_variants", 5),
    "s3_objects": ("migrate", "s3_objects", 5),
    "db_url_rewrites to cdn": ("migrate", "db_url_rewrites", 6),
    "db_url_rewrites to local": ("rollback", "db_url_rewrites", 5),
    "validation_report": ("migrate", "validation_report", 1),
}
EACH_ASSET = pytest.mark.parametrize("place", PLACES)
# The core's own steps, forward and back, are all in `test_kill_matrix`.
QUICK = {("s3_objects", "after")}
SOME_PLACES = pytest.mark.parametrize(
    ("place", "moment"),
    [
        pytest.param(place, moment, marks=() if (place, moment) in QUICK else pytest.mark.slow)
        for place in PLACES
        for moment in ("before", "after")
    ],
)


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    log = tmp_path_factory.mktemp("runner") / "runner.log"
    runner = Runner("photo_pipeline_tests.faults.killed_run", log)
    yield runner
    runner.stop()


@pytest.fixture(scope="session")
def fresh_dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty Dagster home to be copied: making its databases anew costs a second of CPU each time."""
    home = tmp_path_factory.mktemp("dagster-home")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs() == []
        assert instance.get_dynamic_partitions("photo_batches") == []
    return home


@dataclass
class Scene:
    """One site with a Dagster home, in which processes die and others carry on."""

    site: Site
    home: Path
    log: Path
    access_log: Path
    runner: Runner

    def run(self, *jobs: str, **plan: Any) -> int:
        """Run the jobs in a new process; return its exit code."""
        environment = os.environ | {
            "DAGSTER_HOME": str(self.home),
            "APP_DATABASE_URL": self.site.url,
            CONFIG_ENV: str(self.site.config_path),
        }
        request = asdict(Plan(jobs=jobs, **plan))
        return self.runner.run(request, environment=environment, log=self.log).code

    def die(self, job: str, **plan: Any) -> None:
        """Run up to `job`, in which the process must die."""
        jobs = (*FORWARD, "rollback")
        code = self.run(*jobs[: jobs.index(job) + 1], job=job, **plan)
        assert code == -signal.SIGKILL, f"exit code {code}, log:\n{self.tail()}"

    def carry_on(self, *jobs: str, **plan: Any) -> None:
        """Run the jobs in a new process, which must succeed."""
        code = self.run(*jobs, **plan)
        assert code == 0, f"exit code {code}, log:\n{self.tail()}"

    def tail(self) -> str:
        return self.log.read_text(encoding="utf-8")[-3000:]


MakeScene = Callable[..., Scene]


@pytest.fixture
def make_scene(
    tmp_path: Path,
    servers: RunningServers,
    s3_access_log: Path,
    aws_environment: None,
    runner: Runner,
    fresh_dagster_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> MakeScene:
    """Build the scene number `number`: a site with three photos whose rows are rewritten one by one."""

    def make(number: int = 0, *, database: str = "sqlite") -> Scene:
        folder = tmp_path / str(number)
        home = folder / "dagster"
        shutil.copytree(fresh_dagster_home, home)
        url = f"sqlite:///{folder / 'app.db'}"
        if database == "postgres":
            server: PostgresServer = request.getfixturevalue("postgres")
            url = server.new_database()
        monkeypatch.setenv("APP_DATABASE_URL", url)
        site = build_site(
            folder,
            url=url,
            servers=servers,
            name=f"{os.getpid()}-{utc_now().timestamp():.6f}",
            photos=PHOTOS,
            rewrite={"rows_per_transaction": 1},
            upload={"concurrency": 2},
        )
        return Scene(site, home, folder / "run.log", s3_access_log, runner)

    return make


def assert_survives(scene: Scene, before: list[str], *, job: str) -> None:
    """Carry on after a death in `job`; everything must be as if it had not been."""
    if job != "rollback":
        scene.carry_on(*FORWARD[FORWARD.index(job) :])
        assert_migrated_as_if_nothing_happened(scene.site, scene.access_log, photos=PHOTOS)
        scene.site.roll_back()
    else:
        scene.carry_on("rollback")
    assert_rolled_back_as_if_nothing_happened(scene.site, scene.access_log, before, photos=PHOTOS)


@SOME_PLACES
def test_a_run_killed_around_a_commit_is_completed_by_the_next(
    make_scene: MakeScene, place: str, moment: Moment
) -> None:
    scene = make_scene()
    before = scene.site.dump()
    job, asset, n = PLACES[place]
    scene.die(job, asset=asset, moment=moment, n=n)
    assert_survives(scene, before, job=job)


@pytest.mark.slow
@MOMENTS
def test_a_run_killed_around_a_put_is_completed_by_the_next(make_scene: MakeScene, moment: Moment) -> None:
    scene = make_scene()
    before = scene.site.dump()
    scene.die("migrate", asset="s3_objects", event="PUT", moment=moment, n=OBJECTS // 2)
    assert_survives(scene, before, job="migrate")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("without", "asset", "moment", "n"),
    [
        ("ledger in the row's transaction", "db_url_rewrites", "after", 5),
        ("conditional PUT", "s3_objects", "before", 5),
    ],
)
def test_without_its_defence_a_killed_run_is_found_out(
    make_scene: MakeScene, without: Defence, asset: str, moment: Moment, n: int
) -> None:
    scene = make_scene()
    scene.die("migrate", asset=asset, moment=moment, n=n, without=without)
    scene.carry_on("migrate", without=without)
    with pytest.raises(AssertionError):
        assert_migrated_as_if_nothing_happened(scene.site, scene.access_log, photos=PHOTOS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@EACH_ASSET
@MOMENTS
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_run_killed_around_any_commit_is_completed_by_the_next(
    make_scene: MakeScene, place: str, moment: Moment, database: str
) -> None:
    job, asset, interesting = PLACES[place]
    for n in count(1):
        scene = make_scene(n, database=database)
        before = scene.site.dump()
        jobs = (*FORWARD, "rollback")
        plan = {"job": job, "asset": asset, "moment": moment, "n": n}
        code = scene.run(*jobs[: jobs.index(job) + 1], **plan)
        if code == 0:
            break  # The asset has fewer than n commits: every one of them has been died at.
        assert code == -signal.SIGKILL, f"exit code {code}, log:\n{scene.tail()}"
        assert_survives(scene, before, job=job)
    assert n > interesting


@pytest.mark.slow
@pytest.mark.timeout(1800)
@MOMENTS
@pytest.mark.parametrize("n", range(1, OBJECTS + 1))
def test_a_run_killed_around_any_put_is_completed_by_the_next(
    make_scene: MakeScene, moment: Moment, n: int
) -> None:
    scene = make_scene()
    before = scene.site.dump()
    scene.die("migrate", asset="s3_objects", event="PUT", moment=moment, n=n)
    assert_survives(scene, before, job="migrate")
