"""``lighthouse``: a lighthouse on a cliff above a rough sea, in low evening sun."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .noise import (
    Array,
    Rng,
    Shape,
    blur,
    fbm,
    from_image,
    gradient,
    grid,
    hex_rgb,
    lattice,
    mix,
    pick,
    ramp,
    relief,
    smoothstep,
    to_image,
    value_noise,
)

SHAPE: Shape = (576, 768)
HORIZON = 330.0  # row of the skyline in pixels
SUN = (286.0, 150.0)  # row and column of the sun in pixels
AXIS = 560.0  # column of the tower's axis in pixels
TOWER = (104.0, 292.0)  # rows of the gallery and of the foot in pixels
SUPER = 3  # supersampling of the buildings


def _sky(rng: Rng) -> Array:
    """Evening sky: heaps of cloud lit from the sun's side, thin bars near the skyline."""
    y, x = grid(SHAPE)
    rgb = ramp(y + 0.06 * x, [0, 120, 230, 300, 345], "274a86 5f86b8 c9b7b0 f6c88c fbe0a8")
    from_sun = np.hypot((y - SUN[0]) * 1.25, x - SUN[1])
    rgb = rgb + np.exp(-from_sun / 95)[..., None] * hex_rgb("ffb45a") * 0.55
    # perspective: clouds flatten and crowd towards the skyline
    height = (HORIZON + 25 - y).clip(8, None)
    v, u = 3300 / height + 0 * x, (x - 384) * (120 / height) + 384
    big = fbm(rng, (420, 1800), 30, 7, gain=0.56, stretch=2.6)
    cover = pick(big, v, u * 0.55 + 500)
    heap = fbm(rng, SHAPE, 150, 7, gain=0.54, stretch=1.5)
    heap = 0.75 * heap + 0.35 * blur(cover, 1.0) + 0.7 * np.exp(-(((y - 115) / 95) ** 2)) - 0.3
    bulk = smoothstep(0.05, 0.95, heap)
    soft = blur(heap, 5)
    side: Array = np.zeros(SHAPE, np.float32)
    for k in (1, 2, 3):  # brightness falls with the cloud that lies between here and the sun
        side = side + (soft - pick(soft, y + 7 * k, x - 12 * k)) / (1.2 * k)
    light = 0.42 * side + 0.30 * (heap - soft) - 0.42 * (soft - 0.3)
    warm = ramp(light, [-0.9, -0.3, 0.1, 0.6], "4a4f72 8f86a0 efb795 fff0d2")
    pale = ramp(light, [-0.9, -0.3, 0.1, 0.6], "56668f 93a0bf dcd6d6 fffaf2")
    cloud = mix(warm, pale, smoothstep(150, 620, from_sun))
    rgb = mix(rgb, cloud, bulk * 0.96)
    disc = smoothstep(23, 20, np.hypot(y - SUN[0], x - SUN[1])) * (1 - 0.6 * bulk)
    return mix(rgb + np.exp(-from_sun / 34)[..., None] * 0.35, hex_rgb("fff6d8") * 1.5, disc)


def _sea(rng: Rng, sky: Array) -> Array:
    """Waves in perspective, that mirror the sky and glitter under the sun."""
    y, x = grid(SHAPE)
    depth = (y - HORIZON).clip(1.2, None)
    far = depth + 14
    v, u = 46000 / far + 0 * x, (x - 384) * (130 / far)
    scale = far / 200
    wave = np.zeros(SHAPE, np.float32)
    for k, size in enumerate((110, 62, 33, 17, 9, 5)):
        turn = (0.18, -0.25, 0.3, -0.4, 0.5, -0.2)[k]
        p, q = v + turn * u, (u - turn * v) / 2.3
        n = lattice(rng, q / size + 5 * k, p / size)
        seen = smoothstep(0.8, 3.0, size * far**2 / 46000)  # rows in one wave
        wave += (1 - 2 * np.abs(n) ** 0.8) * seen * 0.62**k
    wave = wave * 0.9 + 0.1
    fine = fbm(rng, SHAPE, 9, 4, stretch=2.6)
    height = blur((wave * 9 * scale + fine * 1.0 * scale**0.5).astype(np.float32), 0.7)
    down, across = gradient(height)
    mirror = pick(sky, 2 * HORIZON - y - depth * 0.2 + down * 46, x + across * 40)
    facing = np.clip(0.42 + 0.34 * down + 0.03 * wave, 0.05, 0.85)
    deep = ramp(depth / 240 + 0.10 * wave, [0, 0.35, 1], "47789a 1f5570 0d3346")
    rgb = mix(deep, mirror, facing)
    glow = smoothstep(0.25, 1.5, wave) * smoothstep(0.2, -0.5, down)
    rgb = mix(rgb, hex_rgb("3fa39a"), 0.38 * glow)
    lane = np.exp(-(((x - SUN[1]) / (26 + 0.42 * depth)) ** 2))
    sparkle = smoothstep(0.10, 0.75, -down + 0.25 * fine * scale**0.5 + 0.15 * wave)
    rgb = rgb + (lane * (0.10 + 0.95 * sparkle))[..., None] * hex_rgb("ffcf8a")
    lace = fbm(rng, SHAPE, 11, 4, gain=0.6, stretch=2.2, ridged=True)
    foam = smoothstep(1.25, 2.0, wave + 0.45 * lace) * smoothstep(6, 60, depth)
    rgb = mix(rgb, hex_rgb("f4f1ea") * (0.86 + 0.1 * lace)[..., None], 0.9 * foam)
    haze = np.exp(-depth / 14)
    return mix(rgb, hex_rgb("e6c39a"), 0.55 * haze)


def _cliff(rng: Rng, rgb: Array) -> tuple[Array, Array]:
    """Add the headland, of lit rock with turf on top and surf at its foot; also its mask."""
    y, x = grid(SHAPE)
    rough = fbm(rng, SHAPE, 80, 6, gain=0.55)
    crown = 296 - 14 * np.sin((x - 420) / 95) + 0.10 * (x - AXIS).clip(0, None) + 2.5 * rough
    crown = crown + 300 * smoothstep(455, 372, x + 9 * rough) ** 1.6
    foot = 470 + 0.19 * (x - 380) + 8 * np.sin(x / 37) + 4 * rough
    rock = smoothstep(-0.8, 0.8, y - crown) * smoothstep(0.8, -0.8, y - foot)
    columns = 0.8 * fbm(rng, SHAPE, 60, 6, gain=0.56, stretch=0.42, ridged=True)
    columns = columns + 0.42 * fbm(rng, SHAPE, 26, 5, gain=0.75, stretch=1.4, ridged=True)
    ledges = np.sin((y + 0.12 * x + 9 * rough) / 7.5) + 0.5 * np.sin((y + 12 * rough) / 3.1)
    bulge = 0.30 * (x - 384) - 0.10 * (y - crown)
    height = blur((columns * 10 + ledges * 2.2 + bulge).astype(np.float32), 0.55)
    light = relief(height, (-0.85, -0.25, 0.42))
    light = light + 0.12 * columns - 0.25 * smoothstep(560, 780, x + 20 * rough)
    stone = ramp(light, [-0.5, 0.0, 0.45, 1.0], "1f2029 4b4440 9a7c60 f0cfa0")
    stain = ramp(rough, [-2, 0, 2], "c9a98f e3d6c6 aab0b4")
    stone = stone * stain * 1.25
    stone = stone * (1 - 0.5 * smoothstep(44, 0, foot - y))[..., None]
    turf = smoothstep(34, 8, y - crown + 12 * columns - 5 * rough)
    blades = fbm(rng, SHAPE, 8, 4, stretch=0.4)
    slope = relief((rough * 9).astype(np.float32), (-0.8, -0.4, 0.5))
    grass = ramp(slope + 0.16 * blades, [-0.1, 0.45, 1.0], "20301c 5c7030 d8c468")
    ground = mix(stone, grass, turf)
    rgb = mix(rgb, ground, rock)
    surf = fbm(rng, SHAPE, 26, 6, gain=0.62, stretch=1.5)
    gap = (y - foot + 3 * surf) * 1.0
    reach = 16 + 13 * smoothstep(-0.5, 1.4, value_noise(rng, SHAPE, (60, 46)) * 2)
    spray = smoothstep(reach.max(), 0, np.abs(gap) - reach + 15 + 8 * surf)
    spray = smoothstep(0.2, 0.85, spray + 0.16 * surf)
    white = ramp(surf, [-1.5, 0.5, 2], "9fb2bd eee9df fffdf6")
    return mix(rgb, white, spray * smoothstep(360, 430, x + 8 * surf) * 0.95), rock


def _half(y: float) -> float:
    """Half the width of the tower at a row, in pixels."""
    top, foot = TOWER
    return float(17 + 13 * max((y - top) / (foot - top), 0) ** 1.15)


def _outlines() -> Array:
    """The tower and the keeper's house in flat colours, RGBA (height, width, 4)."""
    size = (SHAPE[1] * SUPER, SHAPE[0] * SUPER)
    image = Image.new("RGBA", size)
    draw = ImageDraw.Draw(image)

    def area(points: list[tuple[float, float]], fill: str) -> None:
        draw.polygon([(x * SUPER, y * SUPER) for x, y in points], fill=fill)

    def box(left: float, top: float, right: float, bottom: float, fill: str) -> None:
        area([(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    # keeper's house: gable wall, long wall, roof, chimneys, windows
    area([(612, 300), (612, 262), (632, 240), (652, 262), (652, 304)], "#f2e2c6")
    area([(652, 262), (728, 266), (728, 308), (652, 304)], "#a9a096")
    area([(632, 240), (709, 243), (733, 269), (655, 265)], "#7d3f30")
    area([(632, 240), (609, 265), (613, 267), (632, 245), (655, 268), (657, 264)], "#5a2a22")
    for k in range(1, 9):
        area([(632 + k * 2.7, 240 + k * 2.9), (709 + k * 2.8, 243 + k * 2.9),
              (709 + k * 2.8, 243.6 + k * 2.9), (632 + k * 2.7, 240.6 + k * 2.9)],
             "#5f2d24")  # fmt: skip
    for left in (648, 694):
        box(left, 226, left + 10, 246, "#93685a")
        box(left - 1, 224, left + 11, 228, "#c9a58c")
    for left, row in ((620, 268), (636, 268), (664, 275), (684, 276), (710, 277)):
        box(left - 1.5, row - 1.5, left + 9.5, row + 15.5, "#fff4e0" if left < 650 else "#c9c2b8")
        box(left, row, left + 8, row + 14, "#3a3f4f" if left != 684 else "#ffc860")
        box(left + 3.6, row, left + 4.4, row + 14, "#d9d0c0")
        box(left, row + 6.6, left + 8, row + 7.4, "#d9d0c0")
    box(626, 284, 636, 301, "#5a7a7a")
    for k in range(19):  # fence
        x = 440 + k * 5.2
        box(x, 290 - k * 0.25, x + 1.3, 300, "#e8d9c0" if k % 2 else "#cdbda6")
    box(440, 292, 536, 293.2, "#d9c9b0")
    # tower: tapering bands, windows, gallery, lantern
    top, foot = TOWER
    step = (foot + 8 - top) / 60
    for k in range(60):
        y0, y1 = top + step * k, top + step * (k + 1)
        band = "#c8322b" if (k // 9) % 2 else "#f4efe6"
        area([(AXIS - _half(y0), y0), (AXIS + _half(y0), y0), (AXIS + _half(y1), y1 + 0.4),
              (AXIS - _half(y1), y1 + 0.4)], band)  # fmt: skip
    for y, shift in ((135.0, -4), (190.0, 3), (243.0, -5)):
        box(AXIS + shift - 4.5, y - 1.5, AXIS + shift + 4.5, y + 14, "#d8cfc2")
        box(AXIS + shift - 3, y, AXIS + shift + 3, y + 13, "#2b3040")
    box(AXIS - 6, 274, AXIS + 7, 300, "#4a2a22")
    box(AXIS - 25, top - 5, AXIS + 25, top + 1, "#54504e")
    area(
        [(AXIS - 20, top + 8), (AXIS - 25, top), (AXIS + 25, top), (AXIS + 20, top + 8)], "#6b6560"
    )
    for k in range(-5, 6):
        x = AXIS + 24 * np.sin(k / 5 * np.pi / 2)
        box(x - 0.5, top - 18, x + 0.5, top - 5, "#4a4a4e")
    for y in (top - 18, top - 12):
        box(AXIS - 25, y, AXIS + 25, y + 1.2, "#4a4a4e")
    box(AXIS - 13, top - 33, AXIS + 13, top - 5, "#ffe9a8")
    for k in range(-2, 3):
        box(AXIS + k * 6.1 - 0.6, top - 33, AXIS + k * 6.1 + 0.6, top - 5, "#3d3a3a")
    box(AXIS - 13, top - 20, AXIS + 13, top - 19, "#3d3a3a")
    dome = [(AXIS + 17 * np.cos(t), top - 33 - 17 * np.sin(t)) for t in np.linspace(0, np.pi, 25)]
    area(dome, "#a02822")
    box(AXIS - 18, top - 35, AXIS + 18, top - 32, "#6f1c1a")
    box(AXIS - 0.7, top - 63, AXIS + 0.7, top - 49, "#3a3638")
    return from_image(image.resize((SHAPE[1], SHAPE[0]), Image.Resampling.BOX))


def _buildings(rgb: Array, land: Array) -> Array:
    """The tower and the house in sunlight, with the shadow they cast on ``land``."""
    layer = _outlines()
    top, foot = TOWER
    y, x = grid(SHAPE)
    s = ((x - AXIS) / (17 + 13 * ((y - top) / (foot - top)).clip(0, 1) ** 1.15)).clip(-1, 1)
    round_light = 0.30 + 0.85 * (-s * 0.80 + 0.55 * np.sqrt(1 - s * s)).clip(0, None)
    shade = ramp(round_light, [0.3, 0.62, 1.1], "59607f b89a92 fff0d6")
    tower = (np.abs(x - AXIS) < 31) & (y < 301)
    lamp = (np.abs(x - AXIS) < 13) & (y > top - 33) & (y < top - 5)
    rng = np.random.default_rng(72)
    wear = 1 + 0.035 * fbm(rng, SHAPE, 30, 5, stretch=0.35) + 0.02 * fbm(rng, SHAPE, 4, 2)
    paint = layer[..., :3] * wear[..., None]
    paint = np.where((tower & ~lamp)[..., None], paint * shade, paint * hex_rgb("fff0dc"))
    alpha = layer[..., 3]
    rgb = rgb * (1 - 0.35 * blur(pick(alpha, y - 3, x - 16), 4) * land)[..., None]
    rgb = mix(rgb, paint, alpha)
    glow = np.exp(-np.hypot(y - top + 19, x - AXIS) / 26)
    return np.asarray(rgb + glow[..., None] * hex_rgb("ffd98a") * 0.5)


def _gulls(rgb: Array) -> Array:
    """A few gulls in front of the clouds."""
    image = Image.new("L", (SHAPE[1] * SUPER, SHAPE[0] * SUPER))
    draw = ImageDraw.Draw(image)
    for x, y, w in (
        (300, 120, 15),
        (345, 150, 11),
        (262, 172, 9),
        (420, 96, 9),
        (222, 96, 7),
        (390, 190, 8),
    ):
        t = np.linspace(-1, 1, 13)
        line = [
            (
                float((x + w * k) * SUPER),
                float((y - w * 0.55 * np.sin(abs(k) * 2.6) + 0.2 * w * k) * SUPER),
            )
            for k in t
        ]
        draw.line(line, fill=255, width=max(int(w * 0.42), 3))
    mask = from_image(image.resize((SHAPE[1], SHAPE[0]), Image.Resampling.BOX))
    return mix(rgb, hex_rgb("f7f2ea") * 0.98, mask)


def draw() -> Image.Image:
    """Render the picture, 768x576 RGB."""
    rng = np.random.default_rng(71)
    sky = _sky(rng)
    y, x = grid(SHAPE)
    rgb = np.where((y > HORIZON)[..., None] & (x >= 0)[..., None], _sea(rng, sky), sky)
    return to_image(_gulls(_buildings(*_cliff(rng, rgb))))
