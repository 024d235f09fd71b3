"""``mosaic``: fish in a sea of glass tesserae with dark grout, laid in rows around the figures."""

from __future__ import annotations

import numpy as np
from PIL import Image

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
    pick,
    ramp,
    relief,
    resize,
    smoothstep,
    to_image,
)

SIZE: Shape = (512, 640)
MARGIN = 12  # pixels laid beyond each edge and then cut off
SHAPE: Shape = (SIZE[0] + 2 * MARGIN, SIZE[1] + 2 * MARGIN)
CELL = 10.5  # mean width of a tessera in pixels
# row, column, half length, half height in pixels, heading in radians
FISH = ((205.0, 300.0, 185.0, 78.0, -0.16), (385.0, 385.0, 118.0, 46.0, 3.32))


def _frame(row: float, col: float, half: float, heading: float) -> tuple[Array, Array]:
    """Coordinates along and across a fish, in units of its half length; the head is at +1."""
    y, x = grid(SHAPE)
    c, s = np.cos(heading), np.sin(heading)
    dx, dy = (x - col) / half, (y - row) / half
    across = (dy * c - dx * s) * np.sign(c)
    return dx * c + dy * s, across


def _design() -> tuple[Array, Array]:
    """Colours of the cartoon and a height whose contours the rows of tesserae follow."""
    y, x = grid(SHAPE)
    rows, cols = SHAPE
    swell = y + 15 * np.sin(x / 52 + 0.5) + 8 * np.sin(x / 23 - y / 60)
    codes = "0b2f6b 1257a0 1f8fb5 4fc3c0 0f7f8f 0a4a86 12306f"
    rgb = ramp((swell / 92) % 1.0, [0, 0.2, 0.4, 0.52, 0.62, 0.8, 1.0], codes)
    rows_along = swell
    near = np.full(SHAPE, 1e3, np.float32)
    for i, (row, col, half, high, heading) in enumerate(FISH):
        a, b = _frame(row, col, half, heading)
        thick = high / half
        body = np.sqrt(np.clip(1 - ((a - 0.1) / 0.9) ** 2, 0, 1)) * thick * (0.93 + 0.12 * a)
        shape = np.maximum(np.abs(b) - body, np.abs(a - 0.1) - 0.9)
        tail = np.maximum(np.abs(b + 0.0) - (-a - 0.62) * 0.95, np.maximum(a + 0.62, -a - 1.13))
        tail = np.maximum(tail, 0.36 * (-a - 0.78) - np.abs(b) + 0.0)
        fin = np.maximum(np.abs(a - 0.05 + 1.1 * (b + thick)) - 0.34, -b - thick - 0.16)
        fin = np.maximum(fin, b + body * 0.9)
        belly = np.maximum(np.abs(a + 0.1 - 0.9 * (b - thick)) - 0.16, b - thick - 0.13)
        belly = np.maximum(belly, -b + body * 0.9)
        fins = np.minimum(np.minimum(tail, fin), belly)
        scale = np.hypot(
            (a / 0.13) % 1.0 - 0.5, ((b / 0.13 + 0.5 * np.floor(a / 0.13)) % 1.0) - 0.5
        )
        shade = b / thick + 0.5 * (scale - 0.4)
        flesh = ramp(shade, [-1, -0.5, 0.0, 0.5, 1.0], "7a0f1e c8261e f0701f f9b934 fff0c0")
        if i:
            flesh = ramp(shade, [-1, -0.5, 0.0, 0.5, 1.0], "4a1266 8a2a9a d85a8a f5a0a0 ffe9d0")
        ray = np.arctan2(b, a + 0.35)
        web = ramp(np.sin(ray * 34), [-1, 0, 1], "a3161e ef8a1d ffd75a")
        if i:
            web = ramp(np.sin(ray * 34), [-1, 0, 1], "5a1a86 c24a9a ffb8a8")
        rgb = np.where((fins < 0)[..., None], web, rgb)
        rgb = np.where((shape < 0)[..., None], flesh, rgb)
        cheek = np.hypot(a - 0.98, b * 0.9) < 0.42
        face = ramp(b / thick, [-1, 0, 1], "d8551d fbc53f fff3cf")
        rgb = np.where((cheek & (shape < 0))[..., None], face, rgb)
        gill = np.abs(np.hypot(a - 0.98, b * 0.9) - 0.42) < 0.028
        rgb = np.where((gill & (shape < 0))[..., None], hex_rgb("5a0d1c"), rgb)
        eye = np.hypot(a - 0.78, b + 0.07) * half
        for size, code in ((15.5, "2a0a14"), (12.0, "fffbe8"), (6.5, "0a0a12")):
            rgb = np.where((eye < size * (half / 185) ** 0.5)[..., None], hex_rgb(code), rgb)
        edge = np.minimum(shape, fins) * half
        rgb = np.where(((edge > 0) & (edge < 9))[..., None], hex_rgb("f5e6b0"), rgb)
        inside = shape < 0
        rows_along = np.where(inside, a * half * 0.8 + 60 * (b / thick) ** 2, rows_along)
        near = np.minimum(near, np.where(inside, 1e3, np.abs(edge)))
        halo = (edge > 0) & (edge < 34)
        rows_along = np.where(halo | ((fins < 0) & ~inside), edge, rows_along)
    rim = np.minimum(np.minimum(y, rows - 1 - y), np.minimum(x, cols - 1 - x)) - MARGIN
    along = np.where(np.minimum(y, rows - y) < np.minimum(x, cols - x), x, y)
    rope = np.sin(along / 13.0 + rim / 7) > 0
    gold = np.where(rope[..., None], hex_rgb("e9b53a"), hex_rgb("9c2a1c"))
    border = np.where(((rim > 9) & (rim < 32))[..., None], gold, hex_rgb("f1e2bd"))
    rgb = np.where((rim < 41)[..., None], border, rgb)
    return rgb.astype(np.float32), np.where(rim < 41, rim, rows_along).astype(np.float32)


class _Tiling:
    """Seeds on a jittered grid, one for each cell, and the tiles nearest to them.

    Distance is a mix of square and round, turned to the local row direction, so that tiles are
    near squares lying in rows.
    """

    def __init__(self, rng: Rng, along: Array) -> None:
        down, across = gradient(blur(along, 3))
        size = np.hypot(down, across) + 1e-6
        self.normal_y, self.normal_x = down / size, across / size
        n_rows, n_cols = int(SHAPE[0] / CELL) + 3, int(SHAPE[1] / CELL) + 3
        i, j = np.mgrid[0:n_rows, 0:n_cols]
        jitter = rng.uniform(-0.3, 0.3, (2, n_rows, n_cols))
        self.y = ((i - 0.5 + jitter[0]) * CELL).astype(np.float32)
        self.x = ((j - 0.5 + 0.5 * (i % 2) + jitter[1]) * CELL).astype(np.float32)

    def nearest(self, step: int) -> tuple[Array, Array, Array]:
        """Number of the nearest seed and distances to it and to the next, each ``step`` pixels.

        Distances are in pixels.
        """
        y, x = grid(SHAPE)
        y, x = y[::step], x[:, ::step]
        ny, nx = self.normal_y[::step, ::step], self.normal_x[::step, ::step]
        row = (y / CELL + 0.5 + 0 * x).astype(np.intp)
        col = (x / CELL + 0.5 + 0 * y).astype(np.intp)
        n_rows, n_cols = self.y.shape
        first = np.full(row.shape, 1e9, np.float32)
        second = first.copy()
        owner = np.zeros(row.shape, np.intp)
        for di in (-1, 0, 1, 2):
            for dj in (-2, -1, 0, 1, 2):
                i, j = np.clip(row + di, 0, n_rows - 1), np.clip(col + dj, 0, n_cols - 1)
                number = i * n_cols + j
                dy, dx = y - self.y.ravel()[number], x - self.x.ravel()[number]
                p, q = np.abs(dy * ny + dx * nx), np.abs(dx * ny - dy * nx)
                d = 0.75 * np.maximum(p, q) + 0.25 * np.sqrt(p * p + q * q)
                closer = d < first
                second = np.where(closer, first, np.minimum(second, d))
                second = np.where(number == owner, np.maximum(second, first), second)
                owner = np.where(closer, number, owner)
                first = np.where(closer, d, first)
        return owner, first, second

    def relax(self, times: int) -> None:
        """Move the seeds to the middles of their tiles."""
        count = self.y.size
        y, x = grid(SHAPE)
        y, x = y[::2], x[:, ::2]
        for _ in range(times):
            owner, _, _ = self.nearest(2)
            flat = owner.ravel()
            mass = np.bincount(flat, minlength=count)
            sum_y = np.bincount(flat, (y + 0 * x).ravel(), minlength=count)
            sum_x = np.bincount(flat, (x + 0 * y).ravel(), minlength=count)
            full = mass > 0
            self.y.ravel()[full] = (sum_y[full] / mass[full]).astype(np.float32)
            self.x.ravel()[full] = (sum_x[full] / mass[full]).astype(np.float32)


def draw() -> Image.Image:
    """Lay the picture, 640x512 RGB."""
    rng = np.random.default_rng(31)
    cartoon, along = _design()
    tiling = _Tiling(rng, along)
    tiling.relax(4)
    owner, first, second = tiling.nearest(1)
    count = tiling.y.size
    colours = pick(cartoon, tiling.y.ravel(), tiling.x.ravel())
    colours = colours * (1 + 0.16 * rng.normal(0, 1, (count, 1)))
    colours = colours + rng.normal(0, 0.035, (count, 3))
    gold = rng.random(count) < 0.03
    colours[gold] = mix(colours[gold], palette("ffd866")[0], 0.75)
    gap = second - first
    tile = smoothstep(0.9, 2.3, gap)
    tilt = rng.normal(0, 0.13, (2, count))[:, owner]
    y, x = grid(SHAPE)
    seed_y, seed_x = tiling.y.ravel()[owner], tiling.x.ravel()[owner]
    chips = fbm(rng, SHAPE, 7, 3)
    height = 2.4 * smoothstep(0.4, 4.0, gap) + 0.22 * chips * tile
    height = height + (tilt[0] * (y - seed_y) + tilt[1] * (x - seed_x)) * tile
    shade = relief(blur(height, 0.6), (-0.55, -0.65, 0.8))
    rgb = colours[owner] * (1 + 0.07 * chips)[..., None]
    rgb = rgb * (0.28 + 0.98 * shade.clip(0, 1))[..., None]
    glint = smoothstep(0.955, 1.0, shade) * tile * (0.5 + 0.5 * (chips > 0.3))
    rgb = rgb + 0.34 * glint[..., None]
    grout = hex_rgb("2b2622") * (1 + 0.2 * fbm(rng, SHAPE, 4, 2))[..., None]
    vault = 1.06 - 0.22 * np.hypot((y - 200) / 420, (x - 270) / 520)
    worn = resize(fbm(rng, (64, 80), 20, 3), SHAPE)
    rgb = mix(grout, rgb, tile) * (vault + 0.025 * worn)[..., None]
    return to_image(rgb[MARGIN:-MARGIN, MARGIN:-MARGIN])
