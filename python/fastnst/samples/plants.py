"""Trees and bushes for the landscapes: cut-out pictures with transparency, lit from the left."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .noise import Rng, blur, fbm, grid, ramp, relief, smoothstep


def conifer(rng: Rng, height: int, codes: str = "0c1a12 1c3620 3f5f2c 7f8f45") -> Image.Image:
    """A spruce, ``height`` pixels tall, as RGBA; ``codes`` are its colours from shade to light."""
    scale = 2
    tall, wide = height * scale, int(height * 0.46) * scale
    image = Image.new("RGBA", (wide, tall))
    draw = ImageDraw.Draw(image)
    table = ramp(np.linspace(0, 1.25, 61), [0.0, 0.35, 0.8, 1.25], codes)
    shades = [(int(r * 255), int(g * 255), int(b * 255), 255) for r, g, b in table]
    middle = wide / 2
    trunk = max(tall * 0.014, 1)
    draw.polygon(
        [(middle - trunk, tall), (middle, tall * 0.03), (middle + trunk, tall)], fill="#2a2018"
    )
    whorls = int(np.clip(height / 5, 9, 40))
    for i in range(whorls):
        s = ((i + rng.uniform(0.0, 0.6)) / whorls) ** 0.9
        y0 = tall * (0.03 + 0.9 * s)
        reach = wide * 0.47 * (0.06 + 0.94 * s) * rng.uniform(0.75, 1.1)
        count = int(7 + reach / 2.2)
        for _ in range(count):
            side = rng.uniform(-1, 1)
            x1 = middle + side * reach
            droop = (
                reach * (0.30 + 0.25 * rng.random()) * abs(side) + rng.uniform(-1, 1) * tall * 0.012
            )
            light = 0.42 - 0.42 * side + rng.normal(0, 0.2) - 0.15 * (1 - abs(side))
            fill = shades[int(np.clip(light * 48, 0, 60))]
            x0 = middle + side * reach * 0.25
            y1 = y0 + droop
            draw.line([(x0, y0 + droop * 0.1), (x1, y1)], fill=fill, width=scale)
            for k in (0.45, 0.7, 0.9):
                x, y = x0 + (x1 - x0) * k, y0 + droop * k
                hang = reach * rng.uniform(0.06, 0.2) + 1
                draw.line([(x, y), (x + side * 2, y + hang)], fill=fill, width=scale)
    return image.resize((wide // scale, tall // scale), Image.Resampling.BOX)


def bush(
    rng: Rng, width: int, height: int, codes: str = "101c10 26401c 55742a a3ad52"
) -> Image.Image:
    """A round mass of leaves, ``width`` x ``height`` pixels, as RGBA."""
    shape = (height, width)
    y, x = grid(shape)
    dy, dx = (y - height * 0.5) / (height * 0.47), (x - width * 0.5) / (width * 0.47)
    size = min(width, height)
    lumps = fbm(rng, shape, size / 2.6, 3)
    leaves = fbm(rng, shape, max(size / 16, 3.0), 2, gain=0.8)
    inside = 1 - np.hypot(dy, dx) + 0.10 * lumps + 0.07 * leaves
    dome = np.sqrt(np.clip(inside, 0.0, None))
    bumps = blur(dome * size * 0.40 + lumps * size * 0.055, 1.0) + leaves * 1.15
    light = relief(bumps.astype(np.float32), (-0.6, -0.75, 0.5)) + 0.16 * leaves - 0.22 * dy
    rgb = ramp(light, [-0.35, 0.15, 0.62, 1.15], codes)
    alpha = smoothstep(0.06, 0.14, inside)
    data = np.concatenate([rgb, alpha[..., None]], axis=2)
    return Image.fromarray(np.rint(np.clip(data, 0, 1) * 255).astype(np.uint8))


def plant(scene: Image.Image, sprite: Image.Image, x: float, base: float) -> None:
    """Paste a cut-out with the middle of its foot at column ``x`` and row ``base``, in pixels."""
    corner = (int(x - sprite.width / 2), int(base - sprite.height))
    scene.paste(sprite.convert("RGB"), corner, sprite.getchannel("A"))


def hazed(sprite: Image.Image, rgb: tuple[int, int, int], amount: float) -> Image.Image:
    """The cut-out faded towards a colour by ``amount`` (0..1), as distance does."""
    veil = Image.new("RGB", sprite.size, rgb)
    faded = Image.blend(sprite.convert("RGB"), veil, amount)
    faded.putalpha(sprite.getchannel("A"))
    return faded
