"""``waves``: a breaking sea as a colour woodcut, with contour lines and claws of foam."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .noise import (
    Array,
    Rng,
    Shape,
    fbm,
    grid,
    hex_rgb,
    mix,
    palette,
    pick,
    ramp,
    smoothstep,
    to_image,
    value_noise,
)

SHAPE: Shape = (512, 640)
SCALE = 2  # supersampling of outlines
KEY = "0f2140"  # the key block's ink
CREAM = "f3e6c8"
BLUES = "123a6b 1d5b94 4a8fb8 9cc3cf"

# Knots (row, column) of the back and of the face of each wave, from its foot to its lip
GREAT_BACK = (
    (540, -160),
    (430, -40),
    (300, 28),
    (170, 92),
    (88, 176),
    (54, 266),
    (70, 340),
    (118, 392),
)
GREAT_FACE = (
    (540, 330),
    (470, 268),
    (400, 228),
    (320, 210),
    (240, 222),
    (180, 262),
    (148, 320),
    (152, 372),
)
SMALL_BACK = ((560, 300), (480, 372), (408, 430), (356, 482), (330, 530), (340, 570), (366, 592))
SMALL_FACE = ((560, 640), (500, 590), (456, 562), (418, 548), (392, 550), (378, 566), (378, 584))


def _curve(knots: tuple[tuple[int, int], ...], count: int) -> Array:
    """Catmull-Rom curve through the knots, (count, 2)."""
    points = np.array(knots, dtype=np.float64)
    points = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    s = np.linspace(0, len(points) - 3 - 1e-6, count)
    i = s.astype(np.intp)
    t = (s - i)[:, None]
    a, b, c, d = (points[i + k] for k in range(4))
    return np.asarray(
        0.5
        * (
            2 * b
            + (c - a) * t
            + (2 * a - 5 * b + 4 * c - d) * t**2
            + (3 * b - a - 3 * c + d) * t**3
        )
    )


class _Block:
    """A sheet under print: polygons and lines at twice the final resolution."""

    def __init__(self, ground: Array) -> None:
        size = (SHAPE[1] * SCALE, SHAPE[0] * SCALE)
        self.image = to_image(ground).resize(size, Image.Resampling.BILINEAR)
        self.draw = ImageDraw.Draw(self.image)

    def area(self, points: Array, code: str) -> None:
        """Fill a polygon of (row, column) points in pixels."""
        self.draw.polygon([(x * SCALE, y * SCALE) for y, x in points], fill="#" + code)

    def line(self, points: Array, widths: Array, code: str) -> None:
        """A line whose width in pixels changes from point to point."""
        step = np.gradient(points, axis=0)
        step /= np.linalg.norm(step, axis=1, keepdims=True) + 1e-9
        normal = np.stack([step[:, 1], -step[:, 0]], axis=1) * (np.asarray(widths) / 2)[:, None]
        self.area(np.vstack([points + normal, (points - normal)[::-1]]), code)


def _claw(block: _Block, rng: Rng, root: Array, turn: float, size: float, bend: float) -> None:
    """A hooked finger of foam with smaller fingers on its outer side."""
    t = np.linspace(0, 1, 12)
    heading = turn + bend * t**1.3
    path = (
        root + np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0) * size / 12
    )
    width = size * 0.3 * (1 - t) ** 0.75 + 0.8
    block.line(path, width + 2.6, KEY)
    block.line(path, width, CREAM)
    for k in (4, 7):
        side = heading[k] - np.sign(bend) * rng.uniform(0.6, 1.0)
        short = path[k] + np.outer(t[:6], [np.sin(side), np.cos(side)]) * size * 0.5
        taper = size * 0.15 * (1 - t[:6] * 1.7) + 0.5
        block.line(short, taper + 2.4, KEY)
        block.line(short, taper, CREAM)


def _wave(
    block: _Block,
    rng: Rng,
    back: tuple[tuple[int, int], ...],
    face: tuple[tuple[int, int], ...],
    lines: int,
    claw: float,
) -> None:
    """A breaking wave between two curves: blue bands with white ribs, and foam along the crest."""
    outer, inner = _curve(back, 160), _curve(face, 160)
    t = np.linspace(0, 1, 160)
    tip = np.clip((1 - t) * 5, 0, 1)
    block.area(np.vstack([outer, inner[::-1]]), KEY)
    blues = BLUES.split()
    edges = np.linspace(0, 1, lines + 1) ** 0.9
    for k in range(lines):
        low, high = edges[k] + 0.004, edges[k + 1] - 0.012
        ripple = 0.012 * np.sin(t * 26 + k)
        first = outer + (inner - outer) * (low + ripple)[:, None]
        last = outer + (inner - outer) * (high + ripple)[:, None]
        block.area(np.vstack([first, last[::-1]]), blues[(0, 1, 0, 2, 1, 0, 1, 3)[k % 8]])
        if k % 2:
            middle = 0.5 * (first + last)
            gap = np.linalg.norm(last - first, axis=1)
            swell = gap * (0.26 + 0.2 * np.sin(t * 17 + 2 * k)) * tip
            block.line(middle[6:], swell[6:].clip(0.6, None), CREAM)
    crest = outer[int(160 * 0.42) :]
    rim = inner[int(160 * 0.62) :]
    s = np.linspace(0, 1, len(crest))
    foam = (
        outer + (inner - outer) * (0.20 + 0.05 * np.sin(t * 40) + 0.035 * np.sin(t * 91))[:, None]
    )
    cap = np.vstack([crest, foam[int(160 * 0.42) :][::-1]])
    block.area(cap, CREAM)
    for path, width in ((foam[67:], 1.8), (outer, 3.0), (inner, 2.4)):
        block.line(path, np.full(len(path), width), KEY)
    for i in range(0, len(crest) - 2, 6):
        step = crest[i + 1] - crest[i]
        along = float(np.arctan2(step[0], step[1]))
        size = claw * (0.45 + 0.75 * s[i]) * rng.uniform(0.8, 1.2)
        inward = (foam[67:][min(i, len(foam[67:]) - 1)] - crest[i]) * rng.uniform(0.2, 0.7)
        _claw(
            block,
            rng,
            crest[i] + inward,
            along - rng.uniform(0.0, 0.9),
            size,
            rng.uniform(1.4, 2.6),
        )
    for i in range(0, len(rim), 5):
        size = claw * rng.uniform(0.6, 1.15)
        _claw(block, rng, rim[i], rng.uniform(0.5, 1.5), size, rng.uniform(0.8, 1.7))
    for _ in range(int(1.5 * claw)):
        at = crest[rng.integers(len(crest) // 3, len(crest))] + rng.normal(0, claw * 1.1, 2)
        at = at + np.array([claw * 0.4, claw * 1.2])
        r = rng.uniform(0.8, 3.4)
        circle = np.stack([np.sin(t[::10] * 6.3), np.cos(t[::10] * 6.3)], axis=1)
        block.area(at + circle * (r + 1.0), KEY)
        block.area(at + circle * r, CREAM)


def _swell(block: _Block, row: float, phase: float, lines: int, gap: float) -> None:
    """A rolling swell in front of or behind the waves, in contour lines ``gap`` pixels apart."""
    x = np.linspace(-10, SHAPE[1] + 10, 120)
    crest = row + 17 * np.sin(x / 74 + phase) + 7 * np.sin(x / 29 + 2 * phase)
    blues = BLUES.split()
    for k in range(lines):
        y = crest + k * gap + 2.5 * np.sin(x / 41 + phase + k * 0.8)
        sheet = np.vstack([np.stack([y, x], axis=1), [[600, 660], [600, -20]]])
        block.area(sheet, KEY)
        block.area(sheet + np.array([1.9, 0]), (CREAM, blues[2], blues[1], blues[0])[min(k, 3)])
        if k > 1:
            path = np.stack([y + gap * 0.5, x], axis=1)
            width = (2.4 * np.sin(x / 21 + k * 2 + phase)).clip(0.0, None)
            block.line(path, width, (blues[3], CREAM)[k % 2])


def _backdrop() -> Array:
    """Graded sky with bars of cloud, and a snow-capped mountain on the skyline."""
    y, x = grid(SHAPE)
    rng = np.random.default_rng(51)
    rgb = ramp(y + 0 * x, [0, 90, 230, 380], "b9a77e d9c596 efdfb8 e3b98a")
    cloud = np.sin(y / 17 + 1.5 * np.sin(x / 130)) + 0.7 * fbm(rng, SHAPE, 150, 2, stretch=4)
    rgb = mix(rgb, hex_rgb("f7edd2"), 0.8 * smoothstep(0.85, 0.95, cloud))
    rgb = mix(rgb, hex_rgb("8f8468"), 0.7 * (np.abs(cloud - 0.85) < 0.05))
    sun = np.hypot(y - 112, x - 520)
    rgb = mix(rgb, hex_rgb("c8452f"), 0.92 * smoothstep(43, 41.5, sun))
    flank = (
        268
        + 0.72 * np.abs(x - 470) ** 0.97
        + 4 * np.sin(x / 7)
        - 18 * np.exp(-(((x - 470) / 22) ** 2))
    )
    cap = 306 + 13 * np.abs(((x / 17) % 2) - 1)
    hill = ramp(y + 0 * x, [260, 330, 420], "27466e 44668a 8aa0a0")
    rgb = np.where(
        (y > flank)[..., None], np.where((y < cap)[..., None], hex_rgb(CREAM), hill), rgb
    )
    ridge = (np.abs(y - flank) < 1.4) | ((np.abs(y - cap) < 1.0) & (y > flank))
    return np.where(ridge[..., None], hex_rgb(KEY), rgb).astype(np.float32)


def draw() -> Image.Image:
    """Print the picture, 640x512 RGB."""
    rng = np.random.default_rng(52)
    block = _Block(_backdrop())
    _swell(block, 372, 0.4, 5, 17)
    _wave(block, rng, SMALL_BACK, SMALL_FACE, 9, 24)
    _wave(block, rng, GREAT_BACK, GREAT_FACE, 13, 52)
    _swell(block, 452, 2.1, 6, 15)
    y, x = grid(SHAPE)
    big = np.asarray(block.image.resize((SHAPE[1], SHAPE[0]), Image.Resampling.BOX))
    warp = 0.45 * fbm(rng, SHAPE, 9, 3)
    rgb = pick(big, y + warp, x + np.roll(warp, 40, axis=1)).astype(np.float32) / 255
    bend = 14 * fbm(rng, SHAPE, 150, 2, stretch=2)
    rings = np.sin((y + bend) * 0.62 + 3 * value_noise(rng, SHAPE, (9, 200)))
    grain = pick(value_noise(rng, SHAPE, (1.6, 90)), y + bend, x)
    ink = 1 - rgb.mean(axis=-1)
    rgb = rgb * (1 + (0.05 * rings + 0.10 * grain) * (0.35 + ink))[..., None]
    worn = smoothstep(1.2, 2.4, fbm(rng, SHAPE, 14, 4) + 0.6 * grain)
    rgb = mix(rgb, palette(CREAM)[0], 0.45 * worn)
    return to_image(rgb + 0.018 * fbm(rng, SHAPE, 3, 2)[..., None])
