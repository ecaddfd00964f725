"""Sites for processes that are killed, and the server that forks these processes."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.faults.processes import Runner
from photo_pipeline_tests.faults.scene import PHOTOS, VARIANTS, MakeScene, Scene
from photo_pipeline_tests.sites import build_site, item_photo, photo


@pytest.fixture(scope="session")
def stepwise_runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    log = tmp_path_factory.mktemp("stepwise") / "runner.log"
    runner = Runner("photo_pipeline_tests.faults.stepwise_run", log)
    yield runner
    runner.stop()


@pytest.fixture
def one_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process open the store once: a boto3 client costs 0.3 s, and each look at a scene needs it."""
    opened: list[PhotoStore] = []
    really_open = PhotoStore.open

    def once(settings: StoreSettings, **_: Any) -> PhotoStore:
        if not opened:
            opened.append(really_open(settings))
        return opened[0]

    monkeypatch.setattr(PhotoStore, "open", once)


@pytest.fixture
def make_scene(
    tmp_path: Path,
    servers: RunningServers,
    s3_access_log: Path,
    aws_environment: None,
    one_store: None,
    stepwise_runner: Runner,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> MakeScene:
    """Build a site whose rows are rewritten one by one; `database` may also be a URL."""
    numbers = count()

    def make(*, database: str = "sqlite", photos: int = PHOTOS, **settings: Any) -> Scene:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        url = f"sqlite:///{folder / 'app.db'}" if database == "sqlite" else database
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
