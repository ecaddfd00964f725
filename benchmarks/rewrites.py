"""Rewritten rows per second, beside a bare executemany UPDATE of the same rows in the same run.

Without store and CDN: the photos are catalogued as uploaded and proven, and what is measured is everything
that a rewrite does in the database and on the disk: a look at each file, lease, locks, compare-and-swap,
read-back, ledger, links, states, audit.

The rivals set the same columns of the same rows to the same new values (from the same old ones), as many rows
per transaction, by the driver's own executemany:
- bare: the UPDATE alone, without a comparison; no way back.
- by hand: the same writes that ours makes, as compare-and-swap, ledger and states, with nothing read, looked
  at, proven or audited, by executemany.
- set-based: the same by the fewest statements that do it, with the values as one JSON text (SQLite) or as
  arrays (PostgreSQL: one statement for everything).
The faster one of the two is what the same rows in the database cost at least.
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
from photo_pipeline.core.catalog.bulk import array
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import ScanFence
from photo_pipeline.core.catalog.rows import row_id
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import batch_table, photo_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.ledger_audit import verify_ledger
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import batch_photos
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
_RIVALS = ("bare_update", "by_hand", "set_based")
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
        """Compare and set the columns, write ledger and states by executemany; return the seconds."""
        seconds, last = 0.0, ids[0] * len(self._columns)
        for page in self._pages(ids):
            entries: list[tuple[Any, ...]] = []
            for each in page:
                photo, row, key = each.photo
                for name, before, after in zip(self._columns, each.before, each.after, strict=True):
                    last += 1
                    of = photo if name == "url" else None
                    entries.append((last, of, row, key, name, _text(before), _text(after)))
            swaps = [(*each.after, each.id, *each.before) for each in page]
            marks = [(each.after[0], each.photo[0]) for each in page]
            seconds += self._run(list(zip(self._statements(), (swaps, entries, marks), strict=True)))
        return seconds

    def set_based(self, ids: list[int]) -> float:
        """Do the same by as few statements as the database needs; return the seconds."""
        width = len(self._columns)
        statements = (_sqlite_sets if self._fresh.database.is_sqlite else _postgres_set)(self._columns)
        seconds = 0.0
        for page in self._pages(ids):
            started = time.perf_counter()
            if self._fresh.database.is_sqlite:
                rows = [[each.id, each.photo[0], *each.before, *each.after] for each in page]
                values: tuple[Any, ...] = (json.dumps(rows),)
            else:
                cells = [[each.before[i] for each in page] for i in range(width)]
                cells += [[each.after[i] for each in page] for i in range(width)]
                lists = [[each.id for each in page], [each.photo[0] for each in page], *cells]
                values = tuple(array(each) for each in lists)
            seconds += time.perf_counter() - started
            seconds += self._run([(statement, values) for statement in statements])
        return seconds

    def _run(self, statements: list[tuple[str, Any]]) -> float:
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


_COMMON = "'batch-000001', 'text', 'text', 'bench', 'applied', '2026-01-01 00:00:00.000000'"
_INTO = (
    'INSERT INTO pp_rewrite (photo_id, source, row_id, row_key, "column", before, after, batch, before_type, '
    "after_type, run, outcome, applied_at) "
)
_MARKED = (
    "UPDATE pp_photo SET state = 'migrated', error_type = NULL, error_detail = NULL, validated_at = NULL, "
    "updated_at = '2026-01-01 00:00:00.000000', recipe = '0123456789abcdef', new_value = "
)


def _sqlite_sets(columns: list[str]) -> list[str]:
    """Return the statements, each with the rows as JSON: row id, photo id, cells before, cells after."""
    cell = {
        name: (f"v.value ->> {2 + i}", f"v.value ->> {2 + len(columns) + i}")
        for i, name in enumerate(columns)
    }
    assigned = ", ".join(f"{name} = {after}" for name, (_, after) in cell.items())
    same = " AND ".join(f"{name} IS {before}" for name, (before, _) in cell.items())
    entries = " UNION ALL ".join(
        f"SELECT {'p.id' if name == 'url' else 'NULL'}, p.source, p.row_id, p.row_key, "  # noqa: S608
        f"'{name}', {before}, {after}, {_COMMON} FROM json_each(?1) v JOIN pp_photo p ON p.id = v.value ->> 1"
        for name, (before, after) in cell.items()
    )
    return [
        f"UPDATE photos SET {assigned} FROM json_each(?1) v WHERE photos.id = v.value ->> 0 AND {same}",  # noqa: S608
        _INTO + entries,
        f"{_MARKED} v.value ->> {2 + len(columns)} FROM json_each(?1) v WHERE pp_photo.id = v.value ->> 1",
    ]


def _postgres_set(columns: list[str]) -> list[str]:
    """Return one statement with the rows as arrays: row ids, photo ids, the cells before, the cells after."""
    types = [
        {"file_size": "int", "width": "int", "height": "int", "updated_at": "timestamp"}.get(n, "text")
        for n in columns
    ]
    given = ", ".join(f"CAST(%s AS {kind}[])" for kind in ["int", "bigint", *types, *types])
    names = ", ".join(
        ["k", "p", *(f"b{i}" for i in range(len(columns))), *(f"a{i}" for i in range(len(columns)))]
    )
    assigned = ", ".join(f"{name} = v.a{i}" for i, name in enumerate(columns))
    same = " AND ".join(f"photos.{name} IS NOT DISTINCT FROM v.b{i}" for i, name in enumerate(columns))
    entries = " UNION ALL ".join(
        f"SELECT {'id' if name == 'url' else 'NULL'}, source, row_id, row_key, '{name}', "  # noqa: S608
        f"CAST(b{i} AS text), CAST(a{i} AS text), {_COMMON}::timestamptz FROM marked"
        for i, name in enumerate(columns)
    )
    return [
        f"WITH v AS MATERIALIZED (SELECT * FROM unnest({given}) AS v({names})), "  # noqa: S608
        f"swapped AS (UPDATE photos SET {assigned} FROM v WHERE photos.id = v.k AND {same}), "
        f"marked AS ({_MARKED} v.a0 FROM v WHERE pp_photo.id = v.p RETURNING pp_photo.*, v.*) "
        f"{_INTO} {entries}"
    ]


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
        fresh = {name: scene(name) for name in (_RIVALS if rivals else ())}
        gc.collect()
        before = _resident_mb()
        for each in (ours, *fresh.values()):
            assign(each)
        taken = dict.fromkeys(("ours", *fresh), 0.0)
        rivals_of = {name: Rival(each, ours, shape) for name, each in fresh.items()}
        # Batch by batch in turn, so that whatever else the machine does meets all of them alike.
        for batch in batches(ours):
            seconds, ids = rewrite_batch(ours, batch)
            taken["ours"] += seconds
            for name, rival in rivals_of.items():
                taken[name] += getattr(rival, name)(ids)
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
        speeds = {f"{name}_per_second": round(rows / taken[name]) for name in _RIVALS}
        return (
            result
            | speeds
            | {
                "ratio_to_bare_update": round(taken["bare_update"] / taken["ours"], 3),
                "ratio_of_set_based_to_bare_update": round(taken["bare_update"] / taken["set_based"], 3),
                "ratio_of_by_hand_to_bare_update": round(taken["bare_update"] / taken["by_hand"], 3),
                "ratio_to_set_based": round(taken["set_based"] / taken["ours"], 3),
            }
        )
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
        figure = "rewrites_per_second" if options.alone else "ratio_to_set_based"
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
