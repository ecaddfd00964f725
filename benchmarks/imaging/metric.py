"""ssimulacra2 of files against one reference for all: the photo itself, plainly resized.

The reference has nothing of any contender's pipeline: a full decode, upright, sRGB, and one Lanczos resize
to the exact size of the file that is judged. Scores are kept by content, so that only new bytes cost time.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pillow_avif  # noqa: F401 - registers AVIF with every Pillow
from PIL import Image, ImageCms, ImageOps
from ssimulacra2 import compute_ssimulacra2

# Part of each kept score's name: raised when the reference or the metric changes.
_METHOD = "1"


# Below 225 px the metric has fewer than its six scales, and its weights fall on the wrong ones.
_LEAST_SIDE = 225


@dataclass(frozen=True)
class Judged:
    """A file to judge, and the photo that it was made of."""

    source: Path
    file: Path


def can_judge(width: int, height: int) -> bool:
    """Whether a picture is large enough for the metric."""
    return min(width, height) >= _LEAST_SIDE


def scores(judged: Iterable[Judged], kept: Path) -> dict[Judged, float]:
    """Scores files in parallel.

    Args:
        judged: The files.
        kept: A JSON file of earlier scores, which is read and written.

    Returns:
        A score for each, 100 for a file without any loss.
    """
    known: dict[str, float] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    keys = {each: _key(each) for each in judged}
    wanted: dict[Path, dict[str, Path]] = defaultdict(dict)
    for each, key in keys.items():
        if key not in known:
            wanted[each.source][key] = each.file
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for found in pool.map(_photo_scores, wanted, [tuple(files.items()) for files in wanted.values()]):
            known |= found
            kept.write_text(json.dumps(known), encoding="utf-8")
    return {each: known[key] for each, key in keys.items()}


def _key(judged: Judged) -> str:
    digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (judged.source, judged.file))
    return ":".join((_METHOD, *digests))


def _photo_scores(source: Path, files: Sequence[tuple[str, Path]]) -> dict[str, float]:
    original = _plain(source)
    resized: dict[tuple[int, int], Image.Image] = {}
    found = {}
    for key, path in files:
        image = _flat(Image.open(path))
        if image.size not in resized:
            resized[image.size] = original.resize(image.size, Image.Resampling.LANCZOS)
        found[key] = float(compute_ssimulacra2(_as_file(resized[image.size]), _as_file(image)))
    return found


def _plain(source: Path) -> Image.Image:
    """The whole photo, upright, in sRGB, on white."""
    # HEIC needs no opener: such files are left out of the comparison.
    with Image.open(source) as image:
        profile = image.info.get("icc_profile")
        upright = ImageOps.exif_transpose(image)
    if profile and upright.mode in ("RGB", "L", "CMYK"):
        converted = ImageCms.profileToProfile(
            upright,
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
        upright = converted or upright
    return _flat(upright)


def _flat(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def _as_file(image: Image.Image) -> BytesIO:
    """As a file in memory, which the metric wants; BMP costs no compression."""
    file = BytesIO()
    image.save(file, "BMP")
    file.seek(0)
    return file
