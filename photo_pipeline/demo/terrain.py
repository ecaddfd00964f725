"""A small terrain renderer for the demo's landscapes: height map, perspective, sun and shadow, haze, lake."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from photo_pipeline.demo.painting import (
    Pixels,
    clouds,
    grid,
    hill_shade,
    mix,
    noise,
    ramp,
    rgb,
    ripple,
    sample,
    soften,
    step,
)

_MAP_SIZE_PX: Final = 1024
_DEPTH_STEPS: Final = 600


@dataclass(frozen=True)
class Look:
    """A kind of landscape.

    Attributes:
        relief: Height of the terrain's summits; the map is 1 long.
        eye: Height of the camera over the lowest ground.
        horizon: Where the horizon lies, as a share of the picture's height from the top.
        cells: Summits along the map.
        octaves: Layers of detail in the terrain's form.
        gain: Roughness: strength of each finer layer.
        sharp: Sharpness of crests, 0 (rounded) to 1 (rock, dunes).
        near: Height of the ground before the camera, as a share of that at the far end.
        woods: Share of the lower ground that is wooded, about.
        water: Lake level as a share of the relief; 0 for none.
        ground: Colours from low and flat to high.
        rock: Colour of steep slopes.
        steep: Slope at which rock shows; large for none.
        grain: Strength of the fine texture of the ground.
        sky: Colours from the zenith to the horizon.
        haze: Density of the air.
    """

    relief: float
    eye: float
    horizon: float
    cells: float
    octaves: int
    gain: float
    sharp: float
    near: float
    woods: float
    water: float
    ground: tuple[tuple[float, str], ...]
    rock: str
    steep: float
    grain: float
    sky: tuple[tuple[float, str], ...]
    haze: float


ALPS: Final = Look(
    relief=0.44, eye=0.06, horizon=0.56, cells=3, octaves=7, gain=0.45, sharp=0.7,
    near=0.1, woods=0.55, water=0.13,
    ground=((0.1, "#59702f"), (0.3, "#6f7f41"), (0.4, "#7d7a60"),
            (0.48, "#8b8578"), (0.54, "#e9eef4"), (1, "#ffffff")),
    rock="#77706a", steep=1.5, grain=0.5,
    sky=((0, "#2f6fb5"), (0.7, "#9cc4e4"), (1, "#e9e6d8")), haze=0.55,
)  # fmt: skip


HILLS: Final = Look(
    relief=0.2, eye=0.11, horizon=0.42, cells=5, octaves=5, gain=0.32, sharp=0.0,
    near=0.35, woods=0.36, water=0.0,
    ground=((0, "#6b8f2e"), (0.3, "#8aa63c"), (0.5, "#b4b352"), (0.7, "#d6c26a"), (1, "#9aa84a")),
    rock="#5c7a2c", steep=0.9, grain=0.45,
    sky=((0, "#3a7fc8"), (0.7, "#a9d0ee"), (1, "#f4efdf")), haze=0.9,
)  # fmt: skip


DUNES: Final = Look(
    relief=0.2, eye=0.13, horizon=0.4, cells=4, octaves=3, gain=0.3, sharp=1.0,
    near=0.35, woods=0.0, water=0.0,
    ground=((0, "#c98546"), (0.5, "#e0a05a"), (1, "#f0bd78")),
    rock="#c98747", steep=9.0, grain=0.12,
    sky=((0, "#3f6fae"), (0.7, "#b9c6cc"), (1, "#f3d6a8")), haze=0.7,
)  # fmt: skip


def landscape(rng: np.random.Generator, height: int, width: int, *, look: Look) -> Pixels:
    """A terrain in perspective, with cast shadows, haze, clouds and, where the look has one, a lake."""
    heights, woods = _height_map(rng, look)
    image = _sky(rng, height, width, look)
    distance = _first_hit(heights, look, height, width)
    land = ~np.isnan(distance)
    x, _ = grid(height, width)
    down = distance[land]
    across = 0.5 + np.broadcast_to(x - width / height / 2, land.shape)[land] * down
    colour, level = _ground(rng, heights, woods, look, down, across)
    haze = 0.5 * (rgb(look.sky[-1][1]) + rgb(look.sky[-2][1]))
    image[land] = mix(colour, haze, 1 - np.exp(-look.haze * down**1.3))
    if look.water:
        lake = np.zeros((height, width), np.float32)
        lake[land] = step(look.water + 0.006, look.water, level)
        image = _with_lake(image, rng, lake, look)
    return image


def _sky(rng: np.random.Generator, height: int, width: int, look: Look) -> Pixels:
    x, y = grid(height, width)
    cover = clouds(rng, height, width)
    lining = ramp(hill_shade(soften(cover, 12), 0.02) + 0.25 * cover, (0.2, "#aab4c2"), (0.8, "#ffffff"))
    clear = ramp(y / look.horizon + 0 * x, *look.sky)
    return mix(clear, lining, 0.85 * cover * step(look.horizon + 0.05, look.horizon - 0.25, y))


def _height_map(rng: np.random.Generator, look: Look) -> tuple[Pixels, Pixels]:
    """Heights (share of the relief) and tree cover (0..1)."""
    size = (_MAP_SIZE_PX, _MAP_SIZE_PX)
    heights = noise(rng, *size, cells=look.cells, octaves=look.octaves, gain=look.gain)
    folded = 1 - np.abs(2 * heights - 1)
    heights = (1 - look.sharp) * heights + look.sharp * folded**1.3
    # The map rises away from the camera, so that summits close the view and none blocks it.
    away = np.linspace(0, 1, _MAP_SIZE_PX, dtype=np.float32)[:, None]
    heights = heights * (look.near + (1 - look.near) * step(0.1, 0.75, away))
    if not look.woods:
        return heights.astype(np.float32), np.zeros(size, np.float32)
    patches = noise(rng, *size, cells=9, octaves=5) + 0.25 * (look.woods - 0.5)
    patches -= 0.6 * np.clip(heights - 0.4, 0, 1)
    crowns = noise(rng, *size, cells=170, octaves=2)
    woods = step(0.5, 0.54, patches) * step(0.2, 0.45, crowns)
    return (heights + woods * (0.012 + 0.03 * crowns) / (look.relief / 0.3)).astype(np.float32), woods


def _first_hit(heights: Pixels, look: Look, height: int, width: int) -> Pixels:
    """Distance to the ground at each pixel; NaN for sky."""
    x, y = grid(height, width)
    depths = np.geomspace(0.03, 1.7, _DEPTH_STEPS).astype(np.float32)[:, None]
    seen = np.maximum(sample(heights, depths + 0 * x, 0.5 + (x - width / height / 2) * depths), look.water)
    top = look.horizon + (look.eye - look.relief * (seen - look.water)) / depths * 0.9
    # Nearer ground hides what lies behind and lower: only what rises above all before it is seen.
    skyline = np.minimum.accumulate(top, axis=0)
    hits = np.stack([np.interp(-y[:, 0], -skyline[:, c], depths[:, 0], right=np.nan) for c in range(width)])
    return hits.T.astype(np.float32)


def _ground(
    rng: np.random.Generator, heights: Pixels, woods: Pixels, look: Look, down: Pixels, across: Pixels
) -> tuple[Pixels, Pixels]:
    """Colour and height of the ground at the given places of the map."""
    slope_down, slope_across = (g * _MAP_SIZE_PX * look.relief for g in np.gradient(heights))
    slope = np.hypot(slope_down, slope_across)
    light = np.clip(0.75 + 0.75 * slope_across - 0.3 * slope_down, 0, 3) / np.sqrt(1 + slope**2)
    light *= 1 - 0.75 * _cast_shadow(heights * look.relief)
    # One look-up for the four maps: the index arithmetic costs more than the reading.
    seen = sample(np.stack([heights, woods, slope, light], axis=-1).astype(np.float32), down, across)
    level, trees, steepness, sun = np.moveaxis(seen, -1, 0)
    fine = noise(rng, _MAP_SIZE_PX, _MAP_SIZE_PX, cells=24, octaves=6, gain=0.8)
    texture = 0.5 * sample(fine, down * 2, across * 2) + 0.5 * sample(fine, down * 9, across * 9) - 0.5
    colour = ramp(level + 0.25 * look.grain * texture, *look.ground)
    bare = step(look.steep * 0.75, look.steep * 1.25, steepness + texture)
    colour = mix(colour, rgb(look.rock) * (1 + texture[..., None]), bare)
    colour = mix(colour, ramp(texture, (-0.4, "#14240f"), (0.4, "#4a6a28")), trees)
    sun = sun * (1 + 1.6 * look.grain * texture)
    return colour * (rgb("#5a6c8c") * 0.55 + sun[..., None] * rgb("#fff0d8") * 0.85), level


def _cast_shadow(heights: Pixels) -> Pixels:
    # The sun stands in the west, so a shadow is a running maximum along each row of the map.
    fall = np.linspace(0, 0.55, heights.shape[1], dtype=np.float32)
    blocked = np.maximum.accumulate(heights + fall, axis=1) - fall - heights
    return step(0.0, 0.012, blocked)


def _with_lake(image: Pixels, rng: np.random.Generator, lake: Pixels, look: Look) -> Pixels:
    height, width = lake.shape
    _, y = grid(height, width)
    waves = ripple(rng, height, width, look.horizon, scale=0.6)
    rows = np.clip((2 * look.horizon - y + 0.05 * (waves - 0.5)) * height, 0, height - 1).astype(int)
    mirror = image[rows, np.arange(width)] * rgb("#8aa3ad") + 0.06 * waves[..., None]
    return mix(image, mirror, lake)
