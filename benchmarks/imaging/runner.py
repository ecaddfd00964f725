"""Starts a contender as a process of its own and measures it: CPU and wall seconds, files made.

CPU seconds are those of the whole process and of all its children, start-up included, as the kernel
accounts them: the same for an interpreter, for node and for a shell-out.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.imaging.recipes import DEFAULT, FULL, RECIPES

ROOT = Path(__file__).parents[2]

Scope = Literal["rounds", "once", "subset"]

# sharp's and numpy's pools, libvips', OpenMP's (ImageMagick): one thread each in the pinned runs.
_ONE_THREAD = dict.fromkeys(
    (
        "UV_THREADPOOL_SIZE",
        "VIPS_CONCURRENCY",
        "OMP_NUM_THREADS",
        "MAGICK_THREAD_LIMIT",
        "OPENBLAS_NUM_THREADS",
    ),
    "1",
)


class ContenderError(Exception):
    """A contender's process failed as a whole; the message has the end of what it printed."""


@dataclass(frozen=True)
class Photo:
    """A photo of the corpus.

    Attributes:
        id: Its number, which names its files.
        path: Where it is.
    """

    id: str
    path: Path


@dataclass(frozen=True)
class MadeFile:
    """A file that a contender made.

    Attributes:
        photo: The photo's id.
        variant: The variant's name.
        format: "avif", "webp", "jpeg", or "ppm" for pixels before any encoder.
        path: Where it is.
        bytes: Its size.
        width: In pixels.
        height: In pixels.
        quality: The encoder's quality.
        encodes: How many encodes it took to find.
        limit_bytes: What its search had to stay below; only known of ours.
    """

    photo: str
    variant: str
    format: str
    path: str
    bytes: int
    width: int
    height: int
    quality: int
    encodes: int
    limit_bytes: int | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Which file it is, for comparing contenders."""
        return self.photo, self.variant, self.format


@dataclass(frozen=True)
class Contender:
    """A program that makes the variants.

    Attributes:
        name: Its name in the table and in `--only`.
        command: Its program; the job's path is appended.
        settings: What its jobs say besides photos and recipe.
        note: How it was set up, one clause, for the printed list.
        scope: "rounds" takes part in each round, "once" in the first, "subset" once on a few photos.
    """

    name: str
    command: tuple[str, ...]
    settings: Mapping[str, Any]
    note: str
    scope: Scope


@dataclass(frozen=True)
class Run:
    """What one run of a contender came to.

    Attributes:
        cpu_s: User and system seconds of the process and its children.
        wall_s: Seconds from start to end.
        files: What it made.
        photos: Whatever it measured of each photo, by id.
        errors: Photos that it could not process, with its reason.
        versions: Its libraries.
    """

    cpu_s: float
    wall_s: float
    files: tuple[MadeFile, ...]
    photos: Mapping[str, Mapping[str, Any]]
    errors: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=dict)

    def full(self, format: str) -> list[MadeFile]:
        """The full-size files of a format; those have a byte target."""
        return [file for file in self.files if file.variant == FULL.name and file.format == format]

    def photo_cpu_s(self, photos: Iterable[str]) -> float:
        """CPU seconds of some photos, the process's start and end not included."""
        return sum(float(self.photos[photo]["cpu_s"]) for photo in photos)


def joined(parts: Sequence[Run]) -> Run:
    """Returns one contender's runs over parts of the photos as one run, with one start-up instead of each."""
    photos = {photo: measured for part in parts for photo, measured in part.photos.items()}
    start_up_s = statistics.median(part.cpu_s - part.photo_cpu_s(part.photos) for part in parts)
    return Run(
        cpu_s=start_up_s + sum(part.photo_cpu_s(part.photos) for part in parts),
        wall_s=sum(part.wall_s for part in parts),
        files=tuple(file for part in parts for file in part.files),
        photos=photos,
        errors={photo: reason for part in parts for photo, reason in part.errors.items()},
        versions=parts[0].versions,
    )


def run(
    contender: Contender,
    action: str,
    photos: Sequence[Photo],
    folder: Path,
    *,
    pinned: bool,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """Runs a contender once over all photos.

    Args:
        contender: The contender.
        action: What its program should do ("make", "probe", ...).
        photos: The photos.
        folder: Where its files go; files of an earlier run are overwritten.
        pinned: One thread on one core; else as the settings say.
        settings: Added to the contender's own.

    Raises:
        ContenderError: Its process failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job_path, result_path = folder / "job.json", folder / "result.json"
    result_path.unlink(missing_ok=True)
    serial = {"parallel": 1, "concurrency": 1} if pinned else {}
    job = {
        "action": action,
        "photos": [{"id": photo.id, "path": str(photo.path)} for photo in photos],
        "folder": str(folder),
        "result": str(result_path),
        "recipe": asdict(RECIPES[DEFAULT]),
        "settings": {**contender.settings, **serial, **(settings or {})},
    }
    job_path.write_text(json.dumps(job), encoding="utf-8")
    cpu_s, wall_s = _measured([*contender.command, str(job_path)], folder / "output.txt", pinned=pinned)
    if not result_path.exists():
        end = (folder / "output.txt").read_text(encoding="utf-8", errors="replace").strip()[-500:]
        raise ContenderError(f"{contender.name} failed at {action!r}: {end or 'it printed nothing'}")
    result = json.loads(result_path.read_text(encoding="utf-8"))
    names = MadeFile.__dataclass_fields__
    files = tuple(MadeFile(**{k: v for k, v in row.items() if k in names}) for row in result.pop("files"))
    return Run(cpu_s=cpu_s, wall_s=wall_s, files=files, **result)


def _measured(command: Sequence[str], output: Path, *, pinned: bool) -> tuple[float, float]:
    """CPU and wall seconds of a process and of the children that it waited for."""
    environment = os.environ | (_ONE_THREAD if pinned else {})
    core = max(os.sched_getaffinity(0))
    started = time.perf_counter()
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
            preexec_fn=(lambda: os.sched_setaffinity(0, {core})) if pinned else None,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - started
