"""`kill -9` in the middle of each asset, right before or after a commit or a PUT, then an ordinary new run.

The killed process and the one after it are real, with a persistent Dagster instance, and die by SIGKILL:
no handler, no `finally`. See `killed_run` for how the moment is chosen. `make test` dies before the first
and after the last interesting commit of each asset; the slow tests die at every one.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import urllib3

from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.config import CONFIG_ENV
from photo_pipeline.core.migration import invariants
from photo_pipeline.core.project import Project
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.faults.killed_run import PARTITION, Defence, Moment, Plan
from photo_pipeline_tests.postgres import PostgresServer
from photo_pipeline_tests.sites import Site, build_site

PHOTOS = 3
OBJECTS = PHOTOS * 7  # two variants in three formats, and the original
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


class Runner:
    """Runs plans in real processes, one at a time."""

    def __init__(self, log: Path) -> None:
        # With `-c` there is no main module that each new process would have to import again.
        program = "from photo_pipeline_tests.faults.killed_run import serve; serve()"
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def run(self, plan: Plan, *, environment: dict[str, str], log: Path) -> int:
        assert self._process.stdin
        assert self._process.stdout
        request = {"environment": environment, "log": str(log), "plan": json.loads(plan.as_json())}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("runner") / "runner.log")
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
        return self.runner.run(Plan(jobs=jobs, **plan), environment=environment, log=self.log)

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

    def requests(self, method: str) -> list[tuple[str, int]]:
        """Key and status of each request for an object of this site, from the server's own log."""
        lines = [json.loads(line) for line in self.access_log.read_text(encoding="utf-8").splitlines()]
        bucket = f"/{self.site.settings['store']['bucket']}/"
        return [
            (line["path"].removeprefix(bucket), line["status"])
            for line in lines
            if line["method"] == method
            and f"/{self.site.name}/" in line["path"]
            and "/.probe/" not in line["path"]
        ]


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


def assert_rewritten_exactly_once(site: Site) -> None:
    """Each changed column has one ledger entry, which says what stood there and what stands there now."""
    entries = site.execute('SELECT row_key, "column", after, outcome, photo_id FROM pp_rewrite')
    assert {entry.outcome for entry in entries} == {"applied"}
    columns = Counter((entry.row_key, entry.column) for entry in entries)
    assert set(columns.values()) == {1}, columns
    rows = site.execute("SELECT id, original_url, file_size, updated_at FROM item_photos")
    after = {(json.loads(entry.row_key)[0], entry.column): entry.after for entry in entries}
    for row in rows:
        assert after.get((row.id, "original_url")) == row.original_url
        assert after.get((row.id, "file_size")) == str(row.file_size)
        assert after.get((row.id, "updated_at")) == row.updated_at
    assert sum(entry.photo_id is not None for entry in entries) == len(rows) == PHOTOS


def assert_every_url_delivers(site: Site) -> None:
    """What each row points to is there and has the size that the row says."""
    for url, size in site.execute("SELECT original_url, file_size FROM item_photos"):
        answer = urllib3.request("GET", url)
        assert (answer.status, len(answer.data)) == (200, size), url


def assert_objects_stored_once(scene: Scene, project: Project) -> None:
    """No object is missing, foreign or stored twice; nothing was sent more than once more than needed."""
    puts = scene.requests("PUT")
    stored = Counter(key for key, status in puts if status == 200)
    catalogued = {
        row[0] for row in scene.site.execute("SELECT key FROM pp_object WHERE verified_at IS NOT NULL")
    }
    store = project.config.store
    listed = {
        key for prefix in (store.prefix, store.originals_prefix) for key, _ in project.store.list(prefix)
    }
    assert set(stored.values()) == {1}, stored
    assert set(stored) == catalogued == listed
    assert len(listed) == OBJECTS
    assert max(Counter(key for key, _ in puts).values()) <= 2
    assert scene.requests("DELETE") == []


def assert_state_is_consistent(site: Site, project: Project, *, batch_state: str) -> None:
    """Every invariant of the state tables holds, and no lease is left over."""
    database, config = project.database, project.config
    for invariant in (
        invariants.classes_add_up(database),
        invariants.every_match_is_batched(database),
        invariants.every_photo_is_uploaded_or_explained(database, PARTITION),
        invariants.every_rewritten_row_is_backed(database, config, PARTITION),
        invariants.validation_passed(database, PARTITION),
    ):
        assert invariant.holds, invariant
        assert invariant.checked or batch_state == "rolled_back", invariant
    assert [tuple(row) for row in site.execute("SELECT key, state, lease_owner, error FROM pp_batch")] == [
        (PARTITION, batch_state, None, None)
    ]
    assert [row.status for row in site.execute("SELECT status FROM pp_migration")] == [batch_state]


def assert_migrated_as_if_nothing_happened(scene: Scene) -> None:
    with scene.site.project() as project:
        assert_rewritten_exactly_once(scene.site)
        assert_every_url_delivers(scene.site)
        assert_objects_stored_once(scene, project)
        assert_state_is_consistent(scene.site, project, batch_state="completed")
    assert scene.site.states() == {"migrated": PHOTOS}


def assert_rolled_back_as_if_nothing_happened(scene: Scene, before: list[str]) -> None:
    assert scene.site.dump() == before
    assert scene.site.states() == {"rolled_back": PHOTOS}
    entries = scene.site.execute("SELECT outcome, reason FROM pp_rewrite")
    assert {tuple(entry) for entry in entries} == {("rolled_back", None)}
    with scene.site.project() as project:
        assert_objects_stored_once(scene, project)
        assert_state_is_consistent(scene.site, project, batch_state="rolled_back")


def assert_survives(scene: Scene, before: list[str], *, job: str) -> None:
    """Carry on after a death in `job`; everything must be as if it had not been."""
    if job != "rollback":
        scene.carry_on(*FORWARD[FORWARD.index(job) :])
        assert_migrated_as_if_nothing_happened(scene)
        scene.site.roll_back()
    else:
        scene.carry_on("rollback")
    assert_rolled_back_as_if_nothing_happened(scene, before)


@EACH_ASSET
@MOMENTS
def test_a_run_killed_around_a_commit_is_completed_by_the_next(
    make_scene: MakeScene, place: str, moment: Moment
) -> None:
    scene = make_scene()
    before = scene.site.dump()
    job, asset, n = PLACES[place]
    scene.die(job, asset=asset, moment=moment, n=n)
    assert_survives(scene, before, job=job)


@MOMENTS
def test_a_run_killed_around_a_put_is_completed_by_the_next(make_scene: MakeScene, moment: Moment) -> None:
    scene = make_scene()
    before = scene.site.dump()
    scene.die("migrate", asset="s3_objects", event="PUT", moment=moment, n=OBJECTS // 2)
    assert_survives(scene, before, job="migrate")


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
        assert_migrated_as_if_nothing_happened(scene)


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
