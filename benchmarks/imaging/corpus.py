"""Which photos the contenders are measured on, and which are left out, by name."""

import hashlib
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pillow_avif  # noqa: F401 - registers AVIF with every Pillow
from PIL import Image, ImageChops

from benchmarks.imaging.runner import Contender, Photo, run

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".gif"}
_HEIC = {".heic", ".heif"}
_HEIC_REASON = "HEIC: an extra here, and no rival reads it as installed"

_LARGE = (6000, 4000)
_NEAR = 0.1


def photos_in(folder: Path) -> tuple[list[Photo], dict[str, str]]:
    """All photos of a folder in a shuffled order that is always the same.

    Returns:
        The photos, and why others of the folder's photos are left out, by name.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES | _HEIC)
    heic = {path.name: _HEIC_REASON for path in files if path.suffix.lower() in _HEIC}
    # By digest, so that one more photo in the folder does not change the order of the others.
    rest = [path for path in files if path.name not in heic]
    rest.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
    return [Photo(f"{number:04}", path) for number, path in enumerate(rest)], heic


def readable(
    photos: Sequence[Photo], contenders: Iterable[Contender], work: Path
) -> tuple[list[Photo], dict[str, str]]:
    """The photos that each program of the contenders can read, and why others are left out."""
    unread: dict[str, str] = {}
    programs = {contender.command: contender for contender in contenders}
    for contender in programs.values():
        probed = run(contender, "probe", photos, work / "probe", pinned=False)
        print("  " + ", ".join(f"{library} {version}" for library, version in probed.versions.items()))
        errors = probed.errors
        for photo in photos:
            if photo.id in errors:
                reason = errors[photo.id].splitlines()[0][:120]
                unread.setdefault(photo.path.name, f"{contender.name} cannot read it: {reason}")
    return [photo for photo in photos if photo.path.name not in unread], unread


def photo_of_24_mp(photos: Iterable[Photo], cache: Path) -> Path:
    """The photo nearest to 24 megapixels; made of the largest one when none is within 10 %."""
    target = _LARGE[0] * _LARGE[1]
    pixels = {photo.path: _pixels(photo.path) for photo in photos if photo.path.suffix.lower() != ".png"}
    nearest = min(pixels, key=lambda path: abs(pixels[path] - target), default=None)
    if nearest is not None and abs(pixels[nearest] - target) <= _NEAR * target:
        return nearest
    made = cache / "24mp.jpg"
    if not made.exists():
        base = Image.open(nearest).convert("RGB") if nearest else Image.linear_gradient("L").convert("RGB")
        large = base.resize(_LARGE, Image.Resampling.BICUBIC)
        # Grain, without which an enlarged photo is cheaper to decode than a real one.
        grain = Image.frombytes("L", _LARGE, random.Random(1).randbytes(target)).point(lambda v: v // 16)
        ImageChops.add(large, Image.merge("RGB", [grain] * 3)).save(made, quality=90)
    return made


def _pixels(path: Path) -> int:
    with Image.open(path) as image:
        return image.width * image.height
