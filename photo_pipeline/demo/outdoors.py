"""The demo's outdoor scenes that are painted rather than rendered: sea, sky, city, waterfall, house."""

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
    soften,
    step,
)


def sunset_sea(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A low sun over the sea, with its path of glitter."""
    x, y = grid(height, width)
    horizon, sun_x, sun_y = 0.56, 0.38 * width / height, 0.47
    away = np.hypot(x - sun_x, (y - sun_y) * 1.1)
    sky = ramp(y / horizon + 0 * x, (0, "#1f3a68"), (0.45, "#8a6a8f"), (0.75, "#e8925c"), (1, "#ffd08a"))
    cover = step(0.48, 0.74, noise(rng, height, width, cells=5, stretch=3.5)) * step(0.62, 0.2, y)
    sky = mix(sky, ramp(away, (0, "#ffdf9e"), (0.35, "#d9745a"), (1.2, "#4a4468")), 0.8 * cover)
    sky = sky + np.exp(-away * 6)[..., None] * rgb("#ffb867") * 0.7
    sky = mix(sky, rgb("#fff6d8"), step(0.052, 0.046, away))
    waves = ripple(rng, height, width, horizon, scale=1.1)
    rows = np.clip((2 * horizon - y - 0.16 * (waves - 0.2)) * height, 0, height - 1).astype(int)
    sea = sky[rows, np.arange(width)] * 0.62 * rgb("#b9c6d6")
    path = np.exp(-(((x - sun_x) / (0.05 + 0.55 * np.abs(y - horizon))) ** 2)) * step(0.5, 0.78, waves)
    sea = sea * (0.7 + 0.5 * waves[..., None]) + path[..., None] * rgb("#ffc27a") * 1.1
    return mix(sky, sea, step(horizon - 0.001, horizon + 0.001, y + 0 * x))


def cloudscape(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Heaps of cloud in a blue sky."""
    x, y = grid(height, width)
    sky = ramp(y + 0.1 * x, (0, "#1d5fae"), (0.6, "#5f9fd8"), (1.1, "#c5def0"))
    for cells, low in ((3, 0.50), (5, 0.56)):
        billow = noise(rng, height, width, cells=cells, octaves=8, stretch=1.5)
        light = 0.45 * hill_shade(soften(billow, 22), 0.16) + 0.3 * hill_shade(soften(billow, 5), 0.05)
        light = 0.2 + light + 0.25 * (0.5 - y) + 0.5 * (0.62 - billow)
        tint = ramp(light, (0, "#6f7f99"), (0.5, "#c3ccd8"), (0.85, "#fffaf0"), (1, "#ffffff"))
        sky = mix(sky, tint, step(low, low + 0.14, billow + 0.1 * (y - 0.5)))
    return sky


def night_city(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A skyline with lit windows, mirrored in a river."""
    x, y = grid(height, width)
    shore = 0.72
    image = ramp(y / shore + 0 * x, (0, "#0d1734"), (0.5, "#34375f"), (0.8, "#7d5a72"), (1, "#d08f6c"))
    image += 0.05 * clouds(rng, height, width)[..., None] * rgb("#c08a7a")
    for layer, (count, tallest) in enumerate(((34, 0.36), (26, 0.5), (18, 0.34))):
        for left in np.sort(rng.uniform(-0.05, 1, count)) * width:
            _building(image, rng, int(left), int(shore * height), tallest, haze=0.5 - 0.22 * layer)
    glow = np.stack([soften(np.clip(image[..., c] - 0.45, 0, 1), 18) for c in range(3)], axis=-1)
    image = image + 1.6 * glow
    waves = ripple(rng, height, width, shore, scale=0.35)
    rows = np.clip((2 * shore - y - 0.22 * (waves - 0.3) * (y - shore + 0.06) * 5) * height, 0, height - 1)
    water = image[rows.astype(int), np.arange(width)]
    streaked = np.stack([soften(water[..., c], 5) for c in range(3)], axis=-1) * rgb("#8fa0c0")
    return mix(image, streaked * 0.85, step(shore - 0.002, shore + 0.002, y + 0 * x))


def _building(
    image: Pixels, rng: np.random.Generator, left: int, shore: int, tallest: float, *, haze: float
) -> None:
    height, width = image.shape[:2]
    wide, tall = int(rng.uniform(0.04, 0.1) * height), int(rng.uniform(0.3, 1) * tallest * height)
    top, right = shore - tall, min(left + wide, width)
    left = max(left, 0)
    if right - left < 4:
        return
    wall = rgb("#10141f") * rng.uniform(0.7, 1.4) * (1 - haze) + rgb("#4a4258") * haze
    image[top:shore, left:right] = wall * np.linspace(0.85, 1.25, tall)[:, None, None]
    pitch = max(4, height // 90)
    rows, cols = np.mgrid[0:tall, 0 : right - left]
    lit = (rng.random((tall // pitch + 1, wide // pitch + 1)) < rng.uniform(0.08, 0.38)).astype(np.float32)
    lit *= rng.uniform(0.35, 1.0, lit.shape)
    pane = lit[rows // pitch, cols // pitch] * (rows % pitch > pitch // 3) * (cols % pitch > pitch // 4)
    warm = rgb(str(rng.choice(["#ffd089", "#ffb55e", "#ffe9c4", "#bcd4ff"])))
    image[top:shore, left:right] += (pane * (1 - 0.6 * haze))[..., None] * warm


def waterfall(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A waterfall between mossy cliffs; meant for portrait format."""
    x, y = grid(height, width)
    middle, pool = 0.5 * width / height, 0.8
    cliff = noise(rng, height, width, cells=5, octaves=8, stretch=0.45)
    moss = noise(rng, height, width, cells=4, octaves=7)
    light = hill_shade(cliff, 0.05)
    image = ramp(light, (0, "#0d100e"), (0.5, "#3a3c36"), (1, "#8c8a7c"))
    leaf = ramp(hill_shade(noise(rng, height, width, cells=26, octaves=5), 0.035) * (0.5 + 0.7 * moss),
                (0, "#081408"), (0.35, "#21441a"), (0.7, "#5a8a2c"), (1, "#b9cc62"))  # fmt: skip
    sides = np.abs(x - middle) / (0.2 + 0.12 * moss) - 0.35 + 0.5 * step(0.2, 0.0, y)
    image = mix(image, leaf, step(0.35, 0.75, moss + 0.35 * sides - 0.25))
    edge = 0.035 + 0.085 * y + 0.035 * (noise(rng, height, width, cells=3, stretch=0.25) - 0.5)
    silk = noise(rng, height, width, cells=3, octaves=8, stretch=0.06)
    fall = step(1.0, 0.55, np.abs(x - middle - 0.02 * np.sin(5 * y)) / edge - 0.5 * (silk - 0.5)) * step(
        0.1, 0.16, y + 0.1 * (moss - 0.5)
    )
    image = mix(image, ramp(silk, (0.2, "#8fa6b0"), (0.55, "#dfe9ec"), (0.8, "#ffffff")), 0.94 * fall)
    rows = np.clip(
        (2 * pool - y + 0.12 * (ripple(rng, height, width, pool - 0.05, scale=0.3) - 0.5)) * height,
        0,
        height - 1,
    )
    water = image[rows.astype(int), np.arange(width)] * rgb("#6f9a90") * 0.8
    image = mix(image, water, step(pool - 0.004, pool + 0.004, y + 0.02 * (moss - 0.5)))
    mist = np.exp(-(((y - pool) / 0.07) ** 2) - ((x - middle) / 0.2) ** 2) * (0.5 + 0.6 * soften(moss, 20))
    return mix(image, rgb("#e6eef0"), np.clip(mist + 0.25 * step(0.25, 0.0, y), 0, 0.9))


def house(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A brick house with a lawn and a path, as an estate agent shows it."""
    x, y = grid(height, width)
    u, v = np.broadcast_arrays(x - 0.5 * width / height, y)
    image = ramp(v, (0, "#4f8fcf"), (0.6, "#dcebf5"))
    image = mix(image, rgb("#ffffff"), 0.8 * clouds(rng, height, width))
    for side, reach in ((-0.62, 0.26), (0.66, 0.32), (-0.42, 0.16)):
        crown = noise(rng, height, width, cells=9, octaves=6)
        leaf = ramp(
            hill_shade(crown, 0.03) * 0.8 + 0.3 * (0.6 - v), (0, "#0f2410"), (0.5, "#3c6424"), (1, "#a8bb55")
        )
        image = mix(
            image, leaf, step(1.05, 0.85, np.hypot(u - side, (v - 0.5) * 0.9) / reach + 0.7 * (crown - 0.5))
        )
    grass = ripple(rng, height, width, 0.55, scale=0.12)
    lawn = ramp(grass + 0.3 * (v - 0.8), (0, "#2b4a17"), (0.5, "#5d8a2f"), (1, "#b5c465"))
    shaded = np.exp(-(((v - 0.8) / 0.05) ** 2)) * step(0.75, 0.4, np.abs(u + 0.1))
    image = mix(image, lawn * (1 - 0.5 * shaded[..., None]), step(0.735, 0.745, v + 0.02 * (grass - 0.5)))
    path = np.abs(u - 0.02) / (0.055 + 0.55 * np.clip(v - 0.76, 0, 1))
    image = mix(
        image, ramp(grass, (0, "#8a8176"), (1, "#d8cfc0")), step(1.05, 0.97, path) * step(0.76, 0.77, v)
    )
    return _facade(image, rng, u, v)


def _facade(image: Pixels, rng: np.random.Generator, u: Pixels, v: Pixels) -> Pixels:
    rough = noise(rng, *u.shape, cells=50, octaves=3)
    course, brick = v * 62, u * 26 + 0.5 * (np.floor(v * 62) % 2)
    mortar = np.maximum(step(0.86, 0.95, course % 1), step(0.94, 0.98, brick % 1))
    tone = (
        0.45 + 0.5 * (rough - 0.5) + 0.2 * np.sin(np.floor(course) * 12.9 + np.floor(brick) * 78.2) + 0.15 * u
    )
    wall = mix(ramp(tone, (0, "#6d3423"), (0.5, "#a85f43"), (1, "#d09a78")), rgb("#cbbba6"), 0.7 * mortar)
    wall = wall * (1 - 0.5 * step(0.44, 0.39, v))[..., None]
    image = mix(image, wall, step(0.425, 0.423, np.abs(u)) * step(0.385, 0.39, v) * step(0.772, 0.768, v))
    tiles = ramp(
        0.5 + 0.35 * np.sin(v * 300) * 0.4 + 0.8 * (rough - 0.5),
        (0, "#2c2a2e"),
        (0.6, "#56525a"),
        (1, "#8d8790"),
    )
    slope = np.abs(u) - (0.3 + 0.19 * (v - 0.2) / 0.21)
    image = mix(image, tiles, step(0.002, -0.002, slope) * step(0.198, 0.202, v) * step(0.412, 0.408, v))
    glass = ramp(
        v + 0.6 * u + 0.35 * noise(rng, *u.shape, cells=5),
        (0.3, "#1d2a38"),
        (0.7, "#5f7f9c"),
        (1.1, "#dbe8f0"),
    )
    for at_u, at_v in ((-0.3, 0.56), (-0.13, 0.56), (0.17, 0.56), (0.31, 0.56)):
        frame = np.maximum(np.abs(u - at_u) / 0.055, np.abs(v - at_v) / 0.085)
        image = mix(image, rgb("#f3efe6"), step(1.13, 1.1, frame))
        bars = np.minimum(np.abs(u - at_u), np.abs(v - at_v + 0.02)) > 0.004
        image = mix(image, glass, step(1.0, 0.97, frame) * bars)
    door = np.maximum(np.abs(u - 0.02) / 0.048, np.abs(v - 0.655) / 0.115)
    image = mix(image, rgb("#f3efe6"), step(1.14, 1.11, door) * step(0.772, 0.768, v))
    panel = 1 - 0.25 * (np.abs(np.abs(u - 0.02) - 0.024) < 0.003) - 0.2 * (rough - 0.5)
    return mix(image, rgb("#23483f") * panel[..., None], step(1.0, 0.97, door))
