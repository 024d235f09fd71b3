"""``poppies``: a summer field in thick, short strokes of the palette knife; upright format."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .brush import Canvas, Stroke
from .noise import Array, Rng, Shape, fbm, grid, mix, palette, ramp, smoothstep

SHAPE: Shape = (640, 512)
HORIZON = 196.0  # row of the skyline in pixels


def _backdrop(rng: Rng) -> tuple[Array, Array]:
    """Sky, hills with trees and the field without its flowers: colours and directions."""
    y, x = grid(SHAPE)
    cloud = fbm(rng, SHAPE, 130, 4, stretch=2.0)
    rgb = ramp(y / HORIZON + 0 * x, [0, 0.5, 1], "3f8f9e 8cc4b4 f6d9a0")
    lit = ramp(cloud, [0.0, 0.9, 2.0], "f3b98a f9dfb4 fff6df")
    rgb = mix(rgb, lit, smoothstep(0.1, 0.7, cloud))
    angle = 0.5 * np.sin(x / 70 + y / 55) - 0.35 + 0.3 * cloud
    far = HORIZON - 26 - 17 * np.sin(x / 88 + 0.7) - 8 * np.sin(x / 31)
    hill = ramp(fbm(rng, SHAPE, 70, 3), [-1, 0, 1], "4f6f8f 7f8fb0 b79fb0")
    rgb = np.where((y > far)[..., None], hill, rgb)
    angle = np.where(y > far, 0.35 * np.cos(x / 88 + 0.7), angle)
    crown = HORIZON - 13 - 24 * np.abs(np.sin(x / 37 + 0.4) * np.sin(x / 90 + 2)) ** 0.7
    wood = ramp(fbm(rng, SHAPE, 34, 3), [-1.2, 0, 1.2], "16403a 3c6b34 b59a32")
    rgb = np.where((y > crown)[..., None], wood, rgb)
    angle = np.where(y > crown, 1.1 + 0.7 * np.sin(x / 9), angle)
    depth = ((y - HORIZON) / (SHAPE[0] - HORIZON)).clip(0, 1)
    patch = 0.9 * fbm(rng, SHAPE, 90, 4, stretch=2.6) + 0.5 * np.sin(depth * 22)
    light = ramp(patch, [-1.4, -0.3, 0.5, 1.5], "2c5a2e 6f8f2f c9b03a f3d56b")
    deep = ramp(patch, [-1.4, -0.3, 0.5, 1.5], "0f3536 27603a 5d8a34 b3b84a")
    field = mix(light, deep, smoothstep(0.1, 0.7, depth + 0 * x))
    rgb = np.where((y > HORIZON)[..., None], field, rgb)
    lean = (x - SHAPE[1] / 2) / SHAPE[1]
    grass = -np.pi / 2 + lean * 1.1 + 0.35 * np.sin(x / 43 + y / 60)
    blend = smoothstep(0.0, 0.3, depth + 0 * x)
    angle = np.where(y > HORIZON, grass * blend + 0.06 * (1 - blend), angle)
    return rgb.astype(np.float32), angle.astype(np.float32)


def _flowers(rng: Rng) -> list[tuple[float, float, float, int]]:
    """Row, column, radius (pixels) and kind (0 poppy, 1 cornflower) of each, far to near."""
    flowers = []
    for _ in range(620):
        depth = rng.random() ** 0.8
        y = HORIZON + 8 + depth * (SHAPE[0] - HORIZON)
        x = rng.uniform(-10, SHAPE[1] + 10)
        drift = np.sin(x / 75 + depth * 9) + 0.7 * np.sin(x / 31 - depth * 16)
        if drift < rng.uniform(-1.0, 0.9) or (depth > 0.5 and rng.random() < 0.4):
            continue
        kind = int(rng.random() < 0.17)
        radius = (2.6 + 30 * depth**1.25) * rng.uniform(0.75, 1.1) * (0.6 if kind else 1.0)
        flowers.append((y, x, radius, kind))
    return sorted(flowers)


def _flower(canvas: Canvas, rng: Rng, y: float, x: float, radius: float, kind: int) -> None:
    """One flower: dabs of the knife that fan out around a dark heart."""
    reds = palette("7d0f1c b3121d d9261c ee4a22 f97a3d ffb08a")
    blues = palette("1b2a7a 2c49b0 4a6fd0 7b93e0 a9b6ee c9d3f6")
    paint = blues if kind else reds
    t = np.linspace(-1, 1, 7)[None, :]
    for ring, count, reach in ((0.55, 9, 0.5), (0.5, 6, 0.34)):
        turn = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 6)
        turn = rng.permutation(turn + rng.normal(0, 0.2, count))
        dist = radius * (ring + reach * t + 0.12 * rng.normal(0, 1, (count, 1)))
        bend = turn[:, None] + 0.5 * t * rng.normal(0, 0.6, (count, 1))
        path = np.stack([y + 0.7 * dist * np.sin(bend), x + dist * np.cos(bend)], axis=2)
        light = 2.0 - 1.7 * np.sin(turn + 0.6) + rng.normal(0, 0.8, count)
        tone = np.clip(np.rint(light), 0, 5).astype(int)
        look = Stroke(
            max(radius * 0.36, 1.3), max(radius * reach * 2, 4), hue=0.03, thickness=3.2,
            contrast=0.14, streak=0.8, dry=0.25, taper=0.2, vary=0.35,
        )  # fmt: skip
        canvas.strokes(look, path.astype(np.float32), paint[tone])
    if radius > 9:
        s = np.linspace(-1, 1, 5)[None, :, None]
        centre = np.array([y, x]) + rng.normal(0, radius * 0.08, (4, 1, 2))
        way = rng.normal(0, 1, (4, 1, 2)) * radius * 0.12
        heart = palette("1a0d1c 2a1230 140a10 4b5a2a")
        look = Stroke(radius * 0.11, radius * 0.3, thickness=2.0, dry=0.1)
        canvas.strokes(look, (centre + s * way).astype(np.float32), heart)


def draw() -> Image.Image:
    """Paint the picture, 512x640 RGB."""
    rng = np.random.default_rng(21)
    rgb, angle = _backdrop(rng)
    y, _ = grid(SHAPE)
    canvas = Canvas(rng, mix(rgb, palette("a5532a")[0], 0.6))
    wide = angle + (0.45 * fbm(rng, SHAPE, 45, 2))
    knife = Stroke(13, 44, taper=0.1, thickness=3.2, hue=0.05, streak=0.7, dry=0.3, contrast=0.13)
    canvas.layer(knife, wide, rgb, 14)
    dabs = Stroke(5.5, 24, taper=0.15, thickness=2.2, hue=0.06, streak=0.7, dry=0.35, contrast=0.16)
    canvas.layer(dabs, wide, rgb, 15, (y < HORIZON + 60) & np.ones(SHAPE, bool))
    blades = Stroke(3.6, 46, taper=0.7, thickness=2.0, hue=0.07, contrast=0.2)
    canvas.layer(blades, wide, rgb * 1.08, 9, (y > HORIZON + 40) & np.ones(SHAPE, bool))
    for flower in _flowers(rng):
        _flower(canvas, rng, *flower)
    return canvas.render(depth=1.25, gloss=0.16)
