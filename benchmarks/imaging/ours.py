"""Our engine as a contender: `python -m benchmarks.imaging.ours JOB.json`, one process like each rival.

A job names one of the actions below. How it is started and measured lives in `runner.py`.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.imaging.recipes import FULL, RECIPES
from benchmarks.imaging.watched import COST_FILE, watched_task
from photo_pipeline.core.errors import PhotoError
from photo_pipeline.core.imaging.decode import decode
from photo_pipeline.core.imaging.encode import encoder
from photo_pipeline.core.imaging.header import read_header
from photo_pipeline.core.imaging.pool import ImageWorkers, PhotoTask
from photo_pipeline.core.imaging.recipe import ImageFormat, Recipe, library_versions
from photo_pipeline.core.imaging.rendering import Rendering
from photo_pipeline.core.imaging.resize import Geometry
from photo_pipeline.core.imaging.variants import (
    MAX_SHRINKS,
    SHRINK,
    MadePhoto,
    buffer_size,
    make_variants,
)

Job = dict[str, Any]
Photo = dict[str, str]
Rows = list[dict[str, Any]]


def probe(job: Job, photo: Photo) -> Rows:
    """Decodes only: which photos we can read."""
    path = Path(photo["path"])
    decode(path, read_header(path, max_pixels=_recipe(job).max_pixels), size=(32, 32))
    return []


def make(job: Job, photo: Photo) -> Rows:
    """All variants in this process, as a worker makes them."""
    task = _task(job, photo)
    made = make_variants(
        task.source, task.recipe, task.wanted, lambda name, format: task.staging[name, format]
    )
    return _rows(photo, made)


def oracle(job: Job, photo: Photo) -> Rows:
    """What cannot be avoided: decode, resize, one encode per variant at the quality that `make` chose.

    Follows `variants.py` without its search, hash, write and verification; the caller compares the bytes.
    """
    recipe, rendering = _rendered(job, photo)
    rows = []
    for choice in (choice for choice in job["settings"]["choices"] if choice["photo"] == photo["id"]):
        format = ImageFormat(choice["format"])
        pixels = rendering.pixels(_geometry(recipe, rendering, choice), format)
        data = encoder(format, recipe.effort).encode(pixels, choice["quality"])
        rows.append(choice | {"bytes": len(data), "encodes": 1})
    return rows


def buffers(job: Job, photo: Photo) -> Rows:
    """The full-size variant's pixels before any encoder, for judging decode and resize alone."""
    _, rendering = _rendered(job, photo)
    pixels = rendering.pixels(rendering.geometry(FULL), ImageFormat.JPEG)
    path = Path(job["folder"]) / f"{photo['id']}.{FULL.name}.ppm"
    pixels.save(path)
    row = {"photo": photo["id"], "variant": FULL.name, "format": "ppm", "path": str(path)}
    size = {"bytes": path.stat().st_size, "width": pixels.width, "height": pixels.height}
    return [row | size | {"quality": 100, "encodes": 0}]


def pool(job: Job) -> dict[str, Any]:
    """All photos through worker processes, as the product does it."""
    photos = {photo["id"]: photo for photo in job["photos"]}
    rows: Rows = []
    errors = {}
    with ImageWorkers(job["settings"]["parallel"]) as workers:
        for task, made in workers.process(_task(job, photo) for photo in photos.values()):
            if isinstance(made, PhotoError):
                errors[task.id] = str(made)
            else:
                rows += _rows(photos[task.id], made)
    return {"files": rows, "errors": errors, "photos": {}}


def watch(job: Job) -> dict[str, Any]:
    """Each photo in a fresh worker of the product's pool: what came of it, how fast, in how much memory."""
    seen = {}
    # The first pool of a process also starts the fork server, which no photo should pay for.
    for photo in (job["photos"][0], *job["photos"]):
        task = _task(job, photo)
        folder = Path(job["folder"]) / photo["id"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / COST_FILE).unlink(missing_ok=True)
        with ImageWorkers(1, work=watched_task) as workers:
            started = time.perf_counter()
            [(_, made)] = workers.process([task])
            seconds = time.perf_counter() - started
        seen[photo["id"]] = {
            "outcome": made.error_type if isinstance(made, PhotoError) else "made",
            "reason": str(made) if isinstance(made, PhotoError) else "",
            "wall_s": seconds,
            **_cost(folder / COST_FILE),
        }
    return {"files": [], "errors": {}, "photos": seen}


def _cost(file: Path) -> dict[str, Any]:
    """A worker that was killed has left none."""
    if not file.exists():
        return {"peak_bytes": None, "cpu_s": None}
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _recipe(job: Job) -> Recipe:
    return RECIPES[job["settings"]["recipe"]]


def _task(job: Job, photo: Photo) -> PhotoTask:
    recipe, folder = _recipe(job), Path(job["folder"])
    wanted = tuple((spec, format) for spec in recipe.variants for format in recipe.formats)
    if job["action"] == "watch":
        folder = folder / photo["id"]
    staging = {(spec.name, format): folder / f"{photo['id']}.{spec.name}.{format}" for spec, format in wanted}
    source = Path(photo["path"])
    return PhotoTask(id=photo["id"], source=source, recipe=recipe, wanted=wanted, staging=staging)


def _rows(photo: Photo, made: MadePhoto) -> Rows:
    source = Path(photo["path"]).stat().st_size
    rows = []
    for variant in made.variants:
        unscaled = (variant.width, variant.height) == (made.info.width, made.info.height)
        row = asdict(variant) | {"photo": photo["id"], "path": str(variant.path)}
        # At the source's own size a variant may not be larger than the source either.
        rows.append(
            row | {"limit_bytes": min(source, FULL.max_bytes or source) if unscaled else FULL.max_bytes}
        )
    return rows


def _rendered(job: Job, photo: Photo) -> tuple[Recipe, Rendering]:
    recipe, source = _recipe(job), Path(photo["path"])
    info = read_header(source, max_pixels=recipe.max_pixels)
    buffer = decode(source, info, size=buffer_size(recipe, info))
    return recipe, Rendering(recipe, buffer, width=info.width, height=info.height)


def _geometry(recipe: Recipe, rendering: Rendering, choice: dict[str, Any]) -> Geometry:
    spec = next(spec for spec in recipe.variants if spec.name == choice["variant"])
    plans = (rendering.geometry(spec, shrink=SHRINK**step) for step in range(MAX_SHRINKS + 1))
    return next(geometry for geometry in plans if geometry.size == (choice["width"], choice["height"]))


def _one_by_one(job: Job, action: Callable[[Job, Photo], Rows]) -> dict[str, Any]:
    result: dict[str, Any] = {"files": [], "errors": {}, "photos": {}}
    for photo in job["photos"]:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            result["files"] += action(job, photo)
        except PhotoError as error:
            result["errors"][photo["id"]] = str(error)
        seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        result["photos"][photo["id"]] = seconds
    return result


def _versions() -> Iterator[tuple[str, str]]:
    for name, version in library_versions().items():
        if version is not None:
            yield name, version


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(job["folder"]).mkdir(parents=True, exist_ok=True)
    together = {"pool": pool, "watch": watch}
    apart = {"make": make, "oracle": oracle, "buffers": buffers, "probe": probe}
    name = job["action"]
    result = together[name](job) if name in together else _one_by_one(job, apart[name])
    result["versions"] = dict(_versions())
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
