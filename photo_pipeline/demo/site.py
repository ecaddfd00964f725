"""The demo's site: a folder with photos, an application database, a configuration, and the servers.

Preparing only; running the migration is `run`, showing it in Dagster is `ui`.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from photo_pipeline.core.config.dashboard import DEFAULT_PORT
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.demo.application import (
    demo_configuration,
    make_application,
    make_application_from_folder,
)
from photo_pipeline.demo.photos import make_photos
from photo_pipeline.demo.servers import EmbeddedServers, RunningServers

DEFAULT_HOME = Path(".photo_pipeline/demo")
# Enough for three partitions of the sample photos, so that a backfill has something to show.
BATCH_SIZE = 12
# After the demo its URLs should open in a browser for a while; then the servers end by themselves.
IDLE_STOP_S = 3600.0

# Made-up credentials of the embedded server; it listens on 127.0.0.1 only.
_ACCESS_KEY = "PHOTOPIPELINEDEMO"
_SECRET_KEY = "only-for-the-embedded-demo-server"
_BUCKET = "demo-photos"

# Also for a demo that is run before its dashboard is started: links are looked at later.
_DASHBOARD_URL = f"http://127.0.0.1:{DEFAULT_PORT}"


@dataclass(frozen=True)
class DemoSite:
    """Where the parts of a prepared demo are."""

    home: Path
    uploads: Path
    database: Path
    config: Path
    servers: RunningServers


def prepare(
    home: Path,
    *,
    photos: Path | None = None,
    fresh: bool = False,
    idle_stop_s: float | None = IDLE_STOP_S,
    dashboard_url: str = _DASHBOARD_URL,
) -> DemoSite:
    """Make the demo in `home`, or continue the one that is there.

    Args:
        home: The demo's own folder; nothing outside it is written.
        photos: A folder of real photos to use instead of made ones; it is only read.
        fresh: Throw away what an earlier demo left, and start over.
        idle_stop_s: Seconds without a request after which the servers end; None means never.
        dashboard_url: Where the dashboard is or will be.

    Raises:
        ConfigurationError: `photos` is no folder, or `home` holds something else than a demo.
        InfrastructureError: the servers do not come up.
    """
    home = home.resolve()
    if photos is not None and not photos.is_dir():
        raise ConfigurationError(str(photos), cause="there is no such folder", fix="name a folder of photos")
    source = str(photos.resolve()) if photos else "made"
    if fresh or _known_source(home) not in (None, source):
        remove(home)
    _make_content(home, photos, source)
    servers = start_servers(home, idle_stop_s=idle_stop_s)
    uploads = photos.resolve() if photos else home / "uploads"
    config = _write_configuration(
        home, uploads, servers, from_folder=photos is not None, dashboard_url=dashboard_url
    )
    return DemoSite(home, uploads, home / "app.db", config, servers)


def start_servers(home: Path, *, idle_stop_s: float | None) -> RunningServers:
    """Start (or find) the embedded S3 and CDN of the demo in `home`.

    Raises:
        InfrastructureError: they do not come up.
    """
    return EmbeddedServers.start(
        home / "s3",
        bucket=_BUCKET,
        access_key=_ACCESS_KEY,
        secret_key=_SECRET_KEY,
        idle_stop_s=idle_stop_s,
        access_log=home / "s3-access.jsonl",
    )


def stop_servers(home: Path) -> bool:
    """Stop the demo's servers; return whether any were running."""
    running = EmbeddedServers.find(home / "s3")
    if running is None:
        return False
    running.stop()
    return True


def remove(home: Path) -> None:
    """Stop the servers of the demo in `home` and delete the folder.

    Raises:
        ConfigurationError: the folder holds something else than a demo.
    """
    if not home.exists():
        return
    if any(home.iterdir()) and not (home / "demo.json").is_file():
        raise ConfigurationError(
            str(home),
            cause="the folder is not empty and holds no demo",
            fix="name another folder with --home",
        )
    stop_servers(home)
    shutil.rmtree(home)


def _known_source(home: Path) -> str | None:
    marker = home / "demo.json"
    return str(json.loads(marker.read_text(encoding="utf-8"))["photos"]) if marker.is_file() else None


def _make_content(home: Path, photos: Path | None, source: str) -> None:
    """Make photos and database once; the marker comes last, so half a demo is made anew."""
    marker = home / "demo.json"
    if marker.is_file():
        return
    home.mkdir(parents=True, exist_ok=True)
    database = home / "app.db"
    for leftover in home.glob("app.db*"):
        leftover.unlink()
    if photos is None:
        make_application(database, make_photos(home))
    else:
        make_application_from_folder(database, photos.resolve())
    (home / ".env").write_text(
        f"APP_DATABASE_URL=sqlite:///{database}\n"
        f"AWS_ACCESS_KEY_ID={_ACCESS_KEY}\n"
        f"AWS_SECRET_ACCESS_KEY={_SECRET_KEY}\n",
        encoding="utf-8",
    )
    marker.write_text(json.dumps({"photos": source}), encoding="utf-8")


def _write_configuration(
    home: Path, uploads: Path, servers: RunningServers, *, from_folder: bool, dashboard_url: str
) -> Path:
    settings = demo_configuration(
        uploads=uploads,
        store_endpoint=servers.s3_url,
        bucket=servers.bucket,
        cdn_base_url=servers.cdn_url,
        staging_dir=home / "staging",
        batch_size=BATCH_SIZE,
        from_folder=from_folder,
    )
    settings["dashboard"] = {"url": dashboard_url}
    settings["state"] |= {"report_dir": str(home / "reports"), "backup_dir": str(home / "backups")}
    config = home / "photo_pipeline.yaml"
    config.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return config
