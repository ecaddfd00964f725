"""The parts of the benchmark in their order: install, choose photos, time, limits, quality.

What a part's runs mean is computed in `figures.py`; options and printing are in `__main__.py`.
"""

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from benchmarks.imaging import corpus, figures, limits, metric, rivals
from benchmarks.imaging.figures import Figure, Quality
from benchmarks.imaging.rivals import MissingRivalError
from benchmarks.imaging.runner import Contender, MadeFile, Photo, Run, joined, run

# sharp's threads within one picture, while as many pictures as there are cores are in work.
_SHARP_THREADS = ("one", "all")

# What the machine's own services take.
_IDLE_CORES = 0.15
# Start-up is a tenth of so many photos' time; it is counted once a round.
_PHOTOS_A_TURN = 6

_HOSTILE_81_MP = "flat81MP_prog.jpg"

Found = TypeVar("Found")


@dataclass
class Bench:
    """One run of the benchmark: what is compared, and what has been found so far."""

    options: argparse.Namespace
    work: Path
    photos: list[Photo] = field(default_factory=list)
    contenders: dict[str, Contender] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    load_before_wall: float | None = None

    @property
    def subset(self) -> list[Photo]:
        """The photos for contenders that take 10 s and more for each."""
        return self.photos[: self.options.subset]

    @property
    def cores(self) -> int:
        """How many cores this process may use."""
        return len(os.sched_getaffinity(0))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Times a part of the benchmark and says that it runs."""
        print(f"- {name} ...", flush=True)
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started
        print(f"  {self.seconds[name]:.0f} s", flush=True)

    def available(self, name: str, get: Callable[[], Found]) -> Found | None:
        """What `get` finds, or None after noting why it is not there."""
        try:
            return get()
        except MissingRivalError as error:
            self.missing[name] = str(error)
            print(f"  {name}: left out, {error}", flush=True)
            return None


@dataclass(frozen=True)
class Results:
    """What all parts have found.

    Attributes:
        cpu: The pinned runs: by contender, one per round that it took part in.
        wall: The runs on all cores.
        figures: The table.
        qualities: Each contender's points by format.
        hostile: What came of each hostile file.
    """

    cpu: dict[str, list[Run]]
    wall: dict[str, list[Run]]
    figures: Sequence[Figure]
    qualities: Sequence[Quality]
    hostile: Sequence[limits.Watched]


def install(bench: Bench) -> None:
    """Gets the contenders that were asked for."""
    cache = bench.options.cache
    found = [*rivals.ours(), rivals.oracle()]
    found += bench.available("sharp", lambda: rivals.sharp(cache)) or []
    found += filter(None, [bench.available("pyvips", lambda: rivals.pyvips(cache))])
    found += filter(None, [bench.available("ImageMagick", rivals.magick)])
    only = bench.options.only
    for contender in found:
        # Without ours there is nothing to compare with.
        if only is None or contender.name in (rivals.OURS, *only):
            bench.contenders[contender.name] = contender
            print(f"  {contender.name}: {contender.note}")


def choose_photos(bench: Bench) -> None:
    """Leaves out what not all can read, then takes the first of the shuffled rest."""
    photos, bench.left_out = corpus.photos_in(bench.options.photos)
    readable, unread = corpus.readable(photos, bench.contenders.values(), bench.work)
    bench.left_out |= unread
    bench.photos = readable[: bench.options.limit]
    print(f"  {len(bench.photos)} photos, {len(bench.subset)} of them for the slowest contenders")
    for name, reason in bench.left_out.items():
        print(f"  {name}: left out, {reason}")


def timed_on_one_core(bench: Bench) -> dict[str, list[Run]]:
    """The pinned rounds, in an order that moves on by one each turn."""
    ours = bench.contenders[rivals.OURS]
    # Untimed: it warms the file cache for all, and tells the oracle what we will choose.
    first = run(ours, "make", bench.photos, bench.work / ours.name, pinned=True)
    choices = [asdict(file) for file in first.files]
    settings = {rivals.ORACLE: {"choices": choices}}
    runs: dict[str, list[Run]] = defaultdict(list)
    for number in range(bench.options.rounds):
        for name, done in _in_turns(bench, number, settings).items():
            runs[name].append(done)
            _say_cpu(number, name, done)
        for name, contender in bench.contenders.items():
            if contender.scope != "rounds" and not number:
                photos = bench.subset if contender.scope == "subset" else bench.photos
                runs[name].append(run(contender, "make", photos, bench.work / name, pinned=True))
                _say_cpu(number, name, runs[name][0])
    return runs


def _in_turns(bench: Bench, number: int, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Run]:
    """One round of the contenders that take part in all: a few photos each, then the next contender.

    A round takes a quarter of an hour, and a virtual machine's core is 30 % slower in some minutes than in
    others: what a ratio compares has to run in the same minute.
    """
    names = [name for name, each in bench.contenders.items() if each.scope == "rounds"]
    parts: dict[str, list[Run]] = {name: [] for name in names}
    for start in range(0, len(bench.photos), _PHOTOS_A_TURN):
        photos = bench.photos[start : start + _PHOTOS_A_TURN]
        first = (number + start // _PHOTOS_A_TURN) % len(names)
        for name in (*names[first:], *names[:first]):
            action = "oracle" if name == rivals.ORACLE else "make"
            done = run(
                bench.contenders[name],
                action,
                photos,
                bench.work / name,
                pinned=True,
                settings=settings.get(name),
            )
            parts[name].append(done)
    return {name: joined(found) for name, found in parts.items()}


def _say_cpu(number: int, name: str, done: Run) -> None:
    print(f"  round {number + 1} {name:18} {done.cpu_s:8.1f} s CPU, {len(done.photos)} photos", flush=True)


def _load_of_others(*, patience_s: float) -> float:
    """Wait until nothing else computes, at most so long; return the load of the last 10 s in cores.

    Wall time on a busy machine compares how the contenders fare against that work, not with each other.
    """
    deadline = time.monotonic() + patience_s
    while True:
        busy = psutil.cpu_percent(interval=10) / 100 * (psutil.cpu_count() or 1)
        if busy < _IDLE_CORES or time.monotonic() > deadline:
            return busy


def timed_on_all_cores(bench: Bench) -> dict[str, list[Run]]:
    """Our pool with a worker per core, and sharp's decode-once with its own parallelism."""
    if rivals.SECANT not in bench.contenders:
        return {}
    entries: dict[str, tuple[Contender, str, dict[str, Any]]] = {
        rivals.OURS: (bench.contenders[rivals.OURS], "pool", {"parallel": bench.cores})
    }
    for threads in _SHARP_THREADS:
        settings = {"parallel": bench.cores, "concurrency": 1 if threads == "one" else bench.cores}
        entries[f"{rivals.SECANT}, {threads}"] = (bench.contenders[rivals.SECANT], "make", settings)
    runs: dict[str, list[Run]] = defaultdict(list)
    for number in range(bench.options.rounds):
        names = list(entries)
        for name in (*names[number % len(names) :], *names[: number % len(names)]):
            contender, action, settings = entries[name]
            folder = bench.work / "wall" / contender.name
            done = run(contender, action, bench.photos, folder, pinned=False, settings=settings)
            runs[name].append(done)
            print(f"  round {number + 1} {name:18} {done.wall_s:8.1f} s wall", flush=True)
    return runs


def memory(bench: Bench) -> list[Figure]:
    """Two large photos, each in a fresh worker."""
    everything, _ = corpus.photos_in(bench.options.photos)
    cases = [("24 MP", corpus.photo_of_24_mp(everything, bench.options.cache), "≤ 200")]
    flat = bench.options.hostile / _HOSTILE_81_MP
    if flat.exists():
        cases.append(("81 MP progressive", flat, "≤ 350"))
    ours = bench.contenders[rivals.OURS]
    seen = limits.watch(ours, [path for _, path, _ in cases], bench.work / "memory")
    return figures.memory_figures(
        (label, watched, target) for (label, _, target), watched in zip(cases, seen, strict=True)
    )


def hostile(bench: Bench) -> list[limits.Watched]:
    """The hostile corpus through our pool."""
    folder = bench.options.hostile
    if not folder.is_dir():
        print(f"  there is no {folder}; its figures are left out")
        return []
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return limits.watch(bench.contenders[rivals.OURS], files, bench.work / "hostile")


def metadata(bench: Bench, ours: Run) -> list[Figure]:
    """All of our files through exiftool, and their sources, in which it must find something."""
    modules = rivals.npm_installed(rivals.EXIFTOOL, bench.options.cache)
    files = [Path(file.path) for file in ours.files]
    tags = limits.metadata_tags(files, modules, bench.work)
    sources = limits.metadata_tags([photo.path for photo in bench.photos], modules, bench.work)
    return figures.metadata_figures(tags, len(files), sum(map(len, sources.values())))


def quality(bench: Bench, runs: dict[str, list[Run]]) -> tuple[list[Quality], list[Figure]]:
    """Points of all files that are compared, and of the resized pixels before any encoder."""
    sources = {photo.id: photo.path for photo in bench.photos}
    resized = _resized(bench)
    judged = {name: _judged(bench, name, runs[name][0]) for name in runs if name != rivals.ORACLE}
    pairs = {
        file: metric.Judged(sources[file.photo], Path(file.path))
        for files in (*judged.values(), *(done.files for done in resized.values()))
        for file in files
        if metric.can_judge(file.width, file.height)
    }
    found = metric.scores(pairs.values(), bench.options.cache / "ssimulacra2.json")
    points = {file: found[pair] for file, pair in pairs.items()}
    qualities = [
        figures.quality_of(name, chosen, points)
        for name, files in judged.items()
        for format in figures.FORMATS
        if (chosen := [file for file in files if file.format == format and file in points])
    ]
    losses = {name: [points[file] for file in done.files if file in points] for name, done in resized.items()}
    return qualities, figures.resize_figures({name: found for name, found in losses.items() if found})


def _judged(bench: Bench, name: str, done: Run) -> list[MadeFile]:
    """Ours and the rival that targets name on all photos; the others on the subset, for the time it takes."""
    few = {photo.id for photo in bench.subset}
    if name == rivals.SECANT_PLAIN:
        return done.full("jpeg")  # its other files are the ones of the secant
    everything = name.startswith(rivals.OURS) or name == rivals.SECANT
    files = [file for format in figures.FORMATS for file in done.full(format)]
    return [file for file in files if everything or file.photo in few]


def _resized(bench: Bench) -> dict[str, Run]:
    names = [name for name in (rivals.OURS, rivals.SECANT) if name in bench.contenders]
    return {
        name: run(
            bench.contenders[name], "buffers", bench.photos, bench.work / "buffers" / name, pinned=False
        )
        for name in names
    }


def measure(bench: Bench) -> Results:
    """All parts in order; quality last, so that it disturbs no timing."""
    with bench.part("install the rivals"):
        install(bench)
    with bench.part("choose the photos"):
        choose_photos(bench)
    if not bench.photos:
        raise SystemExit(f"bench-imaging: no photo in {bench.options.photos} that all contenders can read")
    with bench.part("CPU, one pinned core"):
        cpu = timed_on_one_core(bench)
    bench.load_before_wall = _load_of_others(patience_s=bench.options.patience * 60)
    with bench.part("wall, all cores"):
        wall = timed_on_all_cores(bench)
    ours = cpu[rivals.OURS]
    found = [*figures.cpu_figures(cpu), *figures.wall_figures(wall), *figures.search_figures(ours[0])]
    found += figures.photo_figures(ours, bench.photos)
    with bench.part("memory, hostile files, metadata"):
        found += memory(bench)
        watched = hostile(bench)
        found += figures.hostile_figures(watched) if watched else []
        found += bench.available("exiftool", lambda: metadata(bench, ours[0])) or []
    qualities: list[Quality] = []
    if not bench.options.skip_quality:
        with bench.part("quality"):
            qualities, resized = quality(bench, cpu)
        found += [*figures.quality_figures(qualities), *resized]
    return Results(cpu, wall, found, qualities, watched)
