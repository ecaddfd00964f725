"""What a photo can do to the worker that decodes it; runs in worker processes, chosen by the task's id."""

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from photo_pipeline.core.errors import CorruptPhotoError, InfrastructureError
from photo_pipeline.core.imaging.pool import PhotoTask, make_variants_task
from photo_pipeline.core.imaging.quality import QualityTask
from photo_pipeline.core.imaging.variants import MadePhoto


class _UnpicklableError(Exception):
    def __init__(self, *, needed: str) -> None:
        super().__init__(needed)


def hang(task: PhotoTask) -> None:
    threading.Event().wait()


def ignore_sigterm_and_hang(task: PhotoTask) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Event().wait()


def leave(task: PhotoTask) -> None:
    os._exit(3)


def be_killed(task: PhotoTask) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def touch_wild_memory(task: PhotoTask) -> None:
    ctypes.string_at(0)


def allocate_2_gib(task: PhotoTask) -> None:
    bytearray(2 * 1024**3)


def raise_photo_error(task: PhotoTask) -> None:
    raise CorruptPhotoError("a.jpg", cause="it is torn", fix="Glue it")


def raise_unpicklable(task: PhotoTask) -> None:
    raise _UnpicklableError(needed="nothing")


def find_the_disk_full(task: PhotoTask) -> None:
    raise InfrastructureError("folder /staging", cause="no space left on device", fix="Free some")


def tell_pid_and_hang(task: PhotoTask) -> None:
    """The pipe stays open until this process dies, which is how the test learns of it."""
    pipe = Path(task.source).open("w")  # noqa: SIM115 - held open on purpose
    pipe.write(f"{os.getpid()}\n")
    pipe.flush()
    threading.Event().wait()


_ACTIONS: dict[str, Callable[[PhotoTask], None]] = {
    action.__name__: action
    for action in (
        hang,
        ignore_sigterm_and_hang,
        leave,
        be_killed,
        touch_wild_memory,
        allocate_2_gib,
        raise_photo_error,
        raise_unpicklable,
        find_the_disk_full,
        tell_pid_and_hang,
    )
}


def do_as_named(task: PhotoTask) -> MadePhoto:
    action = _ACTIONS.get(task.id)
    if action is not None:
        action(task)
    return make_variants_task(task)


def run_a_worker_that_tells_its_pid(pipe: Path) -> None:
    """The main function of the process that a test kills."""
    from photo_pipeline.core.imaging.pool import ImageWorkers
    from photo_pipeline.core.imaging.recipe import ImageFormat, Recipe, VariantSpec

    spec = VariantSpec(name="thumb", fit="cover", width=10, height=10, max_bytes=None)
    recipe = Recipe(variants=(spec,), formats=(ImageFormat.JPEG,))
    task = PhotoTask(id="tell_pid_and_hang", source=pipe, recipe=recipe, wanted=(), staging={})
    with ImageWorkers(1, timeout_s=600, work=do_as_named) as workers:
        list(workers.process([task]))


def be_killed_while_measuring(task: QualityTask) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang_while_measuring(task: QualityTask) -> None:
    threading.Event().wait()
