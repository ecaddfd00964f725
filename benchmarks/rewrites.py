"""Rewritten rows per second, beside a bare executemany UPDATE of the same rows in the same run.

Without store and CDN: the photos are catalogued as uploaded and proven, and what is measured is everything
that a rewrite does in the database: lease, locks, compare-and-swap, read-back, ledger, links, states, audit.
The bare UPDATE sets the same columns of the same rows to the same values, as many rows per transaction, by
the driver's own executemany.
"""

import argparse
import gc
import hashlib
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from photo_pipeline.core.catalog.batches import assign_batches
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import ScanFence
from photo_pipeline.core.catalog.rows import row_id
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import batch_table, photo_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.chunk_rewrite import ChunkRewriter
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.ledger_audit import audit_rewrites, last_ledger_id, verify_ledger
from photo_pipeline.core.migration.photos import ObjectNaming, batch_photos
from photo_pipeline_tests.postgres import PostgresServer

RESULT = Path("benchmarks/results/rewrites.json")
# Rows per batch: what one batch holds in memory does not depend on how many batches there are.
_BATCH = 1_000
_WRITE_BACK = {"file_size": "bytes", "mime_type": "mime", "width": "width", "height": "height"}
_OBJECT = {"bytes": 1000, "mime": "image/jpeg", "width": 1200, "height": 900}
_SHAPES: dict[str, dict[str, Any]] = {
    "url": {"mode": "url"},
    "url+4 columns+time": {"mode": "url", "write_back": _WRITE_BACK, "touch": ["updated_at"]},
}


@dataclass(frozen=True)
class Scene:
    """One application of so many rows, each with one uploaded photo."""

    database: Database
    config: PipelineConfig
    rows: int
    uploads: Path


class ProvenObjects(dict[str, Any]):
    """An object for every key, as `pp_object` would have it."""

    def __missing__(self, key: str) -> Any:
        return SimpleNamespace(
            key=key,
            bytes=1000,
            mime="image/jpeg",
            width=1200,
            height=900,
            verified_at=utc_now(),
            deleted_at=None,
        )

    def get(self, key: str, default: Any = None) -> Any:
        """Return the object."""
        return self[key]


def build(url: str, home: Path, *, rows: int, shape: str, chunk: int) -> Scene:
    database = Database.open(url)
    uploads = home / "uploads"
    uploads.mkdir(exist_ok=True)
    config = PipelineConfig.model_validate(_document(home, uploads, shape, chunk))
    ensure_schema(database)
    with database.write() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE photos (id INTEGER PRIMARY KEY, url VARCHAR(400), file_size INTEGER, "
            "mime_type VARCHAR(40), width INTEGER, height INTEGER, updated_at TIMESTAMP)"
        )
    ScanFence.begin(database)
    for start in range(0, rows, 5_000):
        _fill(database, range(start, min(rows, start + 5_000)))
    return Scene(database, config, rows, uploads)


def _document(home: Path, uploads: Path, shape: str, chunk: int) -> dict[str, Any]:
    field = {"kind": "url", "column": "url", "root": "uploads", "role": "primary", "variant": "full"}
    return {
        "version": 1,
        "database": {"env": "APP_DATABASE_URL"},
        "roots": [{"name": "uploads", "dir": str(uploads), "url_prefixes": ["/uploads/"]}],
        "sources": [
            {"name": "photos", "table": "photos", "key": ["id"], "fields": [field], "rewrite": _SHAPES[shape]}
        ],
        "store": {"bucket": "bench", "region": "eu-central-1"},
        "cdn": {"base_url": "https://cdn.example.com"},
        "rewrite": {"rows_per_transaction": chunk},
        "batches": {"size": _BATCH},
        "state": {"staging_dir": str(home / "staging")},
    }


def _fill(database: Database, numbers: range) -> None:
    now = utc_now()
    application = [{"id": n, "url": f"/uploads/{n}.jpg", "t": "2024-05-01 10:00:00"} for n in numbers]
    photos = []
    for n in numbers:
        digest = hashlib.sha256(str(n).encode()).hexdigest()
        key = f"[{n}]" if database.is_sqlite else f'["{n}"]'
        photos.append(
            {
                "reference_id": digest,
                "source": "photos",
                "row_id": row_id("photos", key),
                "row_key": key,
                "field": "url",
                "column": "url",
                "role": "primary",
                "root": "uploads",
                "path": f"{n}.jpg",
                "value": f"/uploads/{n}.jpg",
                "size": 1,
                "mtime_ns": 1,
                "inode": 1,
                "sha256": digest,
                "format": "JPEG",
                "width": 1200,
                "height": 900,
                "class": "matched",
                "state": "pending",
                "scan": "bench",
                "updated_at": now,
            }
        )
    with database.write() as connection:
        insert = "INSERT INTO photos (id, url, updated_at) VALUES (:id, :url, :t)"
        connection.execute(sa.text(insert), application)
        connection.execute(sa.insert(photo_table), photos)


def assign(scene: Scene) -> None:
    assign_batches(scene.database, scene.config)
    with scene.database.write() as connection:
        connection.execute(sa.update(photo_table).values(state="uploaded"))
        if not scene.database.is_sqlite:
            connection.execute(sa.text("ANALYZE pp_photo"))
            connection.execute(sa.text("ANALYZE photos"))


def rewrite_all(scene: Scene) -> float:
    """Rewrite every row; return the seconds that it took, without the reading of the batches' photos."""
    with scene.database.read() as connection:
        batches = connection.execute(sa.select(batch_table.c.key).order_by(batch_table.c.key)).scalars().all()
    return sum(_rewrite_batch(scene, batch) for batch in batches)


def _rewrite_batch(scene: Scene, batch: str) -> float:
    database, chunk = scene.database, scene.config.rewrite.rows_per_transaction
    naming = ObjectNaming(scene.config, database)
    with BatchLease(database, batch, run="bench") as lease:
        rows: dict[str, list[Any]] = defaultdict(list)
        for photo in batch_photos(database, batch):
            rows[photo.row_id].append(photo)
        leading = {key: photos[0] for key, photos in rows.items()}
        rewriter = ChunkRewriter(database, scene.config, naming, ProvenObjects(), batch=batch, run="bench")
        queue, done = list(rows.values()), 0
        started = time.perf_counter()
        for start in range(0, len(queue), chunk):
            with database.write() as connection:
                lease.hold(connection)
                above = last_ledger_id(connection)
                counts = rewriter.rewrite(connection, queue[start : start + chunk], leading)
                audit_rewrites(connection, batch=batch, run="bench", above=above, counts=counts.numbers)
            done += counts.rewritten
        if done != len(queue):
            raise SystemExit(f"{batch}: {done} of {len(queue)} rows were rewritten")
        return time.perf_counter() - started


def bare_update(scene: Scene, shape: str) -> float:
    """Set the same columns of the same rows by executemany; return the seconds."""
    columns = [
        "url",
        *(_WRITE_BACK if "write_back" in _SHAPES[shape] else ()),
        *_SHAPES[shape].get("touch", ()),
    ]
    table = scene.database.table("photos")
    chunk, seconds = scene.config.rewrite.rows_per_transaction, 0.0
    mark = "?" if scene.database.is_sqlite else "%s"
    assignments = ", ".join(f"{name} = {mark}" for name in columns)
    statement = f"UPDATE photos SET {assignments} WHERE id = {mark}"  # noqa: S608 - names of this file
    for page in _pages(scene, table, columns, chunk):
        started = time.perf_counter()
        with scene.database.write() as connection:
            connection.exec_driver_sql(statement, page)
        seconds += time.perf_counter() - started
    return seconds


def _pages(scene: Scene, table: sa.Table, columns: list[str], chunk: int) -> Iterator[list[tuple[Any, ...]]]:
    chosen = sa.select(*(table.c[name] for name in columns), table.c.id)
    for start in range(0, scene.rows, chunk):
        with scene.database.read() as connection:
            rows = connection.execute(chosen.where(table.c.id >= start, table.c.id < start + chunk)).all()
        yield [tuple(row) for row in rows]


def measure(
    backend: str, *, rows: int, shape: str, chunk: int, server: PostgresServer | None
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pp-bench-") as folder:
        home = Path(folder)
        if server is None:
            (home / "app.db").touch()
            url = f"sqlite:///{home / 'app.db'}"
        else:
            url = server.new_database()
        scene = build(url, home, rows=rows, shape=shape, chunk=chunk)
        gc.collect()
        before = _resident_mb()
        assign(scene)
        ours = rewrite_all(scene)
        bare = bare_update(scene, shape)
        with scene.database.read() as connection:
            verdict = verify_ledger(connection)
        scene.database.close()
    if not verdict.holds or verdict.unaudited:
        raise SystemExit(f"the ledger does not hold: {verdict}")
    return {
        "backend": backend,
        "shape": shape,
        "rows": rows,
        "rows_per_transaction": chunk,
        "rewrites_per_second": round(rows / ours),
        "bare_updates_per_second": round(rows / bare),
        "ratio_to_bare_update": round(bare / ours, 3),
        "memory_before_mb": round(before, 1),
        "memory_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1024 / 1024


def in_a_process_of_its_own(backend: str, options: argparse.Namespace, **case: Any) -> dict[str, Any]:
    """Measure in a fork, so that one case's peak of memory is not the next one's."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        server = PostgresServer.start() if backend == "postgresql" else None
        code = 1
        try:
            found = measure(backend, server=server, **case)
            os.write(writer, json.dumps(found).encode())
            code = 0
        finally:
            if server is not None:
                server.stop()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.wait()
    if not text:
        raise SystemExit(f"{backend} {case} failed")
    return dict(json.loads(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000], help="or 1000000")
    parser.add_argument("--backends", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--chunk", type=int, default=100, help="rows per transaction")
    parser.add_argument("--repeat", type=int, default=3, help="of the smallest size; the median counts")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    results = []
    for backend in options.backends:
        for shape in _SHAPES:
            for rows in options.rows:
                repeat = options.repeat if rows == min(options.rows) else 1
                case = {"rows": rows, "shape": shape, "chunk": options.chunk}
                runs = [in_a_process_of_its_own(backend, options, **case) for _ in range(repeat)]
                middle = statistics.median_low([run["ratio_to_bare_update"] for run in runs])
                chosen = next(run for run in runs if run["ratio_to_bare_update"] == middle)
                results.append(chosen | {"runs": repeat})
                print(json.dumps(results[-1]), flush=True)
    document = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpus": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "python": platform.python_version(),
            "sqlalchemy": sa.__version__,
        },
        "what": __doc__,
        "results": results,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
