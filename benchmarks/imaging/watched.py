"""A pool's work that leaves what it cost behind. A module of its own: workers import it by name."""

import json
import time
from pathlib import Path

from photo_pipeline.core.imaging.pool import PhotoTask, make_variants_task
from photo_pipeline.core.imaging.variants import MadePhoto

COST_FILE = "cost.json"


def watched_task(task: PhotoTask) -> MadePhoto:
    """Makes the variants, then writes the worker's peak memory and CPU time beside them, error or not."""
    try:
        return make_variants_task(task)
    finally:
        cost = {"peak_bytes": _peak_bytes(), "cpu_s": time.process_time()}
        folder = next(iter(task.staging.values())).parent
        (folder / COST_FILE).write_text(json.dumps(cost), encoding="utf-8")


def _peak_bytes() -> int:
    """Peak resident bytes. Not ru_maxrss, which a forked worker inherits from the fork server."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
