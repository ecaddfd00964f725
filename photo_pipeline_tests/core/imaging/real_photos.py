"""Real photographs as the imaging modules get them: decoded, upright, no larger than a variant."""

from functools import lru_cache
from pathlib import Path

from PIL import Image

from photo_pipeline.core.imaging.decode import decode
from photo_pipeline.core.imaging.header import read_header
from photo_pipeline.core.imaging.recipe import VariantSpec
from photo_pipeline.core.imaging.resize import plan, render


@lru_cache(maxsize=64)
def shown(path: Path, side: int) -> Image.Image:
    """The photo within a square of that many pixels."""
    info = read_header(path, max_pixels=100_000_000)
    box = VariantSpec(name="shown", fit="inside", width=side, height=side, max_bytes=None)
    geometry = plan(box, width=info.width, height=info.height)
    image = decode(path, info, size=geometry.size)
    return render(image, geometry, width=info.width, height=info.height)
