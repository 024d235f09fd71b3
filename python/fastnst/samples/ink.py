"""``ink``: mountains in mist and a crooked pine, cross-hatched in black ink on warm paper."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .brush import Canvas, Stroke
from .noise import (
    Array,
    Rng,
    Shape,
    blur,
    fbm,
    gradient,
    grid,
    hex_rgb,
    mix,
    palette,
    ramp,
    smoothstep,
)

SHAPE: Shape = (512, 640)
INK = "14120f"
# mean row, height and roughness of each range in pixels, and its darkness, far to near
RANGES = ((250, 150, 0.5, 0.42), (330, 120, 0.7, 0.7), (420, 80, 0.9, 1.0))


def _tones(rng: Rng) -> tuple[Array, Array, Array]:
    """Darkness 0..1, hatching direction in radians and a map of the outlines."""
    y, x = grid(SHAPE)
    tone = 0.05 + 0.22 * smoothstep(0.0, 1.2, fbm(rng, SHAPE, 120, 3, stretch=3))
    tone = tone + 0.14 * smoothstep(180, 0, y)
    moon = np.hypot(y - 104, x - 468)
    tone = np.where(moon < 50, 0.0, tone + 0.3 * np.exp(-((moon - 50) / 45).clip(0, None)))
    angle = np.arctan2(x - 468, -(y - 104)) + np.zeros(SHAPE, np.float32)
    outline = np.abs(moon - 50) < 0.9
    for k, (row, high, rough, dark) in enumerate(RANGES):
        line = fbm(rng, (1, SHAPE[1] + 8), 170 - 30 * k, 6, gain=0.48)[:, 4:-4]
        peaks = np.abs(line) ** 0.8 * np.sign(line)
        bias = (0.9, -0.4, 0.3)[k] * np.cos((x - (230, 470, 120)[k]) / (150, 120, 170)[k])
        top = row - high * (0.42 * peaks + 0.55 * bias)
        body = y > top
        rock = fbm(rng, SHAPE, 90, 5, gain=0.55, ridged=True) * 11 * rough
        dome = blur((rock - 0.55 * (y - top)).astype(np.float32), 1.6)
        down, across = gradient(dome)
        facet = smoothstep(-0.5, 0.75, across + 0.45 * down)
        mist = smoothstep(high * 1.5, high * 0.25, y - top)
        shade = dark * (0.22 + 0.85 * facet) * (0.3 + 0.7 * mist)
        tone = np.where(body, shade, tone)
        fall = np.arctan2(1.0 + 0.5 * np.abs(across), across * 1.7)
        angle = np.where(body, fall, angle)
        outline = (outline & ~body) | (np.abs(y - top) < 1.0) | (body & (facet > 0.93) & (k > 0))
    bright = np.exp(-(((x - 130) / 150) ** 2) - ((y - 320) / 130) ** 2)
    tone = tone * (1 - 0.72 * bright)
    water = y > 432 + 5 * np.sin(x / 60)
    ripple = 0.32 + 0.3 * np.sin(
        (y - 420).clip(0, None) ** 0.8 * 0.9 + 2 * fbm(rng, SHAPE, 60, 2, stretch=5)
    )
    ripple = ripple * (0.5 + 0.5 * smoothstep(0, 1, fbm(rng, SHAPE, 150, 2, stretch=3)))
    tone = np.where(water, ripple, tone)
    angle = np.where(water, 0.04 * np.sin(x / 30), angle)
    return tone.astype(np.float32), angle.astype(np.float32), outline & ~water


def _hatch(canvas: Canvas, rng: Rng, tone: Array, angle: Array, outline: Array) -> None:
    """Layers of parallel pen lines, one more direction for each step of darkness."""
    ink = np.broadcast_to(hex_rgb(INK), (*SHAPE, 3))
    soft = {"hue": 0.02, "contrast": 0.1, "streak": 0.0, "thickness": 0.2, "dry": 0.5, "taper": 0.8}
    for turn, threshold, radius, length, spacing in (
        (0.0, 0.12, 0.85, 30, 6.0),
        (0.0, 0.34, 1.0, 26, 5.0),
        (0.95, 0.52, 0.9, 22, 5.2),
        (-0.85, 0.68, 0.9, 20, 5.0),
        (0.15, 0.84, 1.6, 20, 5.0),
    ):
        where = tone + 0.07 * rng.normal(0, 1, SHAPE) * (tone > 0.01) > threshold
        canvas.layer(Stroke(radius, length, **soft), angle + turn, ink, spacing, where)
    down, across = gradient(blur(outline.astype(np.float32), 2.5))
    along = np.arctan2(across, -down).astype(np.float32)
    canvas.layer(Stroke(1.5, 13, **soft), along, ink, 2.6, outline)


def _limb(canvas: Canvas, rng: Rng, knots: list[tuple[float, float]], size: float) -> None:
    """A crooked limb through (row, column) knots, ``size`` pixels thick at the root."""
    points = np.array(knots)
    s = np.linspace(0, len(points) - 1, 40)
    line = np.stack([np.interp(s, np.arange(len(points)), points[:, c]) for c in (0, 1)], axis=1)
    line[1:-1] = (line[:-2] + line[1:-1] + line[2:]) / 3
    line[1:-1] = (line[:-2] + line[1:-1] + line[2:]) / 3
    side = np.gradient(line, axis=0)
    side = np.stack([-side[:, 1], side[:, 0]], axis=1)
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-6
    body = Stroke(1.2, 16, vary=0.3, contrast=0.3, hue=0.02, dry=0.6, taper=0.5, thickness=0.4)
    paths, tones = [], []
    for i in range(38):
        wide = size * (1 - 0.8 * i / 38)
        for _ in range(int(3 + wide * 1.3)):
            k = np.clip(i + np.arange(-2, 3), 0, 39)
            off = rng.uniform(-0.5, 0.5)
            paths.append(line[k] + side[k] * off * wide + rng.normal(0, 0.5, (1, 2)))
            tones.append(0 if off < rng.uniform(-0.5, 0.75) else 1)
    colours = palette("100d0a 8f8468")[np.array(tones)]
    canvas.strokes(body, np.stack(paths).astype(np.float32), colours)


def _pine(canvas: Canvas, rng: Rng) -> None:
    """The tree: bark in dry strokes, needles in fans that make flat, separate pads."""
    y, x = grid(SHAPE)
    bank = (y > 470 - 55 * np.exp(-((x / 150) ** 2)) + 5 * np.sin(x / 13)) & (x < 330)
    bank = bank & (y > 440 + 0.25 * x)
    dark = np.broadcast_to(hex_rgb(INK), (*SHAPE, 3))
    rough = Stroke(2.2, 18, contrast=0.2, hue=0.02, dry=0.7, taper=0.6, thickness=0.4)
    canvas.layer(rough, 0.25 + 0.5 * np.sin(x / 20 + y / 9), dark, 5.0, bank)
    _limb(canvas, rng, [(470, 70), (420, 88), (360, 70), (310, 104), (250, 96), (205, 130)], 24)
    boughs = (
        ((385, 78), (372, 120), (384, 160), (370, 205)), ((330, 92), (318, 50), (326, 18)),
        ((300, 102), (284, 150), (292, 196), (280, 236)), ((245, 98), (232, 60), (238, 30)),
        ((215, 124), (200, 165), (206, 190)), ((205, 130), (180, 128), (160, 108)),
    )  # fmt: skip
    for bough in boughs:
        _limb(canvas, rng, [(float(a), float(b)) for a, b in bough], 9)
    pads = np.array(
        [(366, 205, 44), (362, 148, 30), (318, 22, 40), (276, 240, 46), (276, 168, 34),
         (230, 34, 38), (197, 192, 42), (158, 104, 44), (182, 146, 26), (318, 64, 22)]
    )  # fmt: skip
    look = Stroke(0.8, 13, vary=0.3, contrast=0.1, hue=0.03, thickness=0.3, dry=0.2, taper=0.9)
    t = np.linspace(0, 1, 5)[None, :]
    for row, col, wide in pads:
        count = int(wide * 15)
        across = rng.uniform(-1, 1, (count, 1))
        root_y = row - 9 * (1 - across**2) * rng.random((count, 1)) * wide / 40 + 3
        root_x = col + across * wide
        clump = np.round(root_x / 9) * 9  # needles gather in tufts
        root_x = clump + (root_x - clump) * 0.45
        turn = -np.pi / 2 + across * 0.7 + rng.uniform(-1.1, 1.1, (count, 1))
        reach = rng.uniform(7, 14, (count, 1))
        rows, cols = root_y + reach * t * np.sin(turn), root_x + reach * t * np.cos(turn)
        needles = np.stack([rows, cols], axis=2).astype(np.float32)
        canvas.strokes(look, needles, palette("15130f 15130f 4a453a")[rng.integers(0, 3, count)])


def _seal(canvas: Canvas) -> None:
    """The red seal in the corner."""
    t = np.linspace(-1, 1, 9)
    for k in range(4):
        bar = np.stack([np.full(9, 462.0 + 6 * k), 596 + 11 * t], axis=1)[None].astype(np.float32)
        look = Stroke(3.6, 24, vary=0, taper=0.05, dry=0.5, contrast=0.2, hue=0, thickness=0.2)
        canvas.strokes(look, bar, palette("a8281c"))


def draw() -> Image.Image:
    """Draw the picture, 640x512 RGB."""
    rng = np.random.default_rng(41)
    tone, angle, outline = _tones(rng)
    fibres = fbm(rng, SHAPE, 6, 3, stretch=4) + fbm(rng, SHAPE, 160, 3)
    paper = ramp(fibres, [-3, 0, 3], "d9c9a4 ecdfc0 f6ecd4")
    wash = blur(tone, 5) * (0.85 + 0.1 * fbm(rng, SHAPE, 30, 4))
    paper = mix(paper, hex_rgb("4a4640"), (0.55 * wash).clip(0, 0.6))
    canvas = Canvas(rng, paper)
    _hatch(canvas, rng, tone, angle, outline)
    _pine(canvas, rng)
    _seal(canvas)
    return canvas.render(depth=0.35, gloss=0.0)
