"""State tables with a migration half done, and the real dashboard over HTTP in front of them.

The rows are written straight into the tables: a page that shows a thousand batches needs them and not the
days that it took to make them. That real runs show up as well is tested in `browser/test_dashboard.py`.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
import urllib3
import yaml

from photo_pipeline.core import audit
from photo_pipeline.core.catalog import tables
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import MIGRATION
from photo_pipeline.core.catalog.inventory import Inventory
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import BatchState, PhotoState, utc_now
from photo_pipeline.core.config import PipelineConfig, load_config
from photo_pipeline.web.access import Access
from photo_pipeline.web.server import DashboardServer

TOKEN = "a-token-only-for-tests"
HOSTILE = "items/<script>document.title='broken'</script><img src=x onerror=alert(1)>.jpg"
FIELD = {"kind": "url", "column": "original_url", "root": "uploads", "role": "primary", "variant": "full"}
SOURCE = {
    "name": "item_photos",
    "table": "item_photos",
    "key": ["id"],
    "fields": [FIELD],
    "rewrite": {"mode": "url", "format": "jpeg"},
}


def write_config(home: Path, **settings: Any) -> PipelineConfig:
    """Return a configuration that names nothing that exists, but for the state tables' database."""
    document: dict[str, Any] = {
        "version": 1,
        "database": {"env": "APP_DATABASE_URL"},
        "roots": [{"name": "uploads", "dir": str(home), "url_prefixes": ["/uploads/"]}],
        "sources": [SOURCE],
        "store": {"bucket": "my-photos", "region": "us-east-1", "endpoint_url": "http://127.0.0.1:9"},
        "cdn": {"base_url": "https://cdn.example.com"},
        "limits": {"plan": "aws-legacy-free-tier"},
    } | settings
    path = home / "photo_pipeline.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return load_config(path)


def empty_database(home: Path) -> Database:
    """Return a new SQLite database without any table."""
    path = home / "app.db"
    path.touch()
    return Database.open(f"sqlite:///{path}")


@dataclass(frozen=True)
class HalfDone:
    """A migration half done, for tests that leave it as it is."""

    config: PipelineConfig
    database: Database


@contextmanager
def half_done_migration(home: Path) -> Iterator[HalfDone]:
    """Write the configuration and the state tables into the folder."""
    with closing(empty_database(home)) as database:
        half_done(database)
        yield HalfDone(write_config(home), database)


def half_done(database: Database, *, batches: int = 6, photos: int = 5, finished: int = 3) -> None:
    """Write a migration: `finished` batches completed 10 s apart, one failed, one running, others pending."""
    ensure_schema(database)
    now = utc_now()
    with database.write() as connection:
        _write_migration(connection, now)
        for number in range(batches):
            _write_batch(connection, number, photos, finished, now)
        _write_missing_file(connection, now)
        usage = {"month": f"{now:%Y-%m}", "unit": "puts", "amount": 1_700, "updated_at": now}
        connection.execute(sa.insert(tables.usage_table), usage)
        audit.record(
            connection,
            action="inventory",
            subject="the sources <b>of the shop</b>",
            details={"reason": ""},
            run="r1",
            actor="anna@web-1",
        )


def _write_migration(connection: sa.Connection, now: datetime) -> None:
    inventory = dict.fromkeys(Inventory.__dataclass_fields__, 0) | {"scan": "s", "by_class": {}}
    began = now - timedelta(minutes=30)
    connection.execute(sa.delete(tables.migration_table))
    connection.execute(
        sa.insert(tables.migration_table).values(
            name=MIGRATION, status="running", inventory=inventory, inventoried_at=began, updated_at=now
        )
    )


def _write_batch(connection: sa.Connection, number: int, photos: int, finished: int, now: datetime) -> None:
    key = f"batch-{number + 1:06d}"
    order = {finished: BatchState.FAILED, finished + 1: BatchState.RUNNING}
    state = BatchState.COMPLETED if number < finished else order.get(number, BatchState.PENDING)
    running = state is BatchState.RUNNING
    ended = now - timedelta(seconds=(finished - number) * 10)
    connection.execute(
        sa.insert(tables.batch_table).values(
            key=key,
            state=state,
            priority=number,
            photos=photos,
            lease_owner="elsewhere.example/4711/0123456789abcdef" if running else None,
            lease_token=1,
            lease_expires_at=now + timedelta(minutes=20) if running else None,
            error="store: it does not answer. Start it." if state is BatchState.FAILED else None,
            created_at=now,
            updated_at=ended if state is BatchState.COMPLETED else now,
        )
    )
    rows = [_photo(number * photos + n, key, state, n, ended) for n in range(photos)]
    connection.execute(sa.insert(tables.photo_table), rows)


def _photo(number: int, batch: str, state: BatchState, place: int, ended: datetime) -> dict[str, Any]:
    how_far = {BatchState.COMPLETED: PhotoState.MIGRATED, BatchState.RUNNING: PhotoState.PROCESSED}
    broken = state is BatchState.COMPLETED and place == 0
    return {
        "reference_id": _digest(f"photo {number}"),
        "source": "item_photos",
        "row_id": _digest(f"row {number}"),
        "row_key": f'["{number}"]',
        "field": "original_url",
        "column": "original_url",
        "role": "primary",
        "root": "uploads",
        "path": HOSTILE if number == 0 else f"items/{number}.jpg",
        "value": f"/uploads/items/{number}.jpg",
        "class": "matched",
        "batch": batch,
        "state": PhotoState.QUARANTINED if broken else how_far.get(state, PhotoState.PENDING),
        "error_type": "corrupt" if broken else None,
        "error_detail": f"{number}.jpg: the data ends early. Restore it from a backup." if broken else None,
        "scan": "s",
        "updated_at": ended,
    }


def _write_missing_file(connection: sa.Connection, now: datetime) -> None:
    missing = _photo(999_999, "", BatchState.PENDING, 1, now)
    connection.execute(
        sa.insert(tables.photo_table),
        missing | {"batch": None, "class": "file_missing", "state": PhotoState.FOUND, "path": None},
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: urllib3.HTTPHeaderDict
    text: str


@dataclass
class Served:
    """A dashboard that answers on `url`, and a browser's cookie jar that is told what to send."""

    url: str
    database: Database
    cookie: str = ""
    access: Access | None = None

    @property
    def origin(self) -> str:
        """What browsers call the page's origin."""
        return self.url.rstrip("/")

    def get(self, path: str = "/", **headers: str) -> Answer:
        """Ask for a page, redirects not followed."""
        return self._ask("GET", path, headers, None)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Answer:
        """Send a form as the page's own would be: with its Origin, unless another one is given."""
        sent = {"Origin": self.origin, "Content-Type": "application/x-www-form-urlencoded"} | headers
        return self._ask("POST", path, {k: v for k, v in sent.items() if v}, urlencode(fields))

    def sign_in(self, token: str = TOKEN) -> Answer:
        """Open the address with the token, and keep the cookie."""
        answer = self.get(f"/open?token={token}")
        if answer.status == 303:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer

    def form_secret(self, page: str = "/") -> str:
        """Return what the page's forms carry."""
        found = re.search(r'name="form_secret" value="([^"]+)"', self.get(page).text)
        assert found, "the page has no forms"
        return found[1]

    def audit(self) -> list[tuple[str, str, Any]]:
        """Return action, actor and details of every entry."""
        with self.database.read() as connection:
            return [(e.action, e.actor, e.details) for e in audit.entries(connection, last=1_000)]

    def _ask(self, method: str, path: str, headers: dict[str, str], body: str | None) -> Answer:
        sent = ({"Cookie": self.cookie} if self.cookie else {}) | headers
        answer = urllib3.request(
            method, self.origin + path, headers=sent, body=body, redirect=False, retries=False, timeout=20
        )
        return Answer(answer.status, answer.headers, answer.data.decode())


@contextmanager
def served(
    database: Database, config: PipelineConfig, *, token: str | None = TOKEN, port: int = 0, **hosts: Any
) -> Iterator[Served]:
    """Run the real server in a thread while the body runs."""
    access = Access.make(token, **hosts)
    server = DashboardServer(database, config, access, host="127.0.0.1", port=port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield Served(server.url, database, access=access)
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive(), "the server does not end"
