"""What the demo's scenes are painted with: fractal noise, colour ramps, layers, perspective.

Pictures are float arrays (height, width, 3) in 0..1; masks and noise are (height, width). Nothing here
knows a scene.
"""

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Pixels: TypeAlias = NDArray[np.floating[Any]]

_SURFACE_PX: Final = 512


def grid(height: int, width: int) -> tuple[Pixels, Pixels]:
    """Coordinates in units of the picture's height: x as one row, y (0 at the top) as one column."""
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / height
    return x, y


def rgb(colour: str) -> Pixels:
    """The three channels (0..1) of "#rrggbb"."""
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)], np.float32)


def ramp(values: ArrayLike, *stops: tuple[float, str]) -> Pixels:
    """Colours for values, interpolated between (value, "#rrggbb") stops given in rising order."""
    at = [position for position, _ in stops]
    channels = np.stack([rgb(colour) for _, colour in stops])
    # A table: three np.interp calls over every pixel cost four times as much.
    table_at = np.linspace(at[0], at[-1], 512)
    table = np.stack([np.interp(table_at, at, channels[:, c]) for c in range(3)], axis=-1).astype(np.float32)
    index = (np.asarray(values) - at[0]) * (511 / (at[-1] - at[0]))
    return table[np.clip(index, 0, 511).astype(np.int16)]


def step(low: float, high: float, values: ArrayLike) -> Pixels:
    """Smooth step from 0 at `low` to 1 at `high` (falling where low > high)."""
    t: Pixels = np.clip((np.asarray(values, np.float32) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(below: Pixels, above: Pixels, alpha: Pixels) -> Pixels:
    """`above` laid over `below` with opacity `alpha` (0..1)."""
    return below + (above - below) * alpha[..., None].astype(np.float32, copy=False)


def _resized(values: Pixels, height: int, width: int, method: Image.Resampling) -> Pixels:
    return np.asarray(Image.fromarray(values.astype(np.float32, copy=False)).resize((width, height), method))


def soften(values: Pixels, radius: float) -> Pixels:
    """Blurred by about `radius` thousandths of the height, by shrinking and enlarging: fast at any radius."""
    height, width = values.shape
    factor = max(1.0, radius * height / 1000)
    small = _resized(values, max(2, int(height / factor)), max(2, int(width / factor)), Image.Resampling.BOX)
    return _resized(small, height, width, Image.Resampling.BICUBIC)


def noise(
    rng: np.random.Generator, height: int, width: int, *, cells: float = 4, octaves: int = 6,
    gain: float = 0.55, stretch: float = 1.0,
) -> Pixels:  # fmt: skip
    """Fractal noise in 0..1.

    Args:
        rng: Source of randomness.
        height: Rows.
        width: Columns.
        cells: Blobs per picture height in the coarsest octave.
        octaves: Layers, each twice as fine as the one before.
        gain: Strength of each layer relative to the one before.
        stretch: How many times wider than tall the blobs are.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        rows = int(np.clip(cells * 2**octave, 2, height))
        columns = int(np.clip(cells * 2**octave * width / height / stretch, 2, width))
        layer = rng.random((rows, columns), np.float32) * np.float32(gain**octave)
        # The fine layers are too small for the difference to show, and bilinear takes half the time.
        method = Image.Resampling.BICUBIC if octave < 3 else Image.Resampling.BILINEAR
        total += _resized(layer, height, width, method)
    low, high = float(total.min()), float(total.max())
    return (total - low) / (high - low)


def sample(field: Pixels, down: ArrayLike, across: ArrayLike) -> Pixels:
    """Bilinear look-up in a field (rows, columns) or (rows, columns, channels).

    Coordinates are in field sizes and mirror at each border, so any number is valid.
    """
    rows, columns = field.shape[:2]
    row, column = _mirrored(np.asarray(down), rows), _mirrored(np.asarray(across), columns)
    top, left = row.astype(np.int32), column.astype(np.int32)
    t, s = row - top, column - left
    if field.ndim == 3:
        t, s = t[..., None], s[..., None]
    upper = field[top, left] * (1 - s) + field[top, left + 1] * s
    lower = field[top + 1, left] * (1 - s) + field[top + 1, left + 1] * s
    between: Pixels = upper * (1 - t) + lower * t
    return between


def _mirrored(position: NDArray[Any], size: int) -> Pixels:
    folded: Pixels = (1 - np.abs(position % 2 - 1)) * (size - 1.001)
    return folded


def hill_shade(heights: Pixels, strength: float) -> Pixels:
    """Light (0..1) on a surface lit from the upper left; `strength` scales its relief."""
    down, across = np.gradient(heights)
    light: Pixels = np.clip(0.5 + (down + across) * strength * heights.shape[0], 0, 1)
    return light


def clouds(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Cover (0..1) of scattered clouds, flatter and denser towards the horizon."""
    _, y = grid(height, width)
    billow = noise(rng, height, width, cells=4, octaves=8, stretch=2.4)
    return step(0.5, 0.78, billow + 0.08 * y) * step(0.02, 0.12, y + 0.1)


def ripple(rng: np.random.Generator, height: int, width: int, horizon: float, *, scale: float) -> Pixels:
    """Noise (0..1) on a level plane seen in perspective below the horizon; calms down to 0.5 far away."""
    x, y = grid(height, width)
    depth = 1 / np.maximum(y - horizon, 0.004)
    surface = noise(rng, _SURFACE_PX, _SURFACE_PX, cells=10, octaves=6, gain=0.7)
    seen = sample(surface, depth * scale * 0.5 + 0 * x, (x - width / height / 2) * depth * scale * 0.25)
    calmed: Pixels = 0.5 + (seen - 0.5) * np.clip((y - horizon) * 14, 0, 1)
    return calmed
