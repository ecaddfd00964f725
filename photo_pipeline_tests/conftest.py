"""Fixtures that are the real things: an S3 server over HTTP, databases, photos on disk.

One embedded server (guarded moto and CDN edge) serves all tests of a worker; each site has key prefixes
of its own in it. `make_site` builds a small application with photos, on SQLite or PostgreSQL.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from photo_pipeline.core.garbage import keep_what_is_loaded
from photo_pipeline.core.storage import retries
from photo_pipeline.demo.servers import EmbeddedServers, RunningServers
from photo_pipeline_tests import examples, quicker
from photo_pipeline_tests.postgres import PostgresServer
from photo_pipeline_tests.sites import Site, build_site

if TYPE_CHECKING:
    from photo_pipeline_tests.web.world import HalfDone

ACCESS_KEY, SECRET_KEY = "PHOTOPIPELINETEST", "only-for-tests"
TESTS = Path(__file__).parent

# One worker has all tests of a module, or of one of these folders: their servers, sites and browsers are made
# once, and not once in each worker.
TOGETHER = ("core/cleanup", "core/report", "core/doctor")
# The longest of them come first: begun last, one would keep a worker busy while the other has nothing left.
LONGEST_FIRST = (
    "faults/test_model.py",
    "core/cleanup",
    "test_cli.py",
    "browser/test_dagster_ui.py",
    "e2e/test_shared_photos.py",
    "faults/test_interleavings.py",
    "core/provisioning/test_provisioning.py",
    "core/storage/test_store.py",
    "test_assets.py",
    "browser/test_picture.py",
    "faults/test_kill_matrix.py",
    "core/migration/test_rewrite.py",
    "test_cli_usage.py",
    "test_cli_terminal.py",
    "test_migration_driver.py",
    "core/report",
    "core/doctor",
    "core/imaging/test_variants.py",
    "core/imaging/test_treatments.py",
    "core/imaging/test_pool.py",
    "demo/test_servers.py",
    "browser/test_dashboard.py",
    "e2e/test_migration.py",
    "e2e/test_honest_outcome.py",
    "e2e/test_presets.py",
    "faults/test_kill_in_each_asset.py",
    "core/cost/test_simulated_month.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist keep our order, where it would begin with the group that has the most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    examples.configure(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests for `--dist loadgroup`, and put the long groups first."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group_of(item)))
    items.sort(key=lambda item: _place_of(_group_of(item)))


def _group_of(item: pytest.Item) -> str:
    module = item.path.relative_to(TESTS).as_posix()
    return next((folder for folder in TOGETHER if module.startswith(f"{folder}/")), module)


def _place_of(group: str) -> int:
    return LONGEST_FIRST.index(group) if group in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.fixture(scope="session", autouse=True)
def pay_once() -> Iterator[None]:
    """Start-up costs that each test would pay anew; see `quicker`."""
    with pytest.MonkeyPatch.context() as patch:
        quicker.record_migrations(patch)
        quicker.wait_for_no_disk(patch)
        quicker.share_compiled_statements(patch)
        quicker.remember_event_names(patch)
        keep_what_is_loaded()
        quicker.share_service_models(patch)
        quicker.look_at_pools_often(patch)
        quicker.end_servers_at_once(patch)
        quicker.ask_the_cdn_again_at_once(patch)
        yield


@pytest.fixture(scope="session")
def s3_access_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded server's log: one JSON line per request."""
    return tmp_path_factory.mktemp("s3-log") / "access.jsonl"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, s3_access_log: Path) -> Iterator[RunningServers]:
    """The embedded S3 server and CDN edge, in a child process."""
    with embedded_servers(tmp_path_factory.mktemp("s3"), "test-photos", access_log=s3_access_log) as running:
        yield running


@contextmanager
def embedded_servers(folder: Path, bucket: str, **options: Any) -> Iterator[RunningServers]:
    """Run servers with a bucket of their own, for tests that set the bucket up in their way."""
    running = EmbeddedServers.start(
        folder, bucket=bucket, access_key=ACCESS_KEY, secret_key=SECRET_KEY, idle_stop_s=900, **options
    )
    yield running
    running.stop()


def client_of(servers: RunningServers) -> Any:
    """Return a boto3 client of the servers' store."""
    return boto3.client(
        "s3",
        endpoint_url=servers.s3_url,
        region_name=servers.region,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A real PostgreSQL server of this test session's own."""
    server = PostgresServer.start()
    yield server
    server.stop()


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded server's credentials, and nothing of the developer's own AWS set-up."""
    embedded_credentials(monkeypatch)


def embedded_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what `aws_environment` sets, for fixtures of a wider scope."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@contextmanager
def standing_site(home: Path, servers: RunningServers, **settings: Any) -> Iterator[Site]:
    """Build a site on SQLite for the tests of a module, with the environment of who works on it meanwhile."""
    with pytest.MonkeyPatch.context() as environment:
        embedded_credentials(environment)
        url = f"sqlite:///{home / 'app.db'}"
        site = build_site(home, url=url, servers=servers, name=uuid.uuid4().hex[:8], **settings)
        environment.setenv("APP_DATABASE_URL", url)
        environment.setenv("PHOTO_PIPELINE_CONFIG", str(site.config_path))
        yield site


@pytest.fixture
def quick_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same number of tries, with hardly a wait between them."""
    monkeypatch.setattr(retries, "_LONGEST_WAIT_S", 0.01)
    monkeypatch.setattr(retries, "_JITTER_S", 0.01)


@pytest.fixture(scope="module")
def half_migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator["HalfDone"]:
    """A migration half done, in the state tables only."""
    from photo_pipeline_tests.web.world import half_done_migration

    with half_done_migration(tmp_path_factory.mktemp("half-done")) as written:
        yield written


MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(
    tmp_path: Path,
    servers: RunningServers,
    aws_environment: None,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> MakeSite:
    """Build a site: `make_site(photos=6, database="sqlite", **configuration)`.

    `database` is "sqlite", "postgres" (a new one on the session's server), or a URL.
    """

    def make(*, database: str = "sqlite", **settings: object) -> Site:
        if database == "postgres":
            url = request.getfixturevalue("postgres").new_database()
        elif database == "sqlite":
            url = f"sqlite:///{tmp_path / 'app.db'}"
        else:
            url = database
        monkeypatch.setenv("APP_DATABASE_URL", url)
        site = build_site(tmp_path, url=url, servers=servers, name=uuid.uuid4().hex[:8], **settings)
        monkeypatch.setenv("PHOTO_PIPELINE_CONFIG", str(site.config_path))
        return site

    return make


@pytest.fixture(scope="session")
def shared_photos() -> Path:
    """The folder with real and hostile photos, or a skip that says where it was looked for."""
    folder = Path(
        os.environ.get("PHOTO_PIPELINE_TEST_PHOTOS")
        or Path(__file__).resolve().parents[2] / "shared" / "photos"
    )
    if not (folder / "real").is_dir():
        pytest.skip(f"no photos at {folder} (set PHOTO_PIPELINE_TEST_PHOTOS)")
    return folder
