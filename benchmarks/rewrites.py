"""Rewritten rows per second, beside a bare executemany UPDATE of the same rows in the same run.

Without store and CDN: the photos are catalogued as uploaded and proven, and what is measured is everything
that a rewrite does in the database and on the disk: a look at each file, lease, locks, compare-and-swap,
read-back, ledger, links, states, audit.

The rivals set the same columns of the same rows to the same new values (from the same old ones), as many rows
per transaction, by the driver's own executemany:
- bare: the UPDATE alone, without a comparison; no way back.
- by hand: the same writes that ours makes, as compare-and-swap, ledger, links and states, with nothing read,
  looked at, proven or audited. What the same rows in the database cost at least.
"""

import argparse
import gc
import hashlib
import itertools
import json
import os
import platform
import resource
import statistics
import tempfile
import time
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
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.ledger_audit import verify_ledger
from photo_pipeline.core.migration.photos import ObjectNaming, batch_photos
from photo_pipeline.core.migration.row_chunks import RowChunks
from photo_pipeline.core.migration.watch import ControlWatch
from photo_pipeline.core.progress import no_progress
from photo_pipeline_tests.postgres import PostgresServer

RESULT = Path("benchmarks/results/rewrites.json")
# Rows per batch: what one batch holds in memory does not depend on how many batches there are.
_BATCH = 1_000
# Every photo has one of so many files, all alike.
_FILES = 1_000
_MTIME_NS = 1_700_000_000_000_000_000
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
    """An object for every key, as `pp_object` would have it, and the same for all."""

    def __init__(self) -> None:
        super().__init__()
        self._any = SimpleNamespace(**_OBJECT, verified_at=utc_now(), deleted_at=None)

    def __missing__(self, key: str) -> Any:
        return self._any

    def get(self, key: str, default: Any = None) -> Any:
        """Return the object."""
        return self[key]


def build(url: str, home: Path, *, rows: int, shape: str, chunk: int) -> Scene:
    database = Database.open(url)
    uploads = home / "uploads"
    uploads.mkdir(exist_ok=True)
    for n in range(_FILES):
        (uploads / f"{n}.jpg").write_bytes(b"x")
        os.utime(uploads / f"{n}.jpg", ns=(_MTIME_NS, _MTIME_NS))
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
                "path": f"{n % _FILES}.jpg",
                "value": f"/uploads/{n}.jpg",
                "size": 1,
                "mtime_ns": _MTIME_NS,
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


def batches(scene: Scene) -> list[str]:
    with scene.database.read() as connection:
        return list(connection.execute(sa.select(batch_table.c.key).order_by(batch_table.c.key)).scalars())


def rewrite_batch(scene: Scene, batch: str) -> tuple[float, list[int]]:
    """Rewrite every row; return the seconds, without the reading of the batch's photos, and the rows' ids."""
    database = scene.database
    naming = ObjectNaming(scene.config, database)
    with BatchLease(database, batch, run="bench") as lease:
        photos = batch_photos(database, batch)
        leading = {photo.row_id: photo for photo in photos}
        watch = ControlWatch(database)
        chunks = RowChunks(database, scene.config, lease, naming, ProvenObjects(), watch=watch)
        started = time.perf_counter()
        done = sum(counts.rewritten for counts in chunks.rewrite(photos, leading, no_progress))
        seconds = time.perf_counter() - started
    if done != len(photos):
        raise SystemExit(f"{batch}: {done} of {len(photos)} rows were rewritten")
    return seconds, sorted(int(json.loads(photo.row_key)[0]) for photo in photos)


@dataclass(frozen=True)
class Change:
    """What the rewrite made of one row: the cells of `columns` before and after, and its photo."""

    id: int
    before: tuple[Any, ...]
    after: tuple[Any, ...]
    photo: tuple[Any, ...]


class Rival:
    """Does what the rewrite did to one scene to a fresh one, without us."""

    def __init__(self, fresh: Scene, done: Scene, shape: str) -> None:
        self._fresh = fresh
        self._done = done
        touched = _SHAPES[shape].get("touch", ())
        self._columns = ["url", *(_WRITE_BACK if "write_back" in _SHAPES[shape] else ()), *touched]
        self._mark = "?" if fresh.database.is_sqlite else "%s"

    def bare_update(self, ids: list[int]) -> float:
        """Set the columns of those rows by executemany; return the seconds."""
        assignments = ", ".join(f"{name} = {self._mark}" for name in self._columns)
        statement = f"UPDATE photos SET {assignments} WHERE id = {self._mark}"  # noqa: S608 - names of this file
        return sum(
            self._run([(statement, [(*each.after, each.id) for each in page])]) for page in self._pages(ids)
        )

    def by_hand(self, ids: list[int]) -> float:
        """Compare and set the columns, write ledger, links and states by executemany; return the seconds."""
        seconds, last = 0.0, ids[0] * len(self._columns)
        for page in self._pages(ids):
            entries: list[tuple[Any, ...]] = []
            links = []
            for each in page:
                photo, row, key = each.photo
                for name, before, after in zip(self._columns, each.before, each.after, strict=True):
                    last += 1
                    entries.append((last, photo if name == "url" else None, row, key, name, before, after))
                    if name == "url":
                        links.append((last, photo))
            swaps = [(*each.after, each.id, *each.before) for each in page]
            marks = [(each.after[0], each.photo[0]) for each in page]
            values = (swaps, [(*e[:5], _text(e[5]), _text(e[6])) for e in entries], links, marks)
            seconds += self._run(list(zip(self._statements(), values, strict=True)))
        return seconds

    def _run(self, statements: list[tuple[str, list[tuple[Any, ...]]]]) -> float:
        started = time.perf_counter()
        with self._fresh.database.write() as connection:
            for statement, values in statements:
                connection.exec_driver_sql(statement, values)
        return time.perf_counter() - started

    def _statements(self) -> list[str]:
        mark = self._mark
        same = "IS" if self._fresh.database.is_sqlite else "IS NOT DISTINCT FROM"
        assignments = ", ".join(f"{name} = {mark}" for name in self._columns)
        compared = " AND ".join(f"{name} {same} {mark}" for name in self._columns)
        return [
            f"UPDATE photos SET {assignments} WHERE id = {mark} AND {compared}",  # noqa: S608 - as above
            'INSERT INTO pp_rewrite (id, photo_id, row_id, row_key, "column", before, after, batch, source, '  # noqa: S608
            "before_type, after_type, run, outcome, applied_at) VALUES "
            f"({', '.join([mark] * 7)}, 'batch-000001', 'photos', 'text', 'text', 'bench', 'applied', "
            "'2026-01-01 00:00:00.000000')",
            f"INSERT INTO pp_rewrite_photo (rewrite_id, photo_id) VALUES ({mark}, {mark})",  # noqa: S608
            "UPDATE pp_photo SET state = 'migrated', error_type = NULL, error_detail = NULL, "  # noqa: S608
            f"validated_at = NULL, updated_at = '2026-01-01 00:00:00.000000', new_value = {mark}, "
            f"recipe = '0123456789abcdef' WHERE id = {mark}",
        ]

    def _pages(self, ids: list[int]) -> Iterator[list[Change]]:
        chunk = self._fresh.config.rewrite.rows_per_transaction
        for start in range(0, len(ids), chunk):
            page = ids[start : start + chunk]
            before, after = (self._cells(scene, page) for scene in (self._fresh, self._done))
            photos = self._photos(page)
            yield [Change(n, before[n], after[n], photos[n]) for n in page]

    def _cells(self, scene: Scene, ids: list[int]) -> dict[int, tuple[Any, ...]]:
        table = scene.database.table("photos")
        query = sa.select(table.c.id, *(table.c[name] for name in self._columns))
        with scene.database.read() as connection:
            found = connection.execute(query.where(table.c.id.in_(ids)))
            return {row[0]: tuple(row[1:]) for row in found}

    def _photos(self, ids: list[int]) -> dict[int, tuple[Any, ...]]:
        # In the order in which `_fill` wrote them, so that their ids follow from those of their rows.
        columns = photo_table.c
        query = sa.select(columns.id, columns.row_id, columns.row_key)
        with self._fresh.database.read() as connection:
            found = connection.execute(query.where(columns.id.in_([n + 1 for n in ids])))
            return {row[0] - 1: tuple(row) for row in found}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def measure(
    backend: str, *, rows: int, shape: str, chunk: int, rivals: bool, server: PostgresServer | None
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pp-bench-") as folder:

        def scene(name: str) -> Scene:
            home = Path(folder) / name
            home.mkdir()
            (home / "app.db").touch()
            url = f"sqlite:///{home / 'app.db'}" if server is None else server.new_database()
            return build(url, home, rows=rows, shape=shape, chunk=chunk)

        ours = scene("ours")
        fresh = {name: scene(name) for name in (("bare", "by_hand") if rivals else ())}
        gc.collect()
        before = _resident_mb()
        for each in (ours, *fresh.values()):
            assign(each)
        taken = dict.fromkeys(("ours", *fresh), 0.0)
        bare, by_hand = (Rival(fresh[name], ours, shape) if rivals else None for name in ("bare", "by_hand"))
        # Batch by batch in turn, so that whatever else the machine does meets all of them alike.
        for batch in batches(ours):
            seconds, ids = rewrite_batch(ours, batch)
            taken["ours"] += seconds
            if bare is not None and by_hand is not None:
                taken["bare"] += bare.bare_update(ids)
                taken["by_hand"] += by_hand.by_hand(ids)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with ours.database.read() as connection:
            verdict = verify_ledger(connection)
        for each in (ours, *fresh.values()):
            each.database.close()
    if not verdict.holds or verdict.unaudited:
        raise SystemExit(f"the ledger does not hold: {verdict}")
    result = {
        "backend": backend,
        "shape": shape,
        "rows": rows,
        "rows_per_transaction": chunk,
        "rewrites_per_second": round(rows / taken["ours"]),
    }
    if rivals:
        return result | {
            "bare_updates_per_second": round(rows / taken["bare"]),
            "by_hand_per_second": round(rows / taken["by_hand"]),
            "ratio_to_bare_update": round(taken["bare"] / taken["ours"], 3),
            "ratio_to_by_hand": round(taken["by_hand"] / taken["ours"], 3),
            "ratio_of_by_hand_to_bare_update": round(taken["bare"] / taken["by_hand"], 3),
        }
    return result | {"memory_before_mb": round(before, 1), "memory_peak_mb": round(peak, 1)}


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
    parser.add_argument("--shapes", nargs="+", default=list(_SHAPES), choices=list(_SHAPES))
    parser.add_argument("--backends", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--chunk", type=int, nargs="+", default=[100, 1_000], help="rows per transaction")
    parser.add_argument("--repeat", type=int, default=3, help="of the smallest size; the median counts")
    parser.add_argument("--alone", action="store_true", help="without the rivals, for memory and speed alone")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    results = []
    for backend, shape, chunk, rows in itertools.product(
        options.backends, options.shapes, options.chunk, options.rows
    ):
        repeat = options.repeat if rows == min(options.rows) else 1
        case = {"rows": rows, "shape": shape, "chunk": chunk, "rivals": not options.alone}
        runs = [in_a_process_of_its_own(backend, options, **case) for _ in range(repeat)]
        figure = "rewrites_per_second" if options.alone else "ratio_to_by_hand"
        rates = [run[figure] for run in runs]
        chosen = runs[rates.index(statistics.median_low(rates))]
        results.append(chosen | {"runs": repeat, "load_average": round(os.getloadavg()[0], 1)})
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
