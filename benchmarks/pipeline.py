"""Where the demo's path spends its time: `make bench`.

Runs the jobs of the demo (inventory, migrate per batch) through Dagster on the made photos, on SQLite and
the embedded S3 server, and splits the wall time by what was busy. Prints a table and writes
`benchmarks/results/pipeline.json`. Figures are ratios of one run: they say where time goes, not how fast
this machine is.

The named limit: the images' own decode, resize and encode seconds divided by the number of cores. A
pipeline that did nothing else, with perfect parallelism, would take that long.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import sqlalchemy as sa
from sqlalchemy import event

from photo_pipeline.assets import (
    checksum_catalog,
    db_url_rewrites,
    local_inventory,
    processed_variants,
    s3_objects,
    validation_report,
)
from photo_pipeline.core.config import CONFIG_ENV
from photo_pipeline.core.migration.state import batch_statuses
from photo_pipeline.core.project import Project
from photo_pipeline.definitions import defs
from photo_pipeline.demo.site import prepare, stop_servers

RESULTS = Path(__file__).parent / "results" / "pipeline.json"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

# The core call of each asset, and the name of its step in the result.
_STEPS = (
    (local_inventory, "take_inventory", "inventory"),
    (checksum_catalog, "hash_matched_files", "hash"),
    (checksum_catalog, "assign_batches", "batches"),
    (processed_variants, "process_batch", "variants"),
    (s3_objects, "upload_batch", "upload"),
    (db_url_rewrites, "rewrite_batch", "rewrite"),
    (validation_report, "validate_batch", "validation"),
)


class Stopwatch:
    """Adds up seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.image_seconds: dict[str, float] = defaultdict(float)
        self.photos = 0

    def timing(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, timed under `name`; keeps what the image workers report."""

        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                result = function(*arguments, **options)
            finally:
                self.seconds[name] += time.perf_counter() - started
            if name == "variants":
                self.photos += result.photos
                for stage, seconds in result.seconds.items():
                    self.image_seconds[stage] += seconds
            return result

        return timed


@contextmanager
def timed_database(watch: Stopwatch) -> Iterator[None]:
    """Count the time that statements and commits take, on every engine made meanwhile."""
    started: dict[int, float] = {}

    def before(connection: Any, *_: Any) -> None:
        started[id(connection)] = time.perf_counter()

    def after(connection: Any, *_: Any) -> None:
        watch.seconds["database"] += time.perf_counter() - started.pop(id(connection), time.perf_counter())

    event.listen(sa.Engine, "before_cursor_execute", before)
    event.listen(sa.Engine, "after_cursor_execute", after)
    try:
        yield
    finally:
        event.remove(sa.Engine, "before_cursor_execute", before)
        event.remove(sa.Engine, "after_cursor_execute", after)


def run(home: Path, photos: Path | None) -> dict[str, Any]:
    """Run the demo's path once in `home`; return the figures."""
    site = prepare(home, photos=photos, idle_stop_s=600)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    os.environ |= {CONFIG_ENV: str(site.config), "DAGSTER_HOME": str(home)}
    watch = Stopwatch()
    patches = [
        patch.object(module, function, watch.timing(name, getattr(module, function)))
        for module, function, name in _STEPS
    ]
    for each in patches:
        each.start()
    try:
        with dg.DagsterInstance.get() as instance, timed_database(watch):
            started = time.perf_counter()
            _execute(instance)
            wall = time.perf_counter() - started
    finally:
        for each in patches:
            each.stop()
        stop_servers(home)
    return figures(watch, wall)


def _execute(instance: dg.DagsterInstance) -> None:
    defs.resolve_job_def("inventory").execute_in_process(instance=instance, run_config=_QUIET)
    with Project.load(Path(os.environ[CONFIG_ENV])) as project:
        batches = batch_statuses(project.database)
    for batch in batches:
        defs.resolve_job_def("migrate").execute_in_process(
            instance=instance, partition_key=batch.key, run_config=_QUIET
        )


def figures(watch: Stopwatch, wall: float) -> dict[str, Any]:
    """Split the wall time; the image workers' seconds are scaled to the wall time they took together."""
    cores = len(os.sched_getaffinity(0))
    steps = {name: watch.seconds[name] for _, _, name in _STEPS}
    image = dict(watch.image_seconds)
    busy = sum(image.values())
    scale = steps["variants"] / busy if busy else 0.0
    shares = {
        "decode and resize": (image.get("decode", 0) + image.get("resize", 0)) * scale,
        "encode": image.get("encode", 0) * scale,
        "hash": steps["hash"] + image.get("hash", 0) * scale,
        "write and verify variants": image.get("write", 0) * scale,
        "upload": steps["upload"],
        "inventory and batches": steps["inventory"] + steps["batches"],
        "rewrite with canary": steps["rewrite"],
        "validation": steps["validation"],
        "Dagster itself": max(0.0, wall - sum(steps.values())),
    }
    limit = (image.get("decode", 0) + image.get("resize", 0) + image.get("encode", 0)) / cores
    return {
        "photos": watch.photos,
        "cores": cores,
        "python": platform.python_version(),
        "wall_seconds": round(wall, 2),
        "photos_per_second": round(watch.photos / wall, 2),
        "share_of_wall": {name: round(seconds / wall, 4) for name, seconds in shares.items()},
        "database_share_within_all_steps": round(watch.seconds["database"] / wall, 4),
        "ratios": {
            "wall / image work on all cores": round(wall / limit, 2) if limit else None,
            "worker seconds / (variants wall x cores)": round(busy / (steps["variants"] * cores), 2),
        },
    }


def main() -> None:
    """Run, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of real photos instead of the made ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="photo-pipeline-bench-") as folder:
        result = run(Path(folder) / "demo", options.photos)
    print(f"{result['photos']} photos in {result['wall_seconds']} s: {result['photos_per_second']} photos/s")
    for name, share in result["share_of_wall"].items():
        print(f"  {name:28} {share:7.1%}")
    print(f"  (database statements, within the steps above: {result['database_share_within_all_steps']:.1%})")
    for name, ratio in result["ratios"].items():
        print(f"  ratio {name}: {ratio}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"Wrote {RESULTS}")


if __name__ == "__main__":
    main()
