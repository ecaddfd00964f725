"""The rival pyvips: decode once, then the same secant search as `sharp.mjs`. `python vips.py JOB.json`.

Runs in an environment of its own that has pyvips and nothing of this project, so it imports nothing of it.
libvips' own defaults stay, except AVIF's effort (a setting of the job) and mozjpeg's options for JPEG.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import pyvips

GOOD_FILL = 0.93
AIM_FILL = 0.965
FIRST_GUESS = 70
TYPICAL_SLOPE = 0.03
MAX_SECANTS = 4

_MOZJPEG = {
    "interlace": True,
    "optimize_coding": True,
    "trellis_quant": True,
    "overshoot_deringing": True,
    "optimize_scans": True,
    "quant_table": 3,
}


def encode(image: Any, format: str, quality: int, effort: int) -> Any:
    if format == "avif":
        return image.heifsave_buffer(Q=quality, compression="av1", effort=effort, keep="none")
    if format == "webp":
        return image.webpsave_buffer(Q=quality, keep="none")
    flat = image.flatten(background=255) if image.hasalpha() else image
    return flat.jpegsave_buffer(Q=quality, keep="none", **_MOZJPEG)


def decoded_once(path: str, variants: list[dict[str, Any]]) -> dict[str, Any]:
    """Each variant's pixels in memory; the smaller ones come from the largest."""
    pixels: dict[str, Any] = {}
    for variant in variants:
        crop = "centre" if variant["fit"] == "cover" else "none"
        options = {"height": variant["height"], "size": "down", "crop": crop}
        if not pixels:
            image = pyvips.Image.thumbnail(path, variant["width"], output_profile="srgb", **options)
        else:
            image = next(iter(pixels.values())).thumbnail_image(variant["width"], **options)
        pixels[variant["name"]] = image.colourspace("srgb").copy_memory()
    return pixels


def interpolated(tried: list[tuple[int, float]], aim: float) -> int:
    near, *others = sorted(tried, key=lambda point: abs(point[1] - aim))
    rise = (near[1] - others[0][1]) / (near[0] - others[0][0]) if others else TYPICAL_SLOPE
    return math.floor(near[0] + (aim - near[1]) / (rise if rise > 0 else TYPICAL_SLOPE))


def secant(image: Any, format: str, budget: int | None, job: dict[str, Any]) -> tuple[bytes, int, int]:
    """The file, its quality and the number of encodes."""
    low, high = job["recipe"]["quality_min"], job["recipe"]["quality_max"]
    effort = job["settings"]["effort"]
    if budget is None:
        return encode(image, format, high, effort), high, 1
    tried: list[tuple[int, float]] = []
    below, above, quality = low - 1, high + 1, FIRST_GUESS
    best, least = b"", b""
    while below + 1 < above:
        data = encode(image, format, quality, effort)
        tried.append((quality, math.log(len(data))))
        if len(data) <= budget:
            below, best = quality, data
        else:
            above, least = quality, data
        if len(best) >= GOOD_FILL * budget:
            break
        few = len(tried) < MAX_SECANTS
        aimed = interpolated(tried, math.log(budget * AIM_FILL)) if few else (below + above) // 2
        quality = max(below + 1, min(above - 1, aimed))
    return (best, below, len(tried)) if best else (least, above, len(tried))


def make(photo: dict[str, str], job: dict[str, Any]) -> list[dict[str, Any]]:
    variants = job["recipe"]["variants"]
    files = []
    for name, image in decoded_once(photo["path"], variants).items():
        budget = next(variant["max_bytes"] for variant in variants if variant["name"] == name)
        for format in job["recipe"]["formats"]:
            data, quality, encodes = secant(image, format, budget, job)
            path = Path(job["folder"]) / f"{photo['id']}.{name}.{format}"
            path.write_bytes(data)
            files.append(
                {
                    "photo": photo["id"],
                    "variant": name,
                    "format": format,
                    "path": str(path),
                    "bytes": len(data),
                    "width": image.width,
                    "height": image.height,
                    "quality": quality,
                    "encodes": encodes,
                }
            )
    return files


def probe(photo: dict[str, str], job: dict[str, Any]) -> list[dict[str, Any]]:
    pyvips.Image.thumbnail(photo["path"], 16).copy_memory()
    return []


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    action = {"make": make, "probe": probe}[job["action"]]
    libvips = ".".join(str(pyvips.version(part)) for part in range(3))
    result: dict[str, Any] = {"versions": {"pyvips": pyvips.__version__, "libvips": libvips}}
    result |= {"photos": {}, "files": [], "errors": {}}
    Path(job["folder"]).mkdir(parents=True, exist_ok=True)
    for photo in job["photos"]:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            result["files"] += action(photo, job)
        except pyvips.Error as error:
            result["errors"][photo["id"]] = str(error).strip()
        seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        result["photos"][photo["id"]] = seconds
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
