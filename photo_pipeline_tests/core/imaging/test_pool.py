import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pebble
import pytest
from PIL import Image

from photo_pipeline.core.errors import (
    ConfigurationError,
    CorruptPhotoError,
    InfrastructureError,
    PhotoError,
    PhotoMemoryError,
    PhotoTimeoutError,
    PhotoTooLargeError,
    UnsupportedFormatError,
    WorkerCrashError,
)
from photo_pipeline.core.imaging.pool import IN_FLIGHT_PER_WORKER, MIB, ImageWorkers, PhotoTask
from photo_pipeline.core.imaging.recipe import ImageFormat, Recipe, VariantSpec
from photo_pipeline.core.imaging.variants import MadePhoto
from photo_pipeline.core.imaging.writing import verify_variant
from photo_pipeline_tests.core.imaging.conftest import SMALL, THUMB, everything
from photo_pipeline_tests.core.imaging.hostile_work import do_as_named

RECIPE = Recipe(variants=(SMALL, THUMB))

# What each file of the hostile corpus must come to; all others must make their variants.
REFUSED: dict[str, type[PhotoError]] = {
    "badcrc.png": CorruptPhotoError,
    "bomb144MP.png": PhotoTooLargeError,
    "bomb256MP.jpg": PhotoTooLargeError,
    "bomb400MP.png": PhotoTooLargeError,
    "empty.jpg": CorruptPhotoError,
    "svg.jpg": UnsupportedFormatError,
    "text.jpg": UnsupportedFormatError,
    "trunc50.avif": CorruptPhotoError,
    "trunc50.jpg": CorruptPhotoError,
    "trunc50.png": CorruptPhotoError,
    "trunc50.webp": CorruptPhotoError,
    "trunc_hdr.jpg": CorruptPhotoError,
    "trunc_last2.jpg": CorruptPhotoError,
}


@pytest.fixture
def good(painting: Image.Image, tmp_path: Path) -> Path:
    painting.save(tmp_path / "good.png")
    return tmp_path / "good.png"


def task_of(source: Path, folder: Path, name: str = "photo", recipe: Recipe = RECIPE) -> PhotoTask:
    staging = {(v.name, f): folder / name / f"{v.name}.{f.extension}" for v, f in everything(recipe)}
    return PhotoTask(id=name, source=source, recipe=recipe, wanted=everything(recipe), staging=staging)


def outcomes(workers: ImageWorkers, tasks: list[PhotoTask]) -> dict[str, MadePhoto | PhotoError]:
    results = [(task.id, result) for task, result in workers.process(tasks)]
    assert len(results) == len(tasks)
    return dict(results)


@pytest.mark.slow
def test_the_largest_preset_fits_into_the_default_limits(photos: Path, tmp_path: Path) -> None:
    """16 megapixels of AVIF within the 512 MB that a photo may take."""
    with Image.open(photos / "real" / "immich-app_craft-beer.jpg") as image:
        image.convert("RGB").resize((4000, 4000)).save(tmp_path / "large.jpg", quality=90)
    recipe = Recipe(variants=(VariantSpec("full", "inside", 4000, 4000, None),))
    wanted = ((recipe.variants[0], ImageFormat.AVIF),)
    staging = {("full", ImageFormat.AVIF): tmp_path / "full.avif"}
    with ImageWorkers(1, timeout_s=120) as workers:
        ((_, made),) = workers.process([PhotoTask("large", tmp_path / "large.jpg", recipe, wanted, staging)])
    assert isinstance(made, MadePhoto), made


def test_every_hostile_file_makes_valid_variants_or_names_its_reason(photos: Path, tmp_path: Path) -> None:
    files = sorted((photos / "hostile").iterdir())
    random.Random(7).shuffle(files)
    with ImageWorkers(2) as workers:
        results = outcomes(workers, [task_of(path, tmp_path, path.name) for path in files])
    refused = {name: type(result) for name, result in results.items() if isinstance(result, PhotoError)}
    assert refused == REFUSED
    for result in results.values():
        if isinstance(result, PhotoError):
            assert result.cause
            assert result.fix
        else:
            for each in result.variants:
                verify_variant(each.path, format=each.format, size=(each.width, each.height))


@pytest.mark.parametrize(
    ("deed", "kind", "cause"),
    [
        ("hang", PhotoTimeoutError, "longer than 2 s"),
        ("leave", WorkerCrashError, "code 3"),
        ("be_killed", WorkerCrashError, "SIGKILL"),
        ("touch_wild_memory", WorkerCrashError, "SIGSEGV"),
        ("allocate_2_gib", PhotoMemoryError, "memory"),
        ("raise_photo_error", CorruptPhotoError, "torn"),
        ("raise_unpicklable", PhotoError, "_UnpicklableError: nothing"),
    ],
)
def test_a_hostile_photo_costs_only_itself(
    good: Path, tmp_path: Path, deed: str, kind: type[PhotoError], cause: str
) -> None:
    names = ["one", "two", deed, "three", "four"]
    # Only the hang is for the clock to end: writing a core file may take a busy machine longer than 2 s.
    with ImageWorkers(1, timeout_s=2 if deed == "hang" else 60, work=do_as_named) as workers:
        results = outcomes(workers, [task_of(good, tmp_path, name) for name in names])
    error = results.pop(deed)
    assert type(error) is kind
    assert cause in str(error)
    assert [type(result) for result in results.values()] == [MadePhoto] * 4


def test_a_worker_that_ignores_sigterm_is_killed(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pebble.CONSTS, "term_timeout", 0.2)  # seconds from SIGTERM to SIGKILL
    tasks = [task_of(good, tmp_path, name) for name in ("ignore_sigterm_and_hang", "after")]
    with ImageWorkers(1, timeout_s=2, work=do_as_named) as workers:
        results = outcomes(workers, tasks)
    assert type(results["ignore_sigterm_and_hang"]) is PhotoTimeoutError
    assert isinstance(results["after"], MadePhoto)


def test_a_photo_that_needs_more_than_the_memory_limit_says_so(photos: Path, tmp_path: Path) -> None:
    names = ("flat81MP_prog.jpg", "1x1.png")
    with ImageWorkers(1, memory_bytes=150 * MIB) as workers:
        results = outcomes(workers, [task_of(photos / "hostile" / n, tmp_path, n) for n in names])
    assert type(results["flat81MP_prog.jpg"]) is PhotoMemoryError
    assert isinstance(results["1x1.png"], MadePhoto)


def test_a_full_disk_stops_the_run_and_blames_no_photo(good: Path, tmp_path: Path) -> None:
    tasks = [task_of(good, tmp_path, name) for name in ("find_the_disk_full", "after")]
    with (
        ImageWorkers(1, work=do_as_named) as workers,
        pytest.raises(InfrastructureError, match="no space left"),
    ):
        list(workers.process(tasks))


def test_tasks_are_drawn_only_as_workers_become_free(good: Path, tmp_path: Path) -> None:
    recipe = Recipe(variants=(THUMB,), formats=(ImageFormat.JPEG,))
    drawn = 0

    def endless() -> Iterator[PhotoTask]:
        nonlocal drawn
        while True:
            drawn += 1
            yield task_of(good, tmp_path, f"photo{drawn}", recipe)

    with ImageWorkers(2) as workers:
        results = workers.process(endless())
        for taken in range(1, 31):
            next(results)
            assert drawn <= taken + 2 * IN_FLIGHT_PER_WORKER


def test_leaving_the_pool_does_not_wait_for_a_hanging_photo(good: Path, tmp_path: Path) -> None:
    tasks = [task_of(good, tmp_path, name) for name in ("before", "hang")]
    start = perf_counter()
    with ImageWorkers(1, timeout_s=300, work=do_as_named) as workers:
        results = workers.process(tasks)
        assert isinstance(next(results)[1], MadePhoto)
    assert perf_counter() - start < 60


def test_no_tasks_give_no_results_and_one_pool_serves_several_rounds(good: Path, tmp_path: Path) -> None:
    with ImageWorkers(1) as workers:
        assert list(workers.process([])) == []
        for _ in range(2):
            ((task, result),) = workers.process([task_of(good, tmp_path)])
            assert task == task_of(good, tmp_path)
            assert isinstance(result, MadePhoto)


def test_workers_die_when_their_parent_is_killed(tmp_path: Path) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    module = "photo_pipeline_tests.core.imaging.hostile_work"
    code = f"import sys, pathlib, {module} as m; m.run_a_worker_that_tells_its_pid(pathlib.Path(sys.argv[1]))"
    parent = subprocess.Popen([sys.executable, "-c", code, str(fifo)])
    with fifo.open("rb", buffering=0) as pipe:
        worker = int(pipe.read(100))
        assert worker != parent.pid
        os.kill(worker, 0)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        # The worker holds the only other end: the pipe becomes readable (end of file) when it is dead.
        readable, _, _ = select.select([pipe], [], [], 20)
        assert readable
        assert pipe.read(100) == b""


@pytest.mark.parametrize(
    "limits", [{"workers": 0}, {"workers": 1, "timeout_s": 0}, {"workers": 1, "memory_bytes": 0}]
)
def test_limits_that_limit_everything_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        ImageWorkers(**limits)
