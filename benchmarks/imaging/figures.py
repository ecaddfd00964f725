"""From runs to figures: each with its range over the rounds and the target it is held to.

Ratios over seconds: seconds say how fast this machine is, and how busy.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.imaging.limits import POOL_DIED, Watched
from benchmarks.imaging.recipes import FULL, RECIPES
from benchmarks.imaging.rivals import ORACLE, OURS, SECANT, SECANT_PLAIN, STEPPING, STEPPING_4
from benchmarks.imaging.runner import MadeFile, Photo, Run

FORMATS = ("jpeg", "webp", "avif")
MEGABYTE = 1_000_000

_ENCODES = {"jpeg": 2.2, "webp": 1.6, "avif": 1.3}
_BETTER_BY = {"jpeg": 1.0, "webp": 0.0, "avif": 0.0}
_SMALL_BYTES = 10 * MEGABYTE


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Attributes:
        name: What it says.
        value: The figure; None when it could not be taken.
        target: "≥ 6", "≤ 1.3", "< 2", "= 0", or empty for a figure that is only told.
        low: The lowest of the rounds; None without rounds.
        high: The highest of the rounds.
        note: What a reader must know to believe it.
    """

    name: str
    value: float | None
    target: str = ""
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without figure or target."""
        if self.value is None or not self.target:
            return None
        sign, bound = self.target.split()
        compare: dict[str, Callable[[float, float], bool]] = {
            "≥": lambda value, limit: value >= limit,
            "≤": lambda value, limit: value <= limit,
            "<": lambda value, limit: value < limit,
            "=": lambda value, limit: value == limit,
        }
        return compare[sign](self.value, float(bound))


Runs = Mapping[str, Sequence[Run]]


def _ratios(name: str, values: Sequence[float], target: str = "", note: str = "") -> Figure:
    if not values:
        return Figure(name, None, target, note=note or "not run")
    return Figure(name, statistics.median(values), target, min(values), max(values), note)


def cpu_figures(runs: Runs) -> list[Figure]:
    """How much longer the rivals compute, round by round, and we than the oracle and our own default."""
    ours = runs[OURS]
    targets = {STEPPING: "≥ 6", SECANT: "≥ 2.5"}
    figures = []
    # The rivals with a target have a row even when they are not here.
    for name in (name for name in dict.fromkeys((*targets, *runs)) if name not in (OURS, ORACLE)):
        found = runs.get(name, ())
        whole = bool(found) and len(found[0].photos) == len(ours[0].photos)
        note = _unlike(found[0], ours[0]) if found else ""
        pairs = zip(found, ours, strict=False)
        values = [_cpu_ratio(run, our, whole=whole) for run, our in pairs]
        figures.append(_ratios(f"CPU, {name} / ours", values, targets.get(name, ""), note))
    oracle = [our.cpu_s / run.cpu_s for run, our in zip(runs.get(ORACLE, ()), ours, strict=False)]
    return [*figures, _ratios("CPU, ours / oracle", oracle, "≤ 1.3", _oracle_note(runs))]


def _cpu_ratio(run: Run, ours: Run, *, whole: bool) -> float:
    if whole:
        return run.cpu_s / ours.cpu_s
    return run.photo_cpu_s(run.photos) / ours.photo_cpu_s(run.photos)


def _unlike(run: Run, ours: Run) -> str:
    """What a ratio of two runs does not compare."""
    notes = []
    if len(run.photos) < len(ours.photos):
        notes.append(f"on {len(run.photos)} of the photos, without start-up")
    formats = [format for format in FORMATS if run.full(format)]
    if len(formats) < len(FORMATS):
        notes.append(f"its {' and '.join(formats)} only, against all of ours")
    return "; ".join(notes)


def _oracle_note(runs: Runs) -> str:
    """An oracle that encodes other bytes than ours has fallen behind `variants.py`."""
    if ORACLE not in runs:
        return "not run"
    ours = {file.key: file.bytes for file in runs[OURS][0].files}
    other = sum(ours[file.key] != file.bytes for file in runs[ORACLE][0].files)
    return f"ORACLE IS OUTDATED: {other} files differ from ours" if other else ""


def wall_figures(runs: Runs) -> list[Figure]:
    """All cores; of sharp's settings the better one of each round."""
    ours = runs.get(OURS, ())
    rivals = [found for name, found in runs.items() if name != OURS]
    name = "wall on all cores, sharp-secant / ours"
    best = [min(run.wall_s for run in settings) for settings in zip(*rivals, strict=True)]
    values = [rival / our.wall_s for rival, our in zip(best, ours, strict=False)]
    return [_ratios(name, values, "≥ 2.5")]


def search_figures(ours: Run) -> list[Figure]:
    """How well our search did: encodes per file, and how full the budget is where it had to act."""
    figures = []
    for format in FORMATS:
        mean = statistics.fmean(file.encodes for file in ours.full(format))
        figures.append(Figure(f"encodes per full-size {format}", mean, f"≤ {_ENCODES[format]}"))
    fills = {format: _fills(ours.full(format)) for format in FORMATS}
    everything = [fill for found in fills.values() for fill in found]
    shares = ", ".join(f"{format} {statistics.median(found):.3f}" for format, found in fills.items() if found)
    median = statistics.median(everything) if everything else None
    return [*figures, Figure("budget used where the search acted, median", median, "≥ 0.96", note=shares)]


def _fills(files: Iterable[MadeFile]) -> list[float]:
    """Share of the byte limit, of files that could not have the highest quality."""
    highest = next(iter(RECIPES.values())).quality_max
    acted = (file for file in files if file.quality < highest and file.limit_bytes)
    return [file.bytes / (file.limit_bytes or 1) for file in acted]


def photo_figures(runs: Sequence[Run], photos: Iterable[Photo]) -> list[Figure]:
    """CPU seconds per photo below 10 MB, all variants: the median of the rounds of each photo."""
    small = [photo.id for photo in photos if photo.path.stat().st_size < _SMALL_BYTES]
    seconds = {
        kind: [statistics.median(run.photos[photo][kind] for run in runs) for photo in small]
        for kind in ("cpu_s", "wall_s")
    }
    if not small:
        return []
    p95, wall = (_percentile(seconds[kind], 95) for kind in ("cpu_s", "wall_s"))
    note = f"CPU on one core; wall {wall:.2f} s with this machine's other load"
    return [
        Figure("seconds per photo, p95", p95, "< 2", note=note),
        Figure("seconds per photo, maximum", max(seconds["cpu_s"])),
    ]


def _percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` of the values do not exceed (nearest rank)."""
    return sorted(values)[-(-len(values) * percent // 100) - 1]


def memory_figures(watched: Iterable[tuple[str, Watched, str]]) -> list[Figure]:
    """Peak memory of a fresh worker, from a label, what was seen, and the target."""
    return [
        Figure(
            f"peak RSS of a worker in MB, {label}",
            seen.peak_bytes / MEGABYTE if seen.peak_bytes else None,
            target,
            note=seen.name if seen.peak_bytes else f"{seen.name}: {seen.outcome}, {seen.reason[:60]}",
        )
        for label, seen, target in watched
    ]


def hostile_figures(watched: Sequence[Watched]) -> list[Figure]:
    """Whether each hostile file cost only itself, for the right reason, quickly and in little memory."""
    bad = [seen for seen in watched if seen.refused]
    survived = [seen for seen in watched if seen.outcome != POOL_DIED]
    wrong = [f"{seen.name}: {seen.outcome}" for seen in watched if seen.outcome != seen.expected]
    share = 100 / len(watched)
    return [
        Figure("hostile files survived, %", len(survived) * share, "= 100", note=f"{len(watched)} files"),
        Figure(
            "hostile files with the right outcome, %",
            (len(watched) - len(wrong)) * share,
            "= 100",
            note=", ".join(wrong) or f"{len(bad)} quarantined, {len(watched) - len(bad)} made",
        ),
        _worst("slowest quarantined, s", bad, lambda seen: seen.cpu_s, "< 1"),
        _worst("largest quarantined, MB", bad, lambda seen: (seen.peak_bytes or 0) / MEGABYTE, "< 300"),
        _worst("slowest hostile file of all, s", watched, lambda seen: seen.cpu_s),
        _worst("largest hostile file of all, MB", watched, lambda seen: (seen.peak_bytes or 0) / MEGABYTE),
    ]


def _worst(
    name: str, watched: Sequence[Watched], measure: Callable[[Watched], float | None], target: str = ""
) -> Figure:
    worst = max(watched, key=lambda seen: measure(seen) or 0.0, default=None)
    if worst is None:
        return Figure(name, None, target, note="no such file")
    note = f"{worst.name}; CPU, wall {worst.wall_s:.2f} s" if name.endswith(" s") else worst.name
    return Figure(name, measure(worst), target, note=note)


@dataclass(frozen=True)
class Quality:
    """How a contender's files of one format look."""

    contender: str
    format: str
    points: Mapping[str, float]
    bytes: float
    misses: int

    @property
    def mean(self) -> float:
        """The mean of the photos' points."""
        return statistics.fmean(self.points.values())

    @property
    def median(self) -> float:
        """The median of the photos' points."""
        return statistics.median(self.points.values())

    def among(self, photos: Iterable[str]) -> "Quality":
        """The same of some photos only."""
        points = {photo: self.points[photo] for photo in photos}
        return Quality(self.contender, self.format, points, self.bytes, self.misses)

    def as_row(self) -> dict[str, Any]:
        """For the result file and the table."""
        return {
            "contender": self.contender,
            "format": self.format,
            "photos": len(self.points),
            "mean": self.mean,
            "median": self.median,
            "lowest": min(self.points.values()),
            "mean_bytes": self.bytes,
            "over_budget": self.misses,
        }


def quality_of(contender: str, files: Sequence[MadeFile], points: Mapping[MadeFile, float]) -> Quality:
    """Sums up a contender's files of one format."""
    limit = FULL.max_bytes or 0
    return Quality(
        contender=contender,
        format=files[0].format,
        points={file.photo: points[file] for file in files},
        bytes=statistics.fmean(file.bytes for file in files),
        misses=sum(file.bytes > limit for file in files),
    )


def quality_figures(qualities: Iterable[Quality]) -> list[Figure]:
    """Ours minus the rivals'."""
    found = {(quality.contender, quality.format): quality for quality in qualities}
    figures = []
    for format in FORMATS:
        # JPEG's target was set against sharp's default; mozjpeg's trellis is the harder rival.
        target = "" if format == "jpeg" else f"≥ {_BETTER_BY[format]:g}"
        figures += _difference(found, OURS, SECANT, format, target)
    figures += _difference(found, OURS, SECANT_PLAIN, "jpeg", f"≥ {_BETTER_BY['jpeg']:g}")
    figures += _difference(found, f"{OURS}-quality", STEPPING_4, "avif", "≥ 0")
    figures += _difference(found, OURS, STEPPING_4, "avif", "")
    return figures


def _difference(
    found: Mapping[tuple[str, str], Quality], ours: str, rival: str, format: str, target: str
) -> list[Figure]:
    """Of the photos that both have made."""
    name = f"ssimulacra2 {format}, {ours} - {rival}"
    pair = found.get((ours, format)), found.get((rival, format))
    if pair[0] is None or pair[1] is None:
        return [Figure(f"{name}, mean", None, target, note="not run")]
    both = [photo for photo in pair[0].points if photo in pair[1].points]
    our, their = pair[0].among(both), pair[1].among(both)
    note = f"{our.mean:.2f} and {their.mean:.2f} over {len(both)} photos"
    medians = f"{our.median:.2f} and {their.median:.2f}"
    return [
        Figure(f"{name}, mean", our.mean - their.mean, target, note=note),
        Figure(f"{name}, median", our.median - their.median, target, note=medians),
    ]


def resize_figures(points: Mapping[str, Sequence[float]]) -> list[Figure]:
    """How near decode and resize come to a full decode with one plain Lanczos resize, which has 100."""
    figures = []
    for contender, found in points.items():
        target = "≤ 1" if contender == OURS else ""
        note = f"points lost; worst {100 - min(found):.2f}"
        figures.append(
            Figure(
                f"resized pixels below plain Lanczos, {contender}",
                100 - statistics.fmean(found),
                target,
                note=note,
            )
        )
    return figures


def metadata_figures(tags: Mapping[str, Sequence[str]], files: int, control: int) -> list[Figure]:
    """What exiftool sees in our files, and in the sources, to show that it does see."""
    found = sorted({tag for names in tags.values() for tag in names})
    note = f"{files} files; {control} in their sources" + (f"; {', '.join(found[:5])}" if found else "")
    return [Figure("metadata tags in outputs", float(sum(map(len, tags.values()))), "= 0", note=note)]


def table(figures: Iterable[Figure]) -> str:
    """The figures as aligned text, with a mark where a target is missed."""
    lines = [f"{'figure':62} {'value':>9}  {'range':15} {'target':8} {'':6} note"]
    marks = {True: "ok", False: "MISSED", None: ""}
    for figure in figures:
        value = "-" if figure.value is None else f"{figure.value:.3f}"
        span = "" if figure.low == figure.high else f"{figure.low:.2f} .. {figure.high:.2f}"
        line = f"{figure.name:62} {value:>9}  {span:15} {figure.target:8} {marks[figure.met]:6} {figure.note}"
        lines.append(line.rstrip())
    return "\n".join(lines)
