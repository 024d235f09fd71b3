"""``swirl``: a night sky in long, swirling strokes of oil paint above a sleeping village."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .brush import Canvas, Stroke
from .noise import Array, Shape, fbm, from_image, grid, mix, palette, ramp, smoothstep

SHAPE: Shape = (512, 640)
# y, x, radius of the disc: the moon first, then the stars
LIGHTS = (
    (92.0, 548.0, 27.0), (70.0, 70.0, 11.0), (150.0, 158.0, 9.0), (52.0, 215.0, 8.0),
    (44.0, 360.0, 10.0), (150.0, 455.0, 8.0), (228.0, 78.0, 10.0), (262.0, 585.0, 9.0),
    (290.0, 430.0, 7.0), (285.0, 205.0, 7.0),
)  # fmt: skip
# y, x, strength (sign gives the sense of rotation), reach in pixels
VORTICES = ((165.0, 305.0, 1.7, 95.0), (235.0, 425.0, -1.3, 62.0), (110.0, 120.0, -0.5, 70.0))


def _flow() -> tuple[Array, Array]:
    """Direction of the sky in radians, and the phase of its light and dark bands."""
    y, x = grid(SHAPE)
    rng = np.random.default_rng(11)
    vx = np.ones(SHAPE, np.float32) * 0.55
    vy = 0.35 * np.sin(x / 95 + y / 140)
    phase = y / 19 + 1.6 * np.sin(x / 95 + 0.6) + 0.5 * fbm(rng, SHAPE, 120, 2)
    for cy, cx, strength, reach in VORTICES:
        dy, dx = y - cy, x - cx
        r = np.hypot(dy, dx) + 1e-3
        pull = strength * 2.2 * np.exp(-((r / reach) ** 2))
        vx = vx - (dy / r) * pull + (dx / r) * pull * 0.18
        vy = vy + (dx / r) * pull + (dy / r) * pull * 0.18
        inside = np.exp(-((r / (reach * 0.95)) ** 4))
        spiral = r / 8.5 - np.sign(strength) * np.arctan2(dy, dx)
        phase = phase * (1 - inside) + spiral * inside
    for cy, cx, radius in LIGHTS:
        dy, dx = y - cy, x - cx
        r = np.hypot(dy, dx) + 1e-3
        pull = 5.0 * np.exp(-((r / (radius * 3.0)) ** 4))
        vx, vy = vx - dy / r * pull, vy + dx / r * pull
    return np.arctan2(vy, vx).astype(np.float32), phase


def _sky(phase: Array) -> Array:
    """Bands of blue with the moon and the stars in their halos."""
    y, x = grid(SHAPE)
    rng = np.random.default_rng(12)
    band = 0.5 + 0.5 * np.sin(phase) + 0.16 * fbm(rng, SHAPE, 40, 3)
    glow = smoothstep(210, 330, y + 0 * x) * 0.22
    codes = "0b1a4a 142e78 1f4fa8 2f74c4 6fa9d0 b7d4cf"
    rgb = ramp(band * 0.92 + glow, [0.0, 0.25, 0.5, 0.72, 0.95, 1.2], codes)
    for cy, cx, radius in LIGHTS:
        r = np.hypot(y - cy, x - cx) / radius
        ring = 0.5 + 0.5 * np.cos(r * 4.6)
        halo = ramp(r, [0.0, 0.9, 1.3, 2.2, 3.2], "fff7c4 fde36a f6bd2e d9cf6a 86b7b6")
        halo = mix(halo, ramp(r, [0.5, 2.0, 3.2], "e8971c 9db46a 2a5ba6"), 0.6 * (1 - ring))
        rgb = mix(rgb, halo, smoothstep(3.5, 2.1, r))
    return rgb


def _ground(rgb: Array, angle: Array) -> tuple[Array, Array, Array]:
    """Add hills, village and cypress; returns colours, directions and a map of the details."""
    y, x = grid(SHAPE)
    rng = np.random.default_rng(13)
    detail = np.zeros(SHAPE, bool)
    far = 352 - 34 * np.exp(-(((x - 520) / 150) ** 2)) + 12 * np.sin(x / 46)
    near = 402 + 14 * np.sin(x / 70 + 1.2) - 0.03 * x
    for top, codes, wave in (
        (far, "16305c 24508a 4b7fa6", 0.5),
        (near, "0c2433 1d4a4a 4f7a4a", 0.8),
    ):
        land = y > top
        tone = 0.5 + 0.5 * np.sin((y - top) / 9 + 0.8 * fbm(rng, SHAPE, 60, 3))
        rgb = np.where(land[..., None], ramp(tone, [0, 0.55, 1], codes), rgb)
        slope = np.arctan(np.gradient(top[0]))[None, :] + wave * 0.35 * np.sin(x / 40 + y / 26)
        angle = np.where(land, slope, angle)
    image = Image.new("RGBA", (SHAPE[1], SHAPE[0]))
    draw = ImageDraw.Draw(image)
    walls = ("#31507a", "#3f5d74", "#57647a", "#2a3f66")
    for i, left in enumerate(range(210, 620, 37)):
        base = 424 + int(13 * np.sin(i * 1.9))
        wide, tall = 27 + 5 * (i % 3), 22 + 4 * (i % 2)
        draw.rectangle((left, base - tall, left + wide, base), fill=walls[i % 4])
        peak = (left + wide // 2, base - tall - 17)
        roof = "#7a4a3c" if i % 3 else "#2c2f55"
        draw.polygon([(left - 4, base - tall), peak, (left + wide + 4, base - tall)], fill=roof)
        for k in (6, 17):
            draw.rectangle((left + k, base - 14, left + k + 6, base - 6), fill="#ffcf4a")
    draw.rectangle((398, 372, 415, 424), fill="#4a5f86")
    draw.polygon([(394, 374), (406, 296), (419, 374)], fill="#1b2750")
    over = from_image(image)
    rgb = mix(rgb, over[..., :3], over[..., 3])
    detail |= over[..., 3] > 0.5
    angle = np.where(detail & (y > 300), np.float32(np.pi / 2), angle)
    sway = 104 + 9 * np.sin(y / 34)
    half = np.interp(y, [140, 175, 300, 430, 512], [0, 11, 33, 47, 40])
    half = half * (1 + 0.22 * np.sin(y / 13 + x / 9))
    tree = (np.abs(x - sway) < half) & (y > 140)
    tone = 0.5 + 0.5 * np.sin((x - sway) / half.clip(1) * 6 + y / 30)
    rgb = np.where(tree[..., None], ramp(tone, [0, 0.5, 1], "0a1512 1b3a2a 56642f"), rgb)
    lick = -np.pi / 2 + 0.6 * np.sin(y / 26 + (x - sway) / 14)
    return rgb, np.where(tree, lick, angle).astype(np.float32), detail | tree


def draw() -> Image.Image:
    """Paint the picture, 640x512 RGB."""
    angle, phase = _flow()
    rgb, angle, detail = _ground(_sky(phase), angle)
    y, x = grid(SHAPE)
    canvas = Canvas(np.random.default_rng(14), mix(rgb, palette("1b2a4a")[0], 0.5))
    canvas.layer(Stroke(8.5, 62, thickness=2.0, hue=0.035), angle, rgb, 10)
    canvas.layer(Stroke(5.0, 50, thickness=2.4, hue=0.05, contrast=0.22), angle, rgb, 9.5)
    near = detail.copy()
    for cy, cx, radius in LIGHTS:
        near |= np.hypot(y - cy, x - cx) < 3.0 * radius
    canvas.layer(Stroke(2.9, 17, thickness=2.2, hue=0.04, dry=0.2), angle, rgb, 4.6, near)
    village = detail & (x > 190)
    fine = Stroke(1.7, 8, thickness=1.2, hue=0.03, dry=0.1, taper=0.2)
    canvas.layer(fine, angle, rgb, 2.8, village)
    return canvas.render(depth=1.3)
