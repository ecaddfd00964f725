"""Our image engine beside its rivals, in one run: `make bench-imaging`.

Every contender makes the same six variants (full: inside 1200x1200, at most 102,400 bytes; thumb: cover
150x150; each in AVIF, WebP and JPEG) of the same photos. CPU is measured on one pinned core with one thread,
the contenders taking turns every few photos; wall time on all cores, over the whole list. The order rotates,
and a figure is the median of the rounds' ratios. Quality is judged after all timing. Prints a table with the
target beside each figure and writes `benchmarks/results/imaging.json`.

Linux only: it pins processes and reads /proc.
"""

import argparse
import json
import platform
import shutil
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.imaging.bench import Bench, Results, measure
from benchmarks.imaging.figures import FORMATS, table
from benchmarks.imaging.runner import ROOT, ContenderError, Run

RESULTS = ROOT / "benchmarks" / "results" / "imaging.json"


def as_values(bench: Bench, results: Results) -> dict[str, Any]:
    """Everything as plain values; no paths, which differ between machines."""
    return {
        "photos": len(bench.photos),
        "subset": len(bench.subset),
        "rounds": bench.options.rounds,
        "cores": bench.cores,
        "python": platform.python_version(),
        "left_out": bench.left_out,
        "missing": bench.missing,
        "contenders": {name: each.note for name, each in bench.contenders.items()},
        "versions": {name: runs[0].versions for name, runs in results.cpu.items()},
        "figures": [asdict(each) | {"met": each.met} for each in results.figures],
        "cpu_seconds": {name: [run.cpu_s for run in runs] for name, runs in results.cpu.items()},
        "wall_seconds": {name: [run.wall_s for run in runs] for name, runs in results.wall.items()},
        "encodes": {name: encodes(runs[0]) for name, runs in results.cpu.items()},
        "quality": [each.as_row() for each in results.qualities],
        "hostile": [asdict(each) for each in results.hostile],
        "part_seconds": bench.seconds,
        "load_before_wall": bench.load_before_wall,
    }


def encodes(done: Run) -> dict[str, float]:
    """Mean encodes per full-size file, by format."""
    full = {format: done.full(format) for format in FORMATS}
    return {
        format: statistics.fmean(file.encodes for file in files) for format, files in full.items() if files
    }


def show(bench: Bench, results: Results) -> None:
    """Prints the tables."""
    count = f"{len(bench.photos)} photos, {bench.options.rounds} rounds, {bench.cores} cores"
    print(f"\n{count}; median (range of the rounds)\n")
    print(table(results.figures))
    columns = ("photos", "mean", "median", "lowest", "bytes")
    print(f"\n{'ssimulacra2':18} {'format':7}" + "".join(f" {column:>7}" for column in columns))
    for each in results.qualities:
        over = f"  {each.misses} over budget" if each.misses else ""
        print(
            f"{each.contender:18} {each.format:7} {len(each.points):7} {each.mean:7.2f} {each.median:7.2f}"
            f" {min(each.points.values()):7.2f} {each.bytes:7.0f}{over}"
        )
    print(f"\n{'CPU seconds':18} {'median':>8} {'photos':>6}  mean encodes of jpeg, webp, avif")
    for name, runs in results.cpu.items():
        means = ", ".join(f"{mean:.2f}" for mean in encodes(runs[0]).values())
        seconds = statistics.median(run.cpu_s for run in runs)
        print(f"{name:18} {seconds:8.1f} {len(runs[0].photos):6}  {means}")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-imaging", description=__doc__)
    photos = ROOT.parent / "shared" / "photos" / "real"
    parser.add_argument("--photos", type=Path, default=photos, help="a folder of photos (%(default)s)")
    parser.add_argument(
        "--hostile", type=Path, help="a folder of bad files (default: `hostile` beside photos)"
    )
    parser.add_argument(
        "--cache", type=Path, default=ROOT / ".photo_pipeline" / "bench", help="rivals, scores"
    )
    parser.add_argument("--limit", type=int, help="only the first N photos of the shuffled list")
    parser.add_argument("--rounds", type=int, default=2, help="interleaved rounds (%(default)s)")
    parser.add_argument(
        "--subset", type=int, default=6, help="photos for the slowest contenders (%(default)s)"
    )
    parser.add_argument("--only", type=lambda text: text.split(","), help="contenders, comma-separated")
    parser.add_argument("--skip-quality", action="store_true", help="no ssimulacra2, which takes minutes")
    parser.add_argument(
        "--patience", type=float, default=0, help="minutes to wait for an idle machine before wall time"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result is written (%(default)s)")
    chosen = parser.parse_args()
    chosen.photos, chosen.cache = chosen.photos.resolve(), chosen.cache.resolve()
    chosen.hostile = (chosen.hostile or chosen.photos.parent / "hostile").resolve()
    return chosen


def main() -> None:
    """Run, print and write the result."""
    chosen = options()
    if not chosen.photos.is_dir():
        sys.exit(f"bench-imaging: there is no folder {chosen.photos}; give one with --photos DIR")
    work = chosen.cache / "work"
    work.mkdir(parents=True, exist_ok=True)
    try:
        bench = Bench(chosen, work)
        results = measure(bench)
    except ContenderError as error:
        sys.exit(f"bench-imaging: {error}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    show(bench, results)
    values = json.dumps(as_values(bench, results), indent=2, ensure_ascii=False)
    chosen.out.parent.mkdir(exist_ok=True)
    chosen.out.write_text(values + "\n", encoding="utf-8")
    print(f"\nWrote {chosen.out}; {sum(bench.seconds.values()) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
