"""The demo's scenes by name, and the camera that takes photos of them.

The same seed gives the same picture. Files, EXIF and the problem cases live in `photos`.
"""

import zlib
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageChops

from photo_pipeline.demo.indoors import (
    bokeh,
    flower,
    living_room,
    portrait,
    scarf,
    still_life,
    vase,
    vase_outline,
)
from photo_pipeline.demo.outdoors import cloudscape, house, night_city, sunset_sea, waterfall
from photo_pipeline.demo.painting import Pixels, grid
from photo_pipeline.demo.terrain import ALPS, DUNES, HILLS, landscape

_GRAIN_TILE_PX: Final = 512

Scene = Callable[[np.random.Generator, int, int], Pixels]

SCENES: Final[dict[str, Scene]] = {
    "alps": lambda rng, height, width: landscape(rng, height, width, look=ALPS),
    "hills": lambda rng, height, width: landscape(rng, height, width, look=HILLS),
    "dunes": lambda rng, height, width: landscape(rng, height, width, look=DUNES),
    "sunset sea": sunset_sea,
    "cloudscape": cloudscape,
    "night city": night_city,
    "bokeh": bokeh,
    "portrait": portrait,
    "flower": flower,
    "waterfall": waterfall,
    "still life": still_life,
    "vase": vase,
    "scarf": scarf,
    "house": house,
    "living room": living_room,
}


def take_photo(scene: str, *, width: int, height: int, seed: int) -> Image.Image:
    """Takes one photo of a scene, upright, in sRGB.

    Args:
        scene: A key of `SCENES`.
        width: Width in pixels.
        height: Height in pixels.
        seed: Same seed, same picture.
    """
    rng = np.random.default_rng([seed, zlib.crc32(scene.encode())])
    pixels = SCENES[scene](rng, *_painted_size(width, height))
    image = Image.fromarray((_develop(pixels) * 255).astype(np.uint8))
    return _add_grain(image.resize((width, height), Image.Resampling.BICUBIC), rng)


def vase_cutout(width: int, height: int) -> Image.Image:
    """The alpha channel (mode L) that cuts the "vase" scene's vase out of its background; size in pixels."""
    _, inside = vase_outline(*_painted_size(width, height))
    mask = Image.fromarray((inside * 255).astype(np.uint8))
    return mask.resize((width, height), Image.Resampling.BICUBIC)


def _painted_size(width: int, height: int) -> tuple[int, int]:
    """Height and width at which a scene is painted before it is enlarged; 12 megapixels would take 20 s."""
    long_side = max(width, height)
    scale = min(1.0, max(780, 0.26 * long_side) / long_side)
    return round(height * scale), round(width * scale)


def _develop(pixels: Pixels) -> Pixels:
    """Slight vignette and a soft shoulder, as a lens and a camera's tone curve give."""
    height, width = pixels.shape[:2]
    x, y = grid(height, width)
    corner = (x / (width / height) - 0.5) ** 2 + (y - 0.5) ** 2
    light = np.clip(pixels, 0, None) * (1 - 0.42 * corner)[..., None]
    developed: Pixels = np.where(light < 0.8, light, 0.8 + 0.2 * np.tanh((light - 0.8) / 0.2))
    return developed


def _add_grain(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    # A tile: fresh noise for each of 12 million pixels would take longer than the whole scene.
    tile = rng.standard_normal((_GRAIN_TILE_PX, _GRAIN_TILE_PX), np.float32) * 3.2 + 128
    tiles = (image.height // _GRAIN_TILE_PX + 1, image.width // _GRAIN_TILE_PX + 1)
    grain = np.tile(np.rint(tile).astype(np.uint8), tiles)[: image.height, : image.width]
    return ImageChops.add(image, Image.merge("RGB", [Image.fromarray(grain)] * 3), offset=-128)
