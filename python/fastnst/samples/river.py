"""The river of ``harbour``: rippled reflections, and boats that float on them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .noise import (
    Array,
    Rng,
    Shape,
    from_image,
    grid,
    hex_rgb,
    lattice,
    mix,
    pick,
    ramp,
    smoothstep,
)

SHAPE: Shape = (576, 768)
WATER = 408  # row of the waterline in pixels
SUPER = 3  # supersampling of the boats
Point = tuple[float, float]


def _ripples(rng: Rng) -> tuple[Array, Array]:
    """Slope of the water towards the viewer and sideways, in perspective."""
    y, x = grid(SHAPE)
    depth = (y - WATER).clip(0, None)
    v, u = 5200 / (depth + 38) + 0 * x, (x - 384) / (depth + 70) * 110
    wave = lattice(rng, u / 26, v / 4.2) + 0.6 * lattice(rng, u / 11 + 9, v / 1.9)
    wave = wave + 0.35 * lattice(rng, u / 5, v / 0.9)
    return wave, lattice(rng, u / 14 + 30, v / 3.0)


def water(rng: Rng, rgb: Array) -> Array:
    """Green river water that mirrors everything above the waterline."""
    y, x = grid(SHAPE)
    depth = (y - WATER).clip(0, None)
    near = depth / (SHAPE[0] - WATER)
    wave, sway = _ripples(rng)
    source = 2 * WATER - y - depth * 0.95 + wave * (2.5 + 15 * near)
    mirror = pick(rgb, source.clip(0, WATER - 1), x + sway * (1.0 + 6 * near))
    deep = ramp(near + 0.05 * wave, [0, 0.5, 1], "4a6a5a 2a4f4c 12302f")
    gaze = (0.74 - 0.26 * near + 0.16 * wave).clip(0.15, 0.9)
    water = mix(deep, mirror * 0.94, gaze)
    sky = smoothstep(0.75, 1.3, wave + 0.3 * sway) * (0.25 + 0.35 * near)
    water = mix(water, hex_rgb("cfe2ee"), sky)
    water = water * (1 - 0.45 * np.exp(-depth / 3.0))[..., None]
    return np.where((y >= WATER)[..., None], water, rgb)


def _hull(
    pen: ImageDraw.ImageDraw, x: float, y: float, long: float, paint: tuple[str, str]
) -> None:
    """A wooden boat, ``long`` pixels from stem to stern, its waterline at row ``y``."""
    t = np.linspace(-1, 1, 33)
    tall = long * 0.15
    rim = -tall * (0.85 + 0.55 * np.abs(t) ** 2.4)
    keel = np.where(
        np.abs(t) < 0.8, 0.0, -tall * ((np.abs(t) - 0.8).clip(0, None) / 0.2) ** 1.4 * 1.1
    )
    planks = 6
    for k in range(planks):
        a, b = k / planks, (k + 1) / planks
        upper, lower = rim + (keel - rim) * a, rim + (keel - rim) * b + 0.3
        tone = 1.12 - 0.11 * k
        rgb = tuple(int(min(int(paint[k == 1][i : i + 2], 16) * tone, 255)) for i in (0, 2, 4))
        top = [
            (float((x + c * long / 2) * SUPER), float((y + r) * SUPER))
            for c, r in zip(t, upper, strict=True)
        ]
        low = [
            (float((x + c * long / 2 * 0.99) * SUPER), float((y + r) * SUPER))
            for c, r in zip(t, lower, strict=True)
        ]
        pen.polygon(top + low[::-1], fill=(rgb[0], rgb[1], rgb[2]))
        pen.line(low, fill="#241a14", width=1)
    inner = rim + tall * 0.30 * (1 - t**2)
    top = [
        (float((x + c * long / 2) * SUPER), float((y + r) * SUPER))
        for c, r in zip(t, rim, strict=True)
    ]
    low = [
        (float((x + c * long / 2) * SUPER), float((y + r) * SUPER))
        for c, r in zip(t, inner, strict=True)
    ]
    pen.polygon(top + low[::-1], fill="#4a3424")
    pen.line(top, fill="#e6d2a8", width=3)
    for c in (-0.4, 0.05, 0.45):
        left, row = x + c * long / 2, y - tall * 0.84
        pen.rectangle([v * SUPER for v in (left, row, left + long * 0.06, row + 2)], fill="#b08a5a")


def boats(rng: Rng, rgb: Array) -> Array:
    """Rowing boats and two sailing boats, with their reflections on the ripples."""
    sheet = Image.new("RGBA", (SHAPE[1] * SUPER, SHAPE[0] * SUPER))
    wave, sway = _ripples(rng)
    y, x = grid(SHAPE)
    fleet = (
        (118, 428, 84, ("8a2f26", "e8dcc0"), 142.0), (660, 432, 92, ("24466a", "e8dcc0"), 158.0),
        (262, 452, 74, ("6f7f3a", "d8c890"), 0.0), (420, 440, 66, ("9a6a3a", "5a3a20"), 0.0),
        (520, 478, 104, ("b84a2a", "f0e0c0"), 0.0), (190, 514, 138, ("2f6a6a", "e8d8b0"), 0.0),
    )  # fmt: skip
    for column, line, long, paint, mast in fleet:
        sheet.paste((0, 0, 0, 0), (0, 0, *sheet.size))
        pen = ImageDraw.Draw(sheet)
        if mast:
            _rig(pen, column, line, long, mast)
        _hull(pen, column, line, long, paint)
        layer = from_image(sheet.resize((SHAPE[1], SHAPE[0]), Image.Resampling.BOX))
        reach = int(min(line + max(mast, 40) + 14, SHAPE[0]))
        rows = slice(line - 3, reach)
        depth = (y[rows] - line).clip(0, None)
        near = (y[rows] - WATER) / (SHAPE[0] - WATER)
        flip = pick(
            layer, 2 * line - y[rows] + wave[rows] * (1 + 7 * near), x + sway[rows] * (1 + 6 * near)
        )
        fade = flip[..., 3] * (y[rows] >= line) * np.exp(-depth / 90) * 0.8
        rgb[rows] = mix(rgb[rows], flip[..., :3] * hex_rgb("a8b8a8"), fade)
        shadow = np.exp(-(((x - column) / (long * 0.47)) ** 4) - ((y[rows] - line - 1) / 3.0) ** 2)
        rgb[rows] *= (1 - 0.6 * shadow)[..., None]
        rgb = mix(rgb, layer[..., :3], layer[..., 3])
    return rgb


def _rig(pen: ImageDraw.ImageDraw, column: int, line: int, long: int, mast: float) -> None:
    """Mast, boom with furled sail, stays and pennant of a moored sailing boat."""

    def put(x: float, y: float) -> Point:
        return ((column + x) * SUPER, (line + y) * SUPER)

    head = put(4, -mast)
    for foot in (put(-long * 0.47, -14), put(long * 0.47, -15), put(-8, -12), put(14, -12)):
        pen.line([head, foot], fill="#4a4038", width=1)
    pen.line([put(4, -8), head], fill="#8a6238", width=7)
    pen.line([put(3.4, -8), put(3.4, -mast)], fill="#d8a868", width=2)
    pen.line([put(4, -27), put(-long * 0.44, -24)], fill="#7a5430", width=5)
    sail = [
        put(4, -33),
        put(-long * 0.2, -33),
        put(-long * 0.42, -27),
        put(-long * 0.42, -24),
        put(4, -26),
    ]
    pen.polygon(sail, fill="#e8dcc0")
    for k in range(6):
        x = 2 - long * 0.07 * k
        pen.line([put(x, -33), put(x - 2, -25)], fill="#b09a78", width=2)
    pen.polygon([head, put(18, -mast + 4), put(4, -mast + 8)], fill="#c8322a")
