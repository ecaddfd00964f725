"""How long the migration report of many photos takes to write and to open in a real browser.

A small application is really migrated (some photos damaged, some missing), and its state tables are then
multiplied by SQL: every photo, file, object, ledger entry, validation and measured quality gets copies with
names and digests of their own, in batches of their own. So the report has the shape of a large migration's;
the pictures in it are fetched and decoded as always. It is written by a process of its own.

The page is opened from its file, interleaved with an empty page (`<!doctype html><title>0</title>`) in the
same browser: what that takes is what opening anything takes here. Figures are medians of milliseconds from
the start of the navigation, by the browser's own clock: `first_paint`, `dom_ready` (DOMContentLoaded) and
`loaded`.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from playwright.sync_api import Browser, sync_playwright

from photo_pipeline.core import audit
from photo_pipeline.core.catalog import tables
from photo_pipeline.core.delivery.cdn import Cdn, Delivered
from photo_pipeline.core.project import Project
from photo_pipeline.core.report.write import ReportFiles, write_report
from photo_pipeline.demo.servers import EmbeddedServers, RunningServers
from photo_pipeline_tests.sites import Site, build_site, item_photo, photo

RESULT = Path("benchmarks/results/report.json")
TARGET_S = 1.0
_PHOTOS, _BATCH = 20, 5
_DIGESTS = ("file_id", "lookup_id", "reference_id", "row_id", "sha256", "source_sha256")
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "only-for-the-bench"}
_EMPTY = "<!doctype html><title>0</title>"

Measured = dict[str, float]


class CdnOfCopies(Cdn):
    """Delivers a copy's file by its original's: digests of copies differ in their first eight digits only."""

    def __init__(self, base_url: str, digests: list[str]) -> None:
        super().__init__(base_url)
        self._originals = {digest[8:]: digest for digest in digests}

    def fetch(self, url: str, *, accept: str = "*/*") -> Delivered:
        """Return the answer for the original's URL."""
        parts = url.split("/")
        place = next(n for n, part in enumerate(parts) if len(part) == 64)
        original = self._originals[parts[place][8:]]
        parts[place - 1 : place + 1] = [original[:2], original]
        return super().fetch("/".join(parts), accept=accept)


@contextmanager
def embedded_servers(folder: Path) -> Iterator[RunningServers]:
    """Run the demo's S3 and CDN."""
    access_key, secret_key = _CREDENTIALS.values()
    running = EmbeddedServers.start(folder, bucket="bench", access_key=access_key, secret_key=secret_key)
    try:
        yield running
    finally:
        running.stop()


def build(home: Path, servers: RunningServers) -> Site:
    """Return a small migrated site: one photo in ten is damaged, one row in ten names a missing file."""
    uploads = home / "uploads"
    rows = [item_photo(n, f"/uploads/items/{n}.jpg") for n in range(_PHOTOS)]
    site = build_site(
        home,
        url=f"sqlite:///{home / 'app.db'}",
        servers=servers,
        name="report",
        photos=0,
        rows=rows,
        batch_size=_BATCH,
        quality={"sample": 0.2},
    )
    for n in range(_PHOTOS):
        if n % 10 != 1:
            path = photo(uploads / f"items/{n}.jpg", width=640, height=480, seed=n, quality=92)
            if n % 10 == 2:
                path.write_bytes(path.read_bytes()[:5_000])
    site.migrate()
    return site


def multiply(site: Site, times: int) -> None:
    """Give each photo so many copies less one, with everything that is known of it."""
    with site.project() as project, project.database.write() as connection:
        batches = _one(connection, "SELECT count(*) FROM pp_batch")
        photos = _one(connection, "SELECT max(id) FROM pp_photo")
        rewrites = _one(connection, "SELECT max(id) FROM pp_rewrite")
        values = {name: f"printf('%08x', n) || substr(t.{name}, 9)" for name in _DIGESTS}
        key = "replace(t.key, '/' || {0}, '/' || printf('%08x', n) || substr({0}, 9))"
        values |= {
            "batch": f"printf('batch-%06d', CAST(substr(t.batch, 7) AS INTEGER) + n * {batches})",
            "photo_id": f"t.photo_id + n * {photos}",
            "perceptual_hash": "printf('%016x', abs(random()))",
        }
        keys = {"key": key.format("t.source_sha256")}
        ids = {tables.photo_table: photos, tables.rewrite_table: rewrites}
        for table in (
            *(tables.file_table, tables.photo_table, tables.picture_table, tables.object_table),
            *(tables.rewrite_table, tables.validation_table),
        ):
            own = keys if table is tables.object_table else {}
            if table in ids:
                own = own | {"id": f"t.id + n * {ids[table]}"}
            _copy(connection, table, values | own, times)
        digest = "substr(t.key, instr(t.key, '/photos/') + 11, 64)"  # …/photos/ab/<digest>/…
        _copy(connection, tables.quality_table, values | {"key": key.format(digest)}, times)
        batch_key = f"printf('batch-%06d', CAST(substr(t.key, 7) AS INTEGER) + n * {batches})"
        _copy(connection, tables.batch_table, {"key": batch_key}, times)
        _scale_totals(connection, times)
        for number in range(batches * (times - 1)):
            audit.record(
                connection, action="rewrite", subject=f"batch {number}", details={}, run="r", actor="bench"
            )


def _one(connection: sa.Connection, statement: str) -> int:
    return int(connection.exec_driver_sql(statement).scalar_one())


def _copy(connection: sa.Connection, table: sa.Table, values: Mapping[str, str], times: int) -> None:
    names = [column.name for column in table.columns]
    filled = (values.get(name, f"t.{_quoted(name)}") for name in names)
    copies = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < "
    parts = (
        f"{copies}{times - 1})",
        f"INSERT INTO {table.name} ({', '.join(map(_quoted, names))})",
        f"SELECT {', '.join(filled)}",
        f"FROM {table.name} t, numbers WHERE {times} > 1",
    )
    connection.exec_driver_sql(" ".join(parts))


def _quoted(name: str) -> str:
    return f'"{name}"'


def _scale_totals(connection: sa.Connection, times: int) -> None:
    inventory = connection.execute(sa.select(tables.migration_table.c.inventory)).scalar_one()

    def scaled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: scaled(each) for name, each in value.items()}
        return value * times if isinstance(value, int) else value

    connection.execute(sa.update(tables.migration_table).values(inventory=scaled(inventory)))


def write(site: Site) -> tuple[ReportFiles, dict[str, float]]:
    """Write the report, in a process of its own so that its memory is its own; return what it took."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        code = 1
        try:
            os.write(writer, json.dumps(_write(site)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.wait()
    if not text:
        raise SystemExit("the report could not be written")
    took = json.loads(text)
    folder = Path(took.pop("folder"))
    names = ("migration_report.html", "migration_report.json", "photos.csv", "photos.parquet")
    html, document, csv, parquet = (folder / name for name in names)
    return ReportFiles(html, document, csv, parquet, None), took  # type: ignore[arg-type]


def _write(site: Site) -> dict[str, Any]:
    with Project.load(site.config_path) as project:
        with project.database.read() as connection:
            query = sa.select(tables.photo_table.c.sha256).where(tables.photo_table.c.id <= _PHOTOS)
            digests = [str(each) for each in connection.execute(query).scalars() if each]
        before, busy, started = _peak_mb(), time.process_time(), time.perf_counter()
        files = write_report(
            project.database, project.config, CdnOfCopies(site.settings["cdn"]["base_url"], digests)
        )
        return {
            "folder": str(files.html.parent),
            "photos": sum((files.data.photos or {}).values()),
            "batches": len(files.data.batches),
            "findings": files.data.findings_total,
            "write_s": round(time.perf_counter() - started, 2),
            "write_cpu_s": round(time.process_time() - busy, 2),
            "memory_before_mb": round(before, 1),
            "memory_peak_mb": round(_peak_mb(), 1),
        }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def opened(browser: Browser, path: Path, *, viewport: tuple[int, int]) -> Measured:
    """Open the page in a new context, and return the browser's own times in milliseconds."""
    context = browser.new_context(viewport={"width": viewport[0], "height": viewport[1]})
    try:
        page = context.new_page()
        page.goto(path.as_uri(), wait_until="load")
        page.wait_for_function("performance.getEntriesByType('navigation')[0].loadEventEnd > 0")
        times = page.evaluate(
            """() => {
              const navigation = performance.getEntriesByType('navigation')[0];
              const paint = performance.getEntriesByName('first-contentful-paint')[0];
              return { dom_ready: navigation.domContentLoadedEventEnd, loaded: navigation.loadEventEnd,
                       first_paint: paint ? paint.startTime : navigation.domContentLoadedEventEnd };
            }"""
        )
        return {name: float(value) for name, value in times.items()}
    finally:
        context.close()


def medians(measure: Callable[[], Measured], other: Callable[[], Measured], rounds: int) -> list[Measured]:
    """Return the medians of both, measured by turns."""
    measure(), other()  # The first pages of a browser are slower.
    taken = [(measure(), other()) for _ in range(rounds)]
    return [
        {name: round(statistics.median(pair[which][name] for pair in taken), 1) for name in taken[0][which]}
        for which in (0, 1)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9, help="openings of each page")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    os.environ |= _CREDENTIALS
    program = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)
    with tempfile.TemporaryDirectory() as name, embedded_servers(Path(name) / "s3") as servers:
        home = Path(name) / "site"
        home.mkdir()
        os.environ["APP_DATABASE_URL"] = f"sqlite:///{home / 'app.db'}"
        site = build(home, servers)
        multiply(site, max(1, options.photos // _PHOTOS))
        files, took = write(site)
        empty = Path(name) / "empty.html"
        empty.write_text(_EMPTY, encoding="utf-8")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            pages = {}
            for kind, viewport in (("desktop", (1280, 900)), ("phone", (390, 844))):
                report, nothing = medians(
                    lambda at=viewport: opened(browser, files.html, viewport=at),  # type: ignore[misc]
                    lambda at=viewport: opened(browser, empty, viewport=at),  # type: ignore[misc]
                    options.rounds,
                )
                pages[kind] = {
                    "report_ms": report,
                    "empty_page_ms": nothing,
                    "loaded_ratio_to_empty": round(report["loaded"] / nothing["loaded"], 1),
                    "loaded_share_of_target": round(report["loaded"] / 1000 / TARGET_S, 3),
                }
            browser.close()
        sizes = {
            each.suffix[1:]: each.stat().st_size
            for each in (files.html, files.json, files.csv, files.parquet)
        }
        document = {
            "what": (__doc__ or "").splitlines()[0],
            "target_s": TARGET_S,
            "written": took,
            "bytes": sizes,
            "opened": pages,
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
