"""The rival ImageMagick, as scripts call it: one process per step. `python magick.py JOB.json`.

Quality 85, 5 less until the file fits, floor 20; each step decodes, turns and resizes anew. Formats that
this build of ImageMagick cannot write are left out, and the result says which.
"""

import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_STEP = 5


def writable(magick: str) -> set[str]:
    """The formats of ours that it writes, as `-list format` shows them ("WEBP* WEBP rw-")."""
    listing = subprocess.run([magick, "-list", "format"], capture_output=True, text=True, check=True).stdout
    names = {"avif": "AVIF", "webp": "WEBP", "jpeg": "JPEG"}
    return {
        ours for ours, theirs in names.items() if re.search(rf"^\s*{theirs}\*?\s.*\sr?-?w", listing, re.M)
    }


def convert(job: dict[str, Any], source: str, variant: dict[str, Any], quality: int, target: Path) -> None:
    box = f"{variant['width']}x{variant['height']}"
    size = ["-resize", f"{box}>"]
    if variant["fit"] == "cover":
        size = ["-resize", f"{box}^", "-gravity", "center", "-extent", box]
    # libheif's speed 7 is what libvips calls effort 2.
    options = ["-strip", "-quality", str(quality), "-define", f"heic:speed={9 - job['settings']['effort']}"]
    if target.suffix == ".jpeg":
        options += ["-background", "white", "-flatten", "-interlace", "Plane", "-sampling-factor", "4:2:0"]
    command = [job["settings"]["magick"], f"{source}[0]", "-auto-orient", *size, *options, str(target)]
    subprocess.run(command, capture_output=True, text=True, check=True)


def stepped(
    job: dict[str, Any], photo: dict[str, str], variant: dict[str, Any], format: str
) -> dict[str, Any]:
    path = Path(job["folder"]) / f"{photo['id']}.{variant['name']}.{format}"
    qualities = range(job["recipe"]["quality_max"], job["recipe"]["quality_min"] - 1, -_STEP)
    encodes = 0
    for quality in qualities:
        encodes += 1
        convert(job, photo["path"], variant, quality, path)
        if not variant["max_bytes"] or path.stat().st_size <= variant["max_bytes"]:
            break
    identify = [job["settings"]["magick"], str(path), "-format", "%w %h", "info:"]
    width, height = subprocess.run(identify, capture_output=True, text=True, check=True).stdout.split()
    return {
        "photo": photo["id"],
        "variant": variant["name"],
        "format": format,
        "path": str(path),
        "bytes": path.stat().st_size,
        "width": int(width),
        "height": int(height),
        "quality": quality,
        "encodes": encodes,
    }


def make(job: dict[str, Any], photo: dict[str, str], formats: list[str]) -> list[dict[str, Any]]:
    variants = job["recipe"]["variants"]
    return [stepped(job, photo, variant, format) for variant in variants for format in formats]


def probe(job: dict[str, Any], photo: dict[str, str], formats: list[str]) -> list[dict[str, Any]]:
    command = [job["settings"]["magick"], f"{photo['path']}[0]", "-resize", "16x16", "null:"]
    subprocess.run(command, capture_output=True, text=True, check=True)
    return []


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    action = {"make": make, "probe": probe}[job["action"]]
    magick = job["settings"]["magick"]
    able = writable(magick)
    formats = [format for format in job["recipe"]["formats"] if format in able]
    version = subprocess.run([magick, "-version"], capture_output=True, text=True, check=True).stdout.split()[
        2
    ]
    result: dict[str, Any] = {"versions": {"ImageMagick": version, "formats": ", ".join(formats)}}
    result |= {"photos": {}, "files": [], "errors": {}}
    Path(job["folder"]).mkdir(parents=True, exist_ok=True)
    for photo in job["photos"]:
        wall, cpu = time.perf_counter(), _cpu_s()
        try:
            result["files"] += action(job, photo, formats)
        except subprocess.CalledProcessError as error:
            result["errors"][photo["id"]] = str(error.stderr).strip()[:200]
        result["photos"][photo["id"]] = {"wall_s": time.perf_counter() - wall, "cpu_s": _cpu_s() - cpu}
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
