"""Photos in worker processes: a hang, a crash or a bomb costs that one photo.

Only paths cross the process border (a 4-MB bytes argument costs 2.5 ms, a path 0.28 ms). What is made of
a photo is decided in `variants.py`.
"""

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from multiprocessing.connection import wait as wait_for_pipe
from pathlib import Path
from types import TracebackType
from typing import Self

import pillow_avif
from pebble import ProcessExpired, ProcessPool

from photo_pipeline.core.errors import (
    ConfigurationError,
    InfrastructureError,
    PhotoError,
    PhotoMemoryError,
    PhotoPipelineError,
    PhotoTimeoutError,
    WorkerCrashError,
)
from photo_pipeline.core.imaging.recipe import ImageFormat, Recipe, VariantSpec
from photo_pipeline.core.imaging.variants import MadePhoto, make_variants

MIB = 1024 * 1024

# Enough that no worker waits for the consumer, few enough that a million tasks stay an iterator.
IN_FLIGHT_PER_WORKER = 4

# Heaps fragment: a fresh process every so often keeps the growth limit about the photo, not about the
# worker's past. A forked worker costs some 15 ms.
PHOTOS_PER_WORKER = 200

_M_ARENA_MAX = -8  # mallopt(3)


@dataclass(frozen=True)
class PhotoTask:
    """One photo to process.

    Attributes:
        id: The caller's name of the photo, handed back with the result.
        source: The photo.
        recipe: What to make of it.
        wanted: The variants to make, a subset of the recipe's.
        staging: Where to write each of them, by variant name and format.
    """

    id: str
    source: Path
    recipe: Recipe
    wanted: tuple[tuple[VariantSpec, ImageFormat], ...]
    staging: Mapping[tuple[str, ImageFormat], Path] = field(hash=False)


def make_variants_task(task: PhotoTask) -> MadePhoto:
    """Makes a task's variants in this process; see `make_variants`."""
    return make_variants(
        task.source, task.recipe, task.wanted, lambda variant, format: task.staging[variant, format]
    )


class ImageWorkers:
    """A pool of worker processes that make variants, as a context manager.

    Workers are forked from a fork server: a fork of the caller itself would copy the locks of Dagster's
    gRPC threads, and a spawned worker would import Pillow (and the caller's `__main__`) anew after each
    crash. The server imports both once and has no threads.
    """

    def __init__(
        self,
        workers: int,
        timeout_s: float = 30,
        memory_bytes: int = 512 * MIB,
        *,
        work: Callable[[PhotoTask], MadePhoto] = make_variants_task,
    ) -> None:
        """Takes the limits; processes start with the first task.

        Args:
            workers: Number of processes, one thread each.
            timeout_s: Seconds that a photo may take before its worker is killed.
            memory_bytes: Address space that a worker may grow by above its size at its start (Linux).
            work: What is done with a task in the worker; an importable function.

        Raises:
            ConfigurationError: A limit is not positive.
        """
        if workers < 1 or timeout_s <= 0 or memory_bytes < 1:
            cause = f"workers={workers}, timeout_s={timeout_s}, memory_bytes={memory_bytes}"
            raise ConfigurationError("image workers", cause=cause, fix="All three must be positive")
        self.workers = workers
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes
        self._run = partial(_outcome_of, work)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", __name__])
        self._pool = ProcessPool(
            max_workers=workers,
            max_tasks=PHOTOS_PER_WORKER,
            initializer=_limit_worker,
            initargs=(memory_bytes,),
            context=context,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever leaves has his results or does not want them: running photos are not waited for.
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def process(self, tasks: Iterable[PhotoTask]) -> Iterator[tuple[PhotoTask, MadePhoto | PhotoError]]:
        """Processes photos side by side.

        Args:
            tasks: Any number of tasks; they are drawn as workers become free, at most
                IN_FLIGHT_PER_WORKER x `workers` ahead.

        Yields:
            Each task once with what was made, or with the error that its photo is quarantined for, in
            order of completion.

        Raises:
            PhotoPipelineError: Something that is not the photo's fault, such as a full disk
                (InfrastructureError) or a broken pool; tasks not yet yielded are dropped.
        """
        queue = iter(tasks)
        pending: dict[Future[MadePhoto | PhotoError], PhotoTask] = {}
        try:
            self._submit(pending, islice(queue, self.workers * IN_FLIGHT_PER_WORKER))
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    task = pending.pop(future)
                    # Refilled before the caller has the result, so that workers do not wait for him.
                    self._submit(pending, islice(queue, 1))
                    yield task, self._result(future, task)
        finally:
            for future in pending:
                future.cancel()

    def _submit(
        self, pending: dict[Future[MadePhoto | PhotoError], PhotoTask], tasks: Iterable[PhotoTask]
    ) -> None:
        for task in tasks:
            future = self._pool.schedule(self._run, args=(task,), timeout=self.timeout_s)
            pending[future] = task

    def _result(self, future: Future[MadePhoto | PhotoError], task: PhotoTask) -> MadePhoto | PhotoError:
        try:
            return future.result()
        except TimeoutError:
            cause = f"it took longer than {self.timeout_s:g} s and its worker was killed"
            fix = "Raise workers.timeout_s, or replace the photo"
            return PhotoTimeoutError(task.source.name, cause=cause, fix=fix)
        except ProcessExpired as error:
            return WorkerCrashError(task.source.name, cause=_death(error.exitcode), fix="Replace the photo")
        except BrokenProcessPool as error:
            fix = "Run again; if it recurs, report the log"
            raise InfrastructureError("image workers", cause=f"the pool broke ({error})", fix=fix) from error


def _outcome_of(work: Callable[[PhotoTask], MadePhoto], task: PhotoTask) -> MadePhoto | PhotoError:
    """Runs in the worker.

    Photo errors go home as values: an exception that does not unpickle would break the whole pool.
    """
    try:
        return work(task)
    except PhotoError as error:
        return error
    except PhotoPipelineError:
        raise
    except MemoryError:
        cause = "it needs more memory than is allowed per photo"
        return PhotoMemoryError(task.source.name, cause=cause, fix="Raise workers.memory_bytes")
    except Exception as error:  # noqa: BLE001 - the border: whatever a decoder raises costs one photo
        cause = f"{type(error).__name__}: {str(error).rstrip('.')}"
        return PhotoError(task.source.name, cause=cause, fix="Report this with the photo, or replace it")


def _death(exit_code: int) -> str:
    if exit_code >= 0:
        return f"its worker ended by itself with code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = " (the kernel's out-of-memory killer does that)" if name == "SIGKILL" else ""
    return f"its worker was ended by {name}{hint}"


def _limit_worker(memory_bytes: int) -> None:
    """Runs first in each worker."""
    # Not PR_SET_PDEATHSIG: a worker's parent is the fork server, which lives as long as any worker does.
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # One photo per core already; dav1d would start a thread per core in each worker.
    pillow_avif.AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if sys.platform == "linux":
        # Each thread would reserve an arena of 64 MiB, which counts as address space.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _die_with_parent() -> None:
    """Blocks on a pipe that the kernel closes when the parent dies, however it dies; no polling."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_pipe([parent.sentinel])
        os._exit(1)
