"""The demo's close and indoor scenes: portrait, flower, still life, products, living room."""

from typing import Final

import numpy as np

from photo_pipeline.demo.painting import (
    Pixels,
    grid,
    hill_shade,
    mix,
    noise,
    ramp,
    rgb,
    sample,
    soften,
    step,
)


def bokeh(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Lights far out of focus."""
    x, y = grid(height, width)
    image = ramp(
        y + 0.25 * noise(rng, height, width, cells=2), (0, "#131a2b"), (0.6, "#3a2a33"), (1.2, "#140f14")
    )
    palette = ["#ffb455", "#ff8a4a", "#ffd9a0", "#e8574a", "#6fa8ff", "#8fe0c0"]
    for _ in range(70):
        at_x, at_y = rng.uniform(-0.05, width / height + 0.05), rng.normal(0.42, 0.2)
        radius = rng.uniform(0.015, 0.075)
        # Only the square around the disc: 70 passes over the whole picture took two seconds.
        rows = slice(max(0, int((at_y - radius) * height) - 3), max(0, int((at_y + radius) * height) + 3))
        columns = slice(max(0, int((at_x - radius) * height) - 3), max(0, int((at_x + radius) * height) + 3))
        away = np.hypot(x[:, columns] - at_x, y[rows] - at_y)
        disc = step(radius * 1.0, radius * 0.9, away) * (0.65 + 0.35 * step(radius * 0.6, radius, away))
        image[rows, columns] += (disc * rng.uniform(0.08, 0.5))[..., None] * rgb(str(rng.choice(palette)))
    return image


def portrait(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A person against the light; head and shoulders."""
    x, y = grid(height, width)
    light = ramp(
        y + 0.3 * noise(rng, height, width, cells=2), (0, "#f7c98a"), (0.6, "#d98a5e"), (1.3, "#4e3540")
    )
    image = mix(light, bokeh(rng, height, width) * 1.6, np.full((height, width), 0.35, np.float32))
    middle = 0.5 * width / height + 0.05 * rng.normal()
    u, v = (x - middle) + 0 * y, y + 0 * x
    strands = 0.012 * noise(rng, height, width, cells=14, stretch=0.3)
    hair = np.hypot(u / 0.16, (v - 0.4) / 0.205) - strands * 8
    bun = np.hypot(u - rng.choice([-0.07, 0.0, 0.07]), v - 0.2) / 0.085 - strands * 10
    hair = np.minimum(hair, bun) if rng.random() < 0.6 else hair
    neck = np.maximum(np.abs(u) / (0.075 + 0.35 * np.clip(v - 0.62, 0, 1) ** 2 * 8), (0.5 - v) * 9)
    chest = np.hypot(u / 0.42, (v - 1.08) / 0.37) ** 1.25
    shape = np.minimum(np.minimum(hair, neck), chest)
    body = ramp(v + u + 4 * strands, (0.1, "#3d2a2b"), (0.6, "#20171c"), (1.2, "#120d12"))
    image = mix(image, body, step(1.015, 0.985, shape))
    rim = np.exp(-(((shape - 0.985) / 0.035) ** 2)) * step(-0.25, 0.25, u * 0.7 - (v - 0.45) * 0.4)
    return mix(image, image + rgb("#ffc98a") * 0.9, rim)


def flower(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A daisy-like flower before a blurred garden."""
    x, y = grid(height, width)
    blur = noise(rng, height, width, cells=3, octaves=3)
    image = ramp(blur, (0, "#16311c"), (0.5, "#3f6b34"), (0.8, "#93ad55"), (1, "#d8d58c"))
    hue = [
        ("#5a1040", "#d8487f", "#ffd0dc"),
        ("#7a2a00", "#f08a1e", "#ffe08a"),
        ("#2b2068", "#7a68c8", "#dcd4ff"),
    ]
    dark, body, pale = hue[int(rng.integers(3))]
    u, v = x - 0.52 * width / height, (y - 0.5) * 1.08
    radius, angle = np.hypot(u, v) / 0.44, np.arctan2(v, u)
    for layer, reach in enumerate((1.0, 0.9, 0.74, 0.52)):
        count = 13 - layer
        turn = angle * count / (2 * np.pi) + 0.37 * layer + 0.04 * np.sin(3 * angle + layer)
        across = np.abs(turn % 1 - 0.5) * 2
        lengths = reach * (0.93 + 0.1 * rng.random(count))[np.floor(turn).astype(int) % count]
        edge = lengths * (1 - across**2.6 * 0.75) - radius
        veins = 0.06 * np.sin(across * 34) * np.clip(radius, 0, 1) + 0.05 * noise(
            rng, height, width, cells=20
        )
        tone = radius / reach * 0.75 + 0.28 * (1 - across) + veins - 0.12
        tint = ramp(tone, (0.05, dark), (0.45, body), (0.95, pale)) * (1 - 0.09 * (3 - layer))
        shade = soften(step(-0.05, 0.05, edge), 10)[..., None]
        image = mix(image * (1 - 0.45 * shade), tint, step(-0.004, 0.006, edge))
    return _flower_heart(image, rng, radius, angle)


def _flower_heart(image: Pixels, rng: np.random.Generator, radius: Pixels, angle: Pixels) -> Pixels:
    # Fermat's spiral, read backwards: seeds are where both spiral phases peak, as in a sunflower.
    rings = (radius / 0.25) ** 2 * 60
    seeds = np.cos(2 * np.pi * rings * 0.21 + 21 * angle) * np.cos(2 * np.pi * rings * 0.13 - 34 * angle)
    light = (
        0.55
        + 0.3 * seeds
        - 0.5 * radius / 0.25 * np.sin(angle + 0.6)
        + 0.1 * noise(rng, *radius.shape, cells=40)
    )
    heart = ramp(light, (0, "#3a1d05"), (0.45, "#b8791a"), (0.8, "#f2c53d"), (1.2, "#fff3b0"))
    shade = np.exp(-((np.clip(radius - 0.24, 0, 1) / 0.06) ** 2))[..., None]
    return mix(image * (1 - 0.45 * shade), heart, step(0.255, 0.245, radius + 0.01 * seeds))


# Place across, radius, place away from the camera; in the units of the table.
_FRUIT: Final = (
    (-0.5, 0.34, 0.1),
    (0.16, 0.3, -0.06),
    (0.62, 0.26, 0.3),
    (-0.1, 0.17, -0.5),
    (0.46, 0.14, -0.46),
)
# Shadow, body and light of an orange, an apple, a lime, a plum and a quince.
_SKINS: Final = (
    ("#3d1206", "#d9701a", "#ffc65c"),
    ("#2a0508", "#a81e22", "#f0664a"),
    ("#12200a", "#6f962a", "#d8e07a"),
    ("#150a1e", "#4a2a5c", "#a884b8"),
    ("#33240a", "#d8b02c", "#fff0a0"),
)


def still_life(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Five round fruits on a wooden table, by one soft light."""
    x, y = grid(height, width)
    u, v = np.broadcast_arrays((x - 0.5 * width / height) * 1.0, 0.5 - y)
    ray = np.stack([u, v - 0.12, np.full_like(u, 1.35)], axis=-1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    eye, sun = np.array([0, 0.62, -2.1], np.float32), np.array([-0.62, 0.66, -0.42], np.float32)
    balls = [np.array([cx + rng.normal(0, 0.02), r, cz, r], np.float32) for cx, r, cz in _FRUIT]
    skins = rng.permutation(_SKINS)
    floor = -eye[1] / np.minimum(ray[..., 1], -1e-4)
    ground = eye + ray * np.minimum(floor, 12)[..., None]
    plank = np.clip(ground[..., 2] * 0.18 + 0.6, 0, 1), np.clip(ground[..., 0] * 0.18 + 0.5, 0, 1)
    wood = sample(noise(rng, 900, 900, cells=18, octaves=6, stretch=14), *plank)
    table = ramp(wood, (0.15, "#3b2112"), (0.5, "#7d4f2b"), (0.85, "#b98552"))
    lit = _sunlight(ground, balls, sun)
    wall = ramp(u * 0.5 - v + 0.2 * noise(rng, height, width, cells=2), (-0.5, "#b9b2a4"), (0.5, "#5b564f"))
    image = mix(wall, table * lit[..., None], step(3.6, 3.4, ground[..., 2] + 0 * u) * (ray[..., 1] < -1e-4))
    for ball, skin in sorted(zip(balls, skins, strict=True), key=lambda pair: -pair[0][2]):
        _fruit(image, rng, ball, list(skin), eye, ray, sun)
    return image


def _sunlight(ground: Pixels, balls: list[Pixels], sun: Pixels) -> Pixels:
    """How much light reaches each point of the table (0..1): a soft shadow and a contact shadow per ball."""
    lit = np.ones(ground.shape[:2], np.float32)
    for ball in balls:
        towards = ball[:3] - ground
        along = towards @ sun
        miss = np.sqrt(np.maximum((towards**2).sum(-1) - along**2, 0))
        lit *= 1 - 0.72 * step(ball[3] * 1.25, ball[3] * 0.72, miss) * (along > 0)
        lit *= 1 - 0.6 * np.exp(-((np.hypot(towards[..., 0], towards[..., 2]) / (0.75 * ball[3])) ** 2))
    return lit


def _fruit(
    image: Pixels,
    rng: np.random.Generator,
    ball: Pixels,
    skin: list[str],
    eye: Pixels,
    ray: Pixels,
    sun: Pixels,
) -> None:
    """Paints one fruit over the image; fruits come from back to front."""
    towards = ball[:3] - eye
    along = ray @ towards
    inside = ball[3] ** 2 - (towards @ towards - along**2)
    # Only the square around it: most of the picture is not fruit.
    box = tuple(slice(hit.min(), hit.max() + 1) for hit in np.nonzero(inside > 0))
    ray, along, inside = ray[box], along[box], inside[box]
    normal = (eye + ray * (along - np.sqrt(np.maximum(inside, 0)))[..., None] - ball[:3]) / ball[3]
    bumps = noise(rng, *inside.shape, cells=36, octaves=3) - 0.5
    diffuse = np.clip(normal @ sun, 0, 1) + 0.12 * np.clip(0.4 - normal[..., 1], 0, 1) + 0.12
    blush = noise(rng, *inside.shape, cells=3, octaves=5) - 0.5
    tint = ramp(diffuse * 0.8 + 0.25 * blush + 0.12 * bumps, (0, skin[0]), (0.5, skin[1]), (1.05, skin[2]))
    half = sun - ray
    gloss = np.clip((normal * half).sum(-1) / np.linalg.norm(half, axis=-1) + 0.02 * bumps, 0, 1) ** 60
    contact = 1 - 0.5 * np.exp(-((normal[..., 1] + 1) * 3))
    tint = tint * contact[..., None] + 0.7 * gloss[..., None]
    image[box] = mix(image[box], tint, step(0, 0.012 * ball[3], inside))


def vase_outline(height: int, width: int) -> tuple[Pixels, Pixels]:
    """The vase's horizontal position in -1..1 across its body, and its coverage (0..1), both per pixel."""
    x, y = grid(height, width)
    knots = (0.16, 0.2, 0.28, 0.45, 0.6, 0.75, 0.86, 0.88)
    turned = np.interp(y + 0 * x, knots, (0.085, 0.07, 0.075, 0.17, 0.215, 0.17, 0.1, 0.1))
    profile = soften(soften(turned.astype(np.float32), 70), 40)
    across = (x - 0.5 * width / height) / profile
    inside = step(1.01, 0.99, np.abs(across)) * step(0.158, 0.162, y) * step(0.882, 0.878, y)
    return across.astype(np.float32), inside


def vase(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A glazed vase before a paper backdrop."""
    x, y = grid(height, width)
    image = ramp(
        y + 0.15 * (x - 0.5) + 0.03 * noise(rng, height, width),
        (0, "#cfc8bd"),
        (0.62, "#e9e3d8"),
        (1, "#b5aa9b"),
    )
    across, inside = vase_outline(height, width)
    middle = 0.5 * width / height
    shadow = np.exp(-(((y - 0.885) / 0.03) ** 2) - ((x - middle - 0.12) / 0.24) ** 2)
    image = (
        image
        * (1 - 0.55 * shadow - 0.25 * np.exp(-(((y - 0.88) / 0.012) ** 2) - ((x - middle) / 0.11) ** 2))[
            ..., None
        ]
    )
    facing = np.sqrt(np.clip(1 - across**2, 0, 1))
    light = 0.12 + 0.8 * np.clip(0.75 * facing - 0.6 * across, 0, 1.2) + 0.06 * np.clip(across, 0, 1) ** 4
    glaze = step(0.46, 0.5, y + 0.05 * noise(rng, height, width, cells=6, stretch=0.3) + 0 * x)
    speckle = step(0.62, 0.8, noise(rng, height, width, cells=120, octaves=2)) * 0.35
    upper = ramp(light, (0, "#0c2a33"), (0.6, "#2f7f86"), (1, "#a9dcd6"))
    lower = ramp(light - speckle * 0.4, (0, "#2e1f16"), (0.6, "#a98560"), (1, "#f0dcc0"))
    clay = mix(upper, lower, glaze)
    shine = (
        np.exp(-(((across + 0.42) / 0.07) ** 2)) * step(0.2, 0.3, y) * step(0.74, 0.5, y) * (1 - glaze * 0.8)
    )
    mouth = np.hypot(across, (y - 0.166) / 0.012)
    clay = mix(clay + 0.6 * shine[..., None], rgb("#14201f"), step(1.0, 0.85, mouth))
    return mix(image, clay, inside)


def scarf(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A checked wool scarf in folds."""
    x, y = grid(height, width)
    drape = noise(rng, height, width, cells=3, octaves=4, stretch=0.35, gain=0.4)
    folds = 0.5 + 0.5 * np.sin(9 * (x * 0.9 + 0.35 * y) + 9 * drape)
    warp = 0.05 * (folds - 0.5) + 0.02 * drape
    stripe, cross = (x + warp) * 4.2, (y + 0.35 * x - warp) * 4.2
    red = step(0.235, 0.265, np.abs(stripe % 1 - 0.5))[..., None]
    blue = 0.55 * step(0.15, 0.12, np.abs(cross % 1 - 0.5))[..., None]
    base: Pixels = red * rgb("#8e1f2b") + (1 - red) * rgb("#e6d8bd")
    base = (1 - blue) * base + blue * rgb("#1f2f52")
    base = mix(base, rgb("#c9962e"), step(0.035, 0.02, np.abs(stripe % 1 - 0.5)))
    fluff = noise(rng, height, width, cells=90, octaves=2) - 0.5
    thread = 0.06 * (np.sin(stripe * 260) * np.sin(cross * 260) + fluff)
    shade = 0.22 + 0.75 * folds**0.8 + 0.3 * (hill_shade(soften(drape, 6), 0.02) - 0.5)
    cloth: Pixels = base * (shade + thread)[..., None] + 0.12 * (folds**8)[..., None]
    return cloth


def living_room(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A room with a sofa, a window and a patch of sun."""
    x, y = grid(height, width)
    u, v = np.broadcast_arrays(x - 0.5 * width / height, y)
    image = ramp(
        v - 0.5 * u + 0.08 * noise(rng, height, width, cells=3),
        (-0.3, "#f1e9dc"),
        (0.6, "#cdbfae"),
        (1.2, "#a89886"),
    )
    depth = 1 / np.maximum(v - 0.42, 0.05)
    board = u * depth * 2.2
    grain = sample(noise(rng, 800, 800, cells=20, stretch=0.08), depth % 3 / 3, (board * 0.13) % 1)
    tone = grain * 0.7 + 0.25 * np.sin(np.floor(board) * 12.9) ** 2 - 0.35 * (board % 1 < 0.03)
    sun = step(0.12, 0.1, np.abs(u + 0.32 - 0.6 * (v - 0.86))) * step(0.74, 0.76, v) * step(0.95, 0.93, v)
    floor = ramp(tone, (0, "#4a2f1c"), (0.5, "#94683f"), (1, "#cfa474")) * (
        0.75 + 0.75 * soften(sun, 8)[..., None]
    )
    image = mix(image, floor, step(0.688, 0.692, v))
    image = mix(image, rgb("#f7f3ea"), step(0.665, 0.668, v) * step(0.692, 0.69, v))
    view = ramp(
        v + 0.1 * noise(rng, height, width, cells=8),
        (0.1, "#bfe0f7"),
        (0.4, "#eef6ee"),
        (0.45, "#8fae62"),
        (0.6, "#5c7f3c"),
    )
    pane = np.maximum(np.abs(u + 0.36) / 0.17, np.abs(v - 0.32) / 0.22)
    bars = np.minimum(np.abs(u + 0.36), np.abs(v - 0.3)) > 0.006
    image = mix(image, rgb("#fbf8f1"), step(1.09, 1.07, pane))
    image = mix(image, view * 1.15, step(1.0, 0.98, pane) * bars)
    image = image + 0.35 * np.exp(-(np.hypot(u + 0.36, v - 0.32) ** 2) * 7)[..., None] * rgb("#fff3d8")
    return _sofa(image, rng, u, v)


# Middle (across, down), half width and half height; the last is in front.
_CUSHIONS: Final = (
    (0.25, 0.56, 0.3, 0.115),
    (0.1, 0.665, 0.15, 0.06),
    (0.39, 0.665, 0.15, 0.06),
    (0.25, 0.745, 0.32, 0.05),
    (-0.06, 0.665, 0.045, 0.11),
    (0.56, 0.665, 0.045, 0.11),
)


def _sofa(image: Pixels, rng: np.random.Generator, u: Pixels, v: Pixels) -> Pixels:
    weave = noise(rng, *u.shape, cells=100, octaves=2) - 0.5
    art = ramp(noise(rng, *u.shape, cells=3, octaves=7), (0.2, "#22384f"), (0.5, "#c9704a"), (0.8, "#f1d9a8"))
    frame = np.maximum(np.abs(u - 0.26) / 0.13, np.abs(v - 0.27) / 0.1)
    shadow = soften(step(1.16, 1.12, np.maximum(np.abs(u - 0.27) / 0.13, np.abs(v - 0.285) / 0.1)), 8)
    image = mix(image * (1 - 0.35 * shadow[..., None]), rgb("#3a2a1e"), step(1.1, 1.08, frame))
    image = mix(mix(image, rgb("#f5f1e8"), step(1.02, 1.0, frame)), art, step(0.8, 0.78, frame))
    ground = np.exp(-(((v - 0.805) / 0.025) ** 2) - ((u - 0.25) / 0.34) ** 4)
    image = image * (1 - 0.65 * ground[..., None])
    for at_u, at_v, wide, tall in _CUSHIONS:
        across, down = (u - at_u) / wide, (v - at_v) / tall
        edge = (np.abs(across) ** 7 + np.abs(down) ** 5) ** 0.17
        light = 0.62 - 0.3 * down - 0.18 * across - 0.35 * np.clip(edge - 0.8, 0, 1) * 3 + 0.35 * weave
        cloth = ramp(light, (0, "#101f26"), (0.5, "#3f6672"), (1, "#9fc0c4"))
        dim = soften(step(1.12, 0.9, edge), 10)[..., None]
        image = mix(image * (1 - 0.3 * dim), cloth, step(1.01, 0.98, edge))
    return image
