"""``harbour``: a row of old gabled houses on a quay, with boats and their reflections."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .houses import House, Street
from .noise import (
    Array,
    Rng,
    blur,
    fbm,
    from_image,
    grid,
    hex_rgb,
    mix,
    pick,
    ramp,
    relief,
    smoothstep,
    to_image,
)
from .plants import bush, conifer, hazed, plant
from .river import SHAPE, WATER, boats, water

QUAY = 372  # row of the houses' feet in pixels
SUPER = 3  # supersampling of the people and lamps

BACK = (
    House(60, 92, 250, 196, "cbb79a", "8c4a36", gable=False),
    House(176, 84, 240, 178, "c4a98a", "7d4434"),
    House(300, 96, 238, 186, "bfae9a", "96523a", gable=False),
    House(470, 84, 236, 172, "cbb9a0", "854a38"),
    House(566, 104, 246, 192, "c2b094", "8f4e3a", gable=False),
    House(690, 84, 244, 184, "c9b598", "7a4232"),
)  # fmt: skip
FRONT = (
    House(-18, 88, 268, 196, "e3c98f", "9a4f38", "5b7d5a", columns=3),
    House(70, 74, 262, 208, "d98f72", "8a4632", "", gable=False, columns=3),
    House(144, 92, 252, 170, "efe3c8", "a0543a", "", timber=True, columns=3),
    House(236, 80, 274, 206, "8fb0b8", "7f4434", "f0ead8", columns=3),
    House(316, 106, 258, 212, "eacb6a", "a85a3e", "7a4a34", gable=False, columns=4),
    House(422, 78, 266, 190, "d8786a", "8a4a38", "3f5f6a", columns=3),
    House(500, 88, 246, 160, "f0dcc0", "94503a", "", timber=True, columns=3),
    House(588, 92, 268, 218, "a9bf96", "9c543c", "5a4632", gable=False, columns=3),
    House(680, 100, 256, 178, "e8b48a", "8c4a36", "4a6a58", columns=3),
)


def _sky(rng: Rng) -> Array:
    """A summer sky with heaped clouds lit from the left, and a wooded hill under it."""
    y, x = grid(SHAPE)
    rgb = ramp(y + 0 * x, [0, 130, 260], "3f7cc4 86b4e0 e3eaea")
    heap = fbm(rng, SHAPE, 150, 7, gain=0.56, stretch=1.6) + 0.55 * np.exp(-(((y - 90) / 70) ** 2))
    bulk = smoothstep(0.15, 1.0, heap)
    soft = blur(heap, 5)
    side = sum((soft - pick(soft, y - 8 * k, x - 11 * k)) / (1.1 * k) for k in (1, 2, 3))
    light = 0.5 * side + 0.35 * (heap - soft) - 0.16 * (soft - 0.4)
    cloud = ramp(light, [-0.9, -0.2, 0.35], "8c9ab4 d6dbe2 fffdf6")
    rgb = mix(rgb, cloud, bulk * 0.96)
    rough = fbm(rng, SHAPE, 16, 4)
    hill = 214 - 44 * np.exp(-(((x - 640) / 190) ** 2)) - 26 * np.exp(-(((x - 90) / 150) ** 2))
    crowns = fbm(rng, SHAPE, 20, 4)
    light = relief(crowns * 4.5, (-0.7, -0.6, 0.5)) + 0.05 * rough
    wood = mix(ramp(light, [-0.2, 0.4, 1.0], "223c34 4a6a44 a3ad66"), hex_rgb("a9c0cf"), 0.33)
    return mix(rgb, wood, smoothstep(-1, 1, y - hill + 2.6 * crowns))


def _tower(street: Street) -> None:
    """The church tower behind the houses: stone, clock, belfry, green spire."""
    left, right, top = 396.0, 438.0, 118.0
    street.box(left, top, right, QUAY - 40, "#cbb692")
    street.box(right - 13, top, right, QUAY - 40, "#94836c")
    for k in range(24):
        y = top + 6 * k
        street.box(left, y, right, y + 0.8, "#a8946f")
        for j in range(4):
            x = left + 11 * j + (5.5 if k % 2 else 0)
            street.box(x, y, x + 0.8, y + 6, "#a8946f")
    for y in (top - 2, top + 44):
        street.box(left - 3, y, right + 3, y + 4, "#e0d0ae")
        street.shadow([(left, y + 4), (right, y + 4), (right, y + 8), (left, y + 8)], 110)
    for x in (406, 422):
        arch = [(x + 4 * np.cos(t), top + 16 - 5 * np.sin(t)) for t in np.linspace(0, np.pi, 9)]
        street.area([(x + 4, top + 36), *arch, (x - 4, top + 36)], "#2e2a2c")
        for k in range(5):
            street.box(x - 4, top + 18 + 4 * k, x + 4, top + 19.3 + 4 * k, "#6f6250")
    ring = np.linspace(0, 2 * np.pi, 32)
    for r, fill in ((10.5, "#d8b24a"), (9.0, "#23304a")):
        street.area(
            [(415 + r * float(np.cos(t)), top + 62 + r * float(np.sin(t))) for t in ring], fill
        )
    for t in ring[::3]:
        x, y = 415 + 7.4 * float(np.cos(t)), top + 62 + 7.4 * float(np.sin(t))
        street.box(x - 0.6, y - 0.6, x + 0.6, y + 0.6, "#f0d27a")
    street.area(
        [(414.4, top + 63), (415.6, top + 63), (415.3, top + 55), (414.7, top + 55)], "#f0d27a"
    )
    street.area(
        [(415, top + 61.4), (415, top + 62.6), (421, top + 65.4), (421, top + 64.6)], "#f0d27a"
    )
    street.area([(left - 4, top), (417, 22), (right - 12, top)], "#6fa08a")
    street.area([(417, 22), (right + 4, top), (right - 12, top)], "#3d6258")
    for k in range(1, 16):
        y = 22 + 6 * k
        half = (y - 22) / 96 * 23
        street.box(417 - half, y, 417 + half * 0.5, y + 0.7, "#558472")
    street.box(416.4, 6, 417.6, 24, "#d8b24a")
    street.box(413, 10, 421, 11.4, "#d8b24a")


def _quay(rng: Rng, rgb: Array) -> Array:
    """The quay wall of rough stone blocks, wet and green at the waterline."""
    y, x = grid(SHAPE)
    course = 9.0
    row = np.floor((y - QUAY) / course)
    shift = (row * 7.3) % 19
    col = np.floor((x + shift) / 19)
    tone = np.random.default_rng(83).normal(0, 1, (16, 64))
    block = tone[row.astype(int).clip(0, 15) + 0 * col.astype(int), col.astype(int).clip(0, 63)]
    dy, dx = ((y - QUAY) / course) % 1 - 0.5, ((x + shift) / 19) % 1 - 0.5
    edge = np.minimum((0.5 - np.abs(dy)) * course, (0.5 - np.abs(dx)) * 19)
    rough = fbm(rng, SHAPE, 10, 4)
    height = 1.6 * smoothstep(0.2, 2.4, edge + 0.3 * rough) + 0.5 * rough
    light = relief(height.astype(np.float32), (-0.5, -0.75, 0.6)) + 0.07 * block
    stone = ramp(light, [-0.2, 0.4, 1.0], "3a3530 8a7c68 d8c8a6")
    wet = smoothstep(WATER - 15, WATER - 3, y + 3 * rough)
    stone = mix(stone, hex_rgb("2c3a22") * (0.8 + 0.5 * light.clip(0, 1))[..., None], 0.75 * wet)
    path = hex_rgb("c9b996") * (1 + 0.05 * rough)[..., None]
    kerb = np.where((y < QUAY + 4)[..., None], path, stone)
    kerb = kerb * (1 - 0.4 * np.exp(-(((y - QUAY - 5) / 1.6) ** 2)))[..., None]
    return np.where(((y >= QUAY) & (x >= 0))[..., None], kerb, rgb)


def _life(rng: Rng, scene: Image.Image) -> None:
    """Trees, bushes, people and lamps along the quay."""
    leaf = "0f1c0d 26421a 4f7028 a0ab50"
    for x, wide, tall in ((233, 58, 74), (499, 48, 60), (752, 76, 104), (4, 60, 84)):
        draw = ImageDraw.Draw(scene)
        draw.line([(x, QUAY + 2), (x + 1, QUAY - tall * 0.6)], fill="#3a2a1c", width=4)
        plant(scene, bush(rng, wide, tall, leaf), x, QUAY - 14)
    for x in (60, 128, 322, 418, 588, 664):
        size = int(rng.uniform(20, 34))
        plant(scene, bush(rng, size + 12, size, leaf), x + rng.uniform(-8, 8), QUAY + 4)
    sheet = Image.new("RGBA", (SHAPE[1] * SUPER, SHAPE[0] * SUPER))
    pen = ImageDraw.Draw(sheet)

    def box(left: float, top: float, right: float, bottom: float, fill: str) -> None:
        pen.rectangle([v * SUPER for v in (left, top, right, bottom)], fill=fill)

    coats = ("#b8322a", "#2a3f6a", "#e8e0d0", "#3f5a3a", "#d89a3a", "#5a3a5a", "#3a3a3e")
    for k, x in enumerate((96, 104, 190, 282, 357, 366, 376, 455, 536, 548, 640, 702)):
        foot, coat = QUAY + 3.5, coats[k % 7]
        box(x - 1.7, foot - 8, x - 0.2, foot, "#2c2a30")
        box(x + 0.3, foot - 8, x + 1.8, foot, "#2c2a30")
        box(x - 2.5, foot - 15.5, x + 2.5, foot - 7, coat)
        head = [(x - 1.7) * SUPER, (foot - 19.4) * SUPER, (x + 1.7) * SUPER, (foot - 15.6) * SUPER]
        pen.ellipse(head, fill="#d8a888")
        box(x - 1.8, foot - 19.8, x + 1.8, foot - 18, ("#4a3020", "#c8a868", "#1c1a1a")[k % 3])
    for x in (42, 168, 300, 440, 576, 716):
        box(x - 0.7, QUAY - 34, x + 0.7, QUAY + 4, "#26282c")
        box(x - 2.4, QUAY - 41, x + 2.4, QUAY - 34, "#f5e3b0")
        box(x - 3.2, QUAY - 42.5, x + 3.2, QUAY - 40.6, "#26282c")
    small = sheet.resize((SHAPE[1], SHAPE[0]), Image.Resampling.BOX)
    scene.paste(small.convert("RGB"), (0, 0), small.getchannel("A"))


def draw() -> Image.Image:
    """Render the picture, 768x576 RGB."""
    rng = np.random.default_rng(81)
    scene = to_image(_sky(rng))
    for x, base, tall in ((12, 238, 88), (742, 226, 76), (716, 222, 58), (46, 240, 66)):
        plant(scene, hazed(conifer(rng, tall), (160, 185, 200), 0.3), x, base)
    rgb = from_image(scene)
    back = Street(SHAPE, QUAY, rng)
    for house in BACK:
        back.house(house)
    _tower(back)
    rgb = mix(back.over(rgb), rgb * 0.2 + hex_rgb("b9c8d6") * 0.8, 0.14)
    front = Street(SHAPE, QUAY, rng)
    for house in FRONT:
        front.house(house)
    scene = to_image(_quay(rng, front.over(rgb)))
    _life(rng, scene)
    return to_image(boats(rng, water(rng, from_image(scene))))
