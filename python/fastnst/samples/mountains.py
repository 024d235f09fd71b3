"""``mountains``: snow peaks above a forested lake, from a height field seen in perspective."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .noise import (
    Array,
    Rng,
    Shape,
    blur,
    fbm,
    from_image,
    grid,
    hex_rgb,
    lattice,
    mix,
    pick,
    ramp,
    smoothstep,
    to_image,
)
from .plants import bush, conifer, hazed, plant

SHAPE: Shape = (576, 768)
SHORE = 352  # row of the far shore
FOCAL = 700.0  # focal length in pixels
EYE = 0.16  # height of the eye above the lake in km
SUN = np.array([-0.80, 0.42, -0.12])  # towards the sun: right, up, away


def _terrain(rng: Rng, x: Array, z: Array) -> Array:
    """Height of the land above the lake in km at positions in km."""
    total = np.zeros(x.shape, np.float32)
    carry = np.ones(x.shape, np.float32)
    gain, size = 1.0, 0.34
    for octave in range(10):
        turn = 0.6 * octave
        u, v = x * np.cos(turn) - z * np.sin(turn), x * np.sin(turn) + z * np.cos(turn)
        n = lattice(rng, u * size + 7.3 * octave, v * size + 3.1)
        ridge = np.square(1 - np.abs(n)) if octave < 8 else 0.5 + 0.5 * n
        total += ridge * gain * carry
        carry = np.clip(ridge * carry * 2.0, 0, 1) if octave < 8 else carry
        gain, size = gain * 0.53, size * 2.03
    massif = np.exp(-(((x - 0.6) / 1.7) ** 2) - ((z - 8.2) / 2.2) ** 2) * 1.35
    massif = massif + np.exp(-(((x + 3.1) / 1.3) ** 2) - ((z - 7.0) / 1.8) ** 2) * 0.8
    massif = massif + np.exp(-(((x - 4.0) / 1.3) ** 2) - ((z - 7.6) / 2.0) ** 2) * 0.85
    rise = smoothstep(3.0, 6.5, z)
    return np.asarray(rise * (0.08 + 0.40 * total + massif * (0.42 + 0.74 * total)) - 0.02)


def _range(rng: Rng, sky: Array) -> Array:
    """The mountains in front of the sky, down to the shore."""
    columns = SHAPE[1]
    z = np.geomspace(2.9, 13.5, 620).astype(np.float32)[:, None]
    x = ((np.arange(columns, dtype=np.float32) - columns / 2) / FOCAL)[None, :] * z
    z = z + 0 * x
    h = _terrain(rng, x, z)
    dx = np.gradient(h, axis=1) / (z / FOCAL)
    dz = np.gradient(h, axis=0) / np.gradient(z, axis=0)
    # in the slanted frame of the slices a step in depth also moves sideways
    dz = dz - dx * x / z
    length = np.sqrt(dx * dx + dz * dz + 1)
    sun = SUN / np.linalg.norm(SUN)
    light = (-dx * sun[0] + sun[1] - dz * sun[2]) / length
    light = blur(light, 0.7)
    hollow = h - blur(h, 14)
    light = light + 1.6 * hollow.clip(-0.12, 0.02)
    steep = 1 - 1 / length
    grit = fbm(rng, h.shape, 16, 4)
    snow = smoothstep(0.95, 1.12, h + 0.10 * grit - 1.5 * (steep - 0.38) - 0.4 * hollow)
    wood = smoothstep(0.72, 0.52, h + 0.06 * grit + 0.3 * steep)
    rock = ramp(
        0.5 + 0.25 * grit + 0.12 * np.sin(h * 42 + 2.5 * grit + x),
        [0, 0.5, 1],
        "4a4650 77706e a39a8e",
    )
    tree = ramp(grit, [-1.5, 0, 1.6], "12241c 243d24 55662f")
    base = mix(mix(rock, tree, wood), hex_rgb("f6f8fc"), snow)
    warm = ramp(light, [-0.15, 0.12, 0.5, 0.95], "2a3655 56618a d8b79c fff1dc")
    rgb = base * warm * 1.12
    haze = 1 - np.exp(-((z - 2.5) / 17.0) - 0.05 * (1 / (h + 0.25)) * (z > 4.5))
    rgb = mix(rgb, hex_rgb("a9bfdc"), haze.clip(0, 0.75))
    fine = 3  # supersampling of the rows
    row = (SHORE - 10 - FOCAL * (h - EYE * 0.3) / z) * fine
    rows = SHAPE[0] * fine
    top = np.clip(np.rint(row), 0, rows - 1).astype(np.intp)
    # for each pixel, the nearest slice that reaches at least as high
    first = np.full((rows, columns), len(h), np.intp)
    np.minimum.at(first, (top, np.arange(columns)[None, :] + 0 * top), np.arange(len(h))[:, None])
    first = np.minimum.accumulate(first, axis=0)
    land = (first < len(h)).astype(np.float32)[..., None]
    shown = rgb[np.minimum(first, len(h) - 1), np.arange(columns)[None, :]] * land
    shown = shown.reshape(SHAPE[0], fine, columns, 3).mean(axis=1)
    return np.asarray(shown + sky * (1 - land.reshape(SHAPE[0], fine, columns, 1).mean(axis=1)))


def _sky(rng: Rng) -> Array:
    """Morning sky with lit heaps of cloud."""
    y, x = grid(SHAPE)
    rgb = ramp(y + 0 * x, [0, 150, 300, 360], "2f66ad 6fa3d6 c3d9e8 f3e3cc")
    heap = (
        fbm(rng, SHAPE, 190, 7, gain=0.55, stretch=2.0)
        + 1.1 * np.exp(-(((y - 150) / 90) ** 2))
        - 0.5
    )
    bulk = smoothstep(0.25, 1.3, heap)
    lit = blur(heap, 2) - pick(blur(heap, 6), y - 12, x - 14)
    cloud = ramp(lit - 0.25 * bulk, [-0.9, 0.0, 0.7], "8f9cb8 dfe0e6 fffaf0")
    return mix(rgb, cloud, bulk * 0.95)


def _forest(rng: Rng, scene: Image.Image) -> None:
    """Rows of spruces along the far shore, larger and less hazy towards the viewer."""
    sprites = [conifer(rng, 96) for _ in range(7)]
    for k in range(420):
        s = k / 420
        x = rng.uniform(-20, SHAPE[1] + 20)
        bay = 0.55 + 0.45 * np.cos(x / 118 + 0.4) + abs(x - 384) / 900
        tall = int((15 + 27 * s * bay) * rng.uniform(0.75, 1.2))
        sprite = sprites[k % 7].resize((max(int(tall * 0.46), 4), tall), Image.Resampling.BOX)
        plant(scene, hazed(sprite, (138, 160, 178), 0.5 * (1 - s)), x, SHORE - 13 * (1 - s) + 1)


def _lake(rng: Rng, rgb: Array) -> Array:
    """Fill everything below the shore with rippled reflections."""
    y, x = grid(SHAPE)
    depth = (y - SHORE).clip(0, None)
    near = depth / (SHAPE[0] - SHORE)
    # ripples keep their size on the water, so they grow towards the viewer
    u, v = x / (0.18 + near) * 0.25, 900 / (depth + 22)
    wave = lattice(rng, u / 16, v * 3.2) + 0.6 * lattice(rng, u / 7, v * 7.0)
    fine = lattice(rng, u / 3, v * 14)
    source = 2 * SHORE - y - depth * 0.12 + wave * (1.0 + 9 * near) + fine * 3 * near
    mirror = pick(rgb, source - 2, x + wave * (0.6 + 3 * near))
    tint = ramp(near + 0 * x, [0, 0.4, 1], "7fa6b8 2f6f86 0f3a4a")
    water = mix(mirror * 0.93, tint, 0.16 + 0.46 * near**1.2)
    band = lattice(rng, x / 300 + 3, depth / 21)
    gust = smoothstep(0.1, 0.7, band) * smoothstep(0.0, 0.12, near)
    water = mix(water, hex_rgb("bcd4e2"), 0.22 * gust)
    spark = smoothstep(0.75, 1.2, wave + 0.4 * fine) * (0.12 + 0.2 * gust)
    water = mix(water, hex_rgb("fff4dc"), spark)
    line = np.exp(-(((y - SHORE - 2) / 1.8) ** 2))
    water = mix(water, hex_rgb("d9d2b8"), 0.5 * line)
    return np.where((y >= SHORE)[..., None], water, rgb)


def _bank(rng: Rng, rgb: Array) -> Array:
    """The near bank: stones and grass in the corner, lit from the left."""
    y, x = grid(SHAPE)
    edge = 566 - 92 * smoothstep(330, 0, x) - 66 * smoothstep(560, 768, x)
    edge = edge + 6 * fbm(rng, SHAPE, 60, 4)
    land = smoothstep(-1.2, 1.2, y - edge)
    stones = fbm(rng, SHAPE, 26, 5, gain=0.5, stretch=1.7)
    light = 0.5 + 0.5 * np.tanh((np.roll(stones, -2, axis=1) - np.roll(stones, 2, axis=1)) * -3)
    stone = ramp(light + 0.1 * stones, [0, 0.5, 1], "2b2a2a 6f6a62 c9bca3")
    blades = fbm(rng, SHAPE, 9, 3, stretch=0.25)
    grass = ramp(blades + 0.6 * fbm(rng, SHAPE, 50, 2), [-1.8, 0, 1.8], "1a2a12 51702a b9b65a")
    turf = smoothstep(10, 34, y - edge + 7 * stones)
    ground = mix(stone, grass, turf) * (0.75 + 0.25 * smoothstep(0, 30, y - edge))[..., None]
    wet = smoothstep(10, 0, y - edge)
    return mix(rgb, ground * (1 - 0.45 * wet)[..., None], land)


def draw() -> Image.Image:
    """Render the picture, 768x576 RGB."""
    rng = np.random.default_rng(61)
    rgb = _range(rng, _sky(rng))
    scene = to_image(rgb)
    _forest(rng, scene)
    rgb = _bank(rng, _lake(rng, from_image(scene)))
    scene = to_image(rgb)
    for x, base, tall in (
        (712, 590, 330), (640, 578, 210), (764, 596, 430), (26, 560, 395), (96, 545, 250),
        (150, 548, 150),
    ):  # fmt: skip
        plant(scene, conifer(rng, tall), x, base)
    for _ in range(26):
        x = rng.choice([rng.uniform(0, 250), rng.uniform(600, 768)])
        size = int(rng.uniform(18, 46))
        plant(
            scene,
            bush(rng, size + 14, size, "0b140c 1c3018 3f5a24 7d8740"),
            x,
            572 + rng.uniform(-14, 22),
        )
    return scene
