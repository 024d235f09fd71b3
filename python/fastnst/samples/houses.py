"""Old town houses: gabled and eaved fronts with windows, shutters, timber, tiles and chimneys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .noise import Array, Rng, Shape, blur, fbm, from_image, grid, mix, ramp

SUPER = 3  # supersampling
Point = tuple[float, float]


def _shade(code: str, factor: float) -> str:
    """The colour ``rrggbb`` times a factor, as ``#rrggbb``."""
    values = (min(int(int(code[i : i + 2], 16) * factor), 255) for i in (0, 2, 4))
    return "#" + "".join(f"{value:02x}" for value in values)


@dataclass(frozen=True)
class House:
    """One house front.

    Attributes:
        left: column of the left edge in pixels.
        width: in pixels.
        eaves: row of the eaves in pixels.
        peak: row of the ridge in pixels.
        wall: colour of the wall as ``rrggbb``.
        roof: colour of the tiles as ``rrggbb``.
        shutters: colour of the shutters as ``rrggbb``, or empty for none.
        gable: the gable faces the viewer; otherwise the roof's slope does.
        timber: half-timbered.
        columns: windows in a row.
    """

    left: float
    width: float
    eaves: float
    peak: float
    wall: str
    roof: str
    shutters: str = ""
    gable: bool = True
    timber: bool = False
    columns: int = 3


class Street:
    """Draws houses on a transparent sheet, with a second sheet for the shadows they cast.

    Args:
        shape: (height, width) of the picture in pixels.
        foot: row of the ground in pixels.
        rng: source of randomness for the details.
    """

    def __init__(self, shape: Shape, foot: float, rng: Rng) -> None:
        self.shape, self.foot, self.rng = shape, foot, rng
        size = (shape[1] * SUPER, shape[0] * SUPER)
        self.paint = Image.new("RGBA", size)
        self.dark = Image.new("L", size)
        self._paint, self._dark = ImageDraw.Draw(self.paint), ImageDraw.Draw(self.dark)

    def area(self, points: Sequence[Point], fill: str) -> None:
        """Fill a polygon of (column, row) points in pixels."""
        scaled = [(x * SUPER, y * SUPER) for x, y in points]
        self._paint.polygon(scaled, fill=fill)
        self._dark.polygon(scaled, fill=0)

    def shadow(self, points: Sequence[Point], depth: int = 140) -> None:
        """Darken a polygon by ``depth`` of 255, with a soft edge."""
        self._dark.polygon([(x * SUPER, y * SUPER) for x, y in points], fill=depth)

    def box(self, left: float, top: float, right: float, bottom: float, fill: str) -> None:
        """Fill an upright rectangle, in pixels."""
        self.area([(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    def window(self, x: float, y: float, wide: float, tall: float, shutters: str) -> None:
        """A sash window with its middle at column ``x`` and its top at row ``y``."""
        rng, half = self.rng, wide / 2
        self.box(x - half - 1.3, y - 1.6, x + half + 1.3, y + tall + 1.0, "#efe7d6")
        glass = ("2b3644", "354456", "43566b", "1f2833", "6d8396")[int(rng.integers(0, 5))]
        self.box(x - half, y, x + half, y + tall, "#" + glass)
        gleam = y + tall * float(rng.uniform(0.2, 0.8))
        sky = [(x - half, y), (x + half, y), (x + half, gleam - 2), (x - half, gleam + 2)]
        self.area(sky, _shade(glass, float(rng.uniform(1.2, 1.9))))
        if rng.random() < 0.45:
            self.area([(x - half, y), (x - half * 0.3, y), (x - half, y + tall * 0.8)], "#d9d4c8")
            self.area([(x + half, y), (x + half * 0.3, y), (x + half, y + tall * 0.8)], "#cfc9bd")
        self.box(x - 0.5, y, x + 0.5, y + tall, "#efe7d6")
        self.box(x - half, y + tall * 0.38, x + half, y + tall * 0.38 + 0.9, "#efe7d6")
        self.shadow([(x - half, y), (x + half, y), (x + half, y + 2.2), (x - half, y + 2.2)], 120)
        self.box(x - half - 2.4, y + tall + 1, x + half + 2.4, y + tall + 2.7, "#d8cdb8")
        sill = y + tall + 2.7
        self.shadow([(x - half - 1, sill), (x + half + 4, sill), (x + half + 4, sill + 2),
                     (x - half, sill + 2)], 110)  # fmt: skip
        if rng.random() < 0.28:
            for k in range(7):
                px, py = x - half + wide * k / 6, y + tall + float(rng.uniform(-1.6, 0.6))
                fill = ("#c8323a", "#3f6a2a", "#e8798a", "#55803a")[int(rng.integers(0, 4))]
                self.box(px - 1.2, py - 0.8, px + 1.3, py + 2, fill)
        if shutters:
            for side in (-1, 1):
                edge = x + side * (half + 1.6)
                low, high = sorted((edge, edge + side * half * 0.95))
                self.box(low, y - 1, high, y + tall + 0.6, "#" + shutters)
                for k in range(int(tall / 2)):
                    self.box(
                        low + 0.7, y + 2 * k, high - 0.7, y + 2 * k + 0.7, _shade(shutters, 0.66)
                    )

    def tiles(self, corners: Sequence[Point], code: str) -> None:
        """A roof slope (ridge left, ridge right, eaves right, eaves left) laid with tiles."""
        ridge, end, low, start = (np.array(c, dtype=float) for c in corners)
        self.area(corners, "#" + code)
        rows = max(int((start[1] - ridge[1]) / 2.6), 2)
        for i in range(rows):
            a, b = i / rows, (i + 1) / rows
            l0, r0 = ridge + (start - ridge) * a, end + (low - end) * a
            l1, r1 = ridge + (start - ridge) * b, end + (low - end) * b
            count = max(int(np.linalg.norm(r1 - l1) / 3.4), 1)
            for k in range(count):
                u, v = (k + 0.5 * (i % 2)) / count, min((k + 0.86 + 0.5 * (i % 2)) / count, 1)
                top = [l0 + (r0 - l0) * u, l0 + (r0 - l0) * v]
                bottom = [l1 + (r1 - l1) * v, l1 + (r1 - l1) * u]
                quad = [(float(p[0]), float(p[1])) for p in (*top, *bottom)]
                quad[2] = (quad[2][0], quad[2][1] - 0.7)
                quad[3] = (quad[3][0], quad[3][1] - 0.7)
                tone = float(np.clip(self.rng.normal(1.0, 0.15), 0.6, 1.4)) * (0.94 + 0.16 * a)
                self._paint.polygon(
                    [(x * SUPER, y * SUPER) for x, y in quad], fill=_shade(code, tone)
                )

    def chimney(self, x: float, base: float, tall: float) -> None:
        """A brick chimney, its left face lit."""
        self.box(x, base - tall, x + 6, base, "#a5664a")
        self.box(x + 6, base - tall, x + 10, base, "#63402f")
        for k in range(int(tall / 2.4)):
            self.box(x, base - 2.4 * k, x + 6, base - 2.4 * k + 0.6, "#7d4a36")
        self.box(x - 1.2, base - tall - 2, x + 11, base - tall + 0.6, "#8d7a68")
        self.box(x + 2, base - tall - 6, x + 4.6, base - tall - 2, "#5b3a2c")

    def dormer(self, x: float, y: float, code: str) -> None:
        """A small gabled window in a roof, its middle at column ``x``, its foot at row ``y``."""
        self.shadow([(x + 7, y - 12), (x + 17, y), (x + 7, y)], 130)
        self.box(x - 7, y - 13, x + 7, y, "#e6d6b8")
        self.window(x, y - 11.5, 8, 8.5, "")
        self.area([(x - 10, y - 12), (x, y - 22), (x + 10, y - 12)], _shade(code, 0.8))
        self.area([(x - 7, y - 12.8), (x, y - 19), (x + 7, y - 12.8)], "#d9c7a6")

    def house(self, h: House) -> None:
        """One house front, standing on the ground."""
        right, middle = h.left + h.width, h.left + h.width / 2
        floors = max(int((self.foot - h.eaves) / 33), 1)
        storey = (self.foot - h.eaves) / floors
        if h.gable:
            front = [(h.left, self.foot), (h.left, h.eaves), (middle, h.peak), (right, h.eaves),
                     (right, self.foot)]  # fmt: skip
        else:
            front = [(h.left, self.foot), (h.left, h.eaves), (right, h.eaves), (right, self.foot)]
        self.area(front, "#" + h.wall)
        self.box(h.left, self.foot - 9, right, self.foot, _shade(h.wall, 0.62))
        if h.timber:
            self._timber(h, floors, storey)
        gap = h.width / (h.columns + 0.25)
        for floor in range(floors):
            y = h.eaves + storey * floor + 7
            self.box(h.left, y + storey - 9.5, right, y + storey - 8, _shade(h.wall, 0.8))
            for k in range(h.columns):
                x = h.left + gap * (k + 0.625)
                if floor == floors - 1 and k == h.columns // 2:
                    self._door(x, storey)
                else:
                    self.window(x, y, min(gap * 0.36, 11), storey * 0.52, h.shutters)
        if h.gable:
            self._gable(h, front)
        else:
            roof = [(h.left + 5, h.peak), (right - 5, h.peak), (right + 3, h.eaves + 2),
                    (h.left - 3, h.eaves + 2)]  # fmt: skip
            self.tiles(roof, h.roof)
            self.box(h.left - 4, h.eaves + 1, right + 4, h.eaves + 3.4, "#5a4a40")
            self.shadow([(h.left, h.eaves + 3.4), (right, h.eaves + 3.4), (right, h.eaves + 12),
                         (h.left, h.eaves + 10)])  # fmt: skip
            for k in range(max(int(h.width / 42), 1)):
                x = h.left + h.width * (k + 0.5) / max(int(h.width / 42), 1)
                self.dormer(x, h.eaves - (h.eaves - h.peak) * 0.22, h.roof)
            self.chimney(h.left + h.width * 0.72, h.peak + 5, 22)
        self.box(right - 1.6, h.eaves + 3, right - 0.4, self.foot, "#6e6a60")

    def _gable(self, h: House, front: Sequence[Point]) -> None:
        """Windows in the gable, the rim of the roof and its shadow."""
        right, middle = h.left + h.width, h.left + h.width / 2
        rise = h.eaves - h.peak
        rows = max(int(rise / 27), 1)
        for k in range(rows):
            y = h.eaves - rise * (k + 0.80) / (rows + 0.55)
            room = h.width * (1 - (h.eaves - y) / rise)
            count = max(int(room / 25), 1) if room > 16 else 0
            for j in range(count):
                x = middle + (j - (count - 1) / 2) * min(21.0, room / count)
                self.window(x, y, 7.2, min(13.0, rise / rows * 0.5), "")
        slope = h.width / 2 / rise
        for side, tone in ((-1, 1.15), (1, 0.62)):
            foot = middle + side * (h.width / 2 + 4)
            low = h.eaves + 4 / slope
            if side > 0:  # the sun is on the left: the right rim shades the wall
                self.shadow([(middle, h.peak + 4), (right, h.eaves + 3), (right - 6, h.eaves + 10),
                             (middle - 4, h.peak + 12)], 120)  # fmt: skip
            self.area([(middle, h.peak - 5), (middle, h.peak + 2.5), (foot - side * 2, low + 1.5),
                       (foot, low - 3)], _shade(h.roof, tone))  # fmt: skip
            for k in range(int(rise / 3)):
                t = k * 3 / rise
                x, y = middle + side * t * h.width / 2, h.peak - 4.2 + t * rise
                self.box(x - 0.5, y, x + 0.6, y + 4.5, _shade(h.roof, tone * 0.72))
        self.shadow([(right, front[3][1]), (right + 10, h.eaves + 16), (right + 10, self.foot),
                     (right, self.foot)], 100)  # fmt: skip

    def _timber(self, h: House, floors: int, storey: float) -> None:
        """Posts, rails and braces of dark wood."""
        wood, right = "#4a3022", h.left + h.width
        rise, middle = h.eaves - h.peak, h.left + h.width / 2
        posts = h.columns + 1
        for floor in range(floors - 1):
            y = h.eaves + storey * floor
            self.box(h.left, y - 1.4, right, y + 1.6, wood)
            self.box(h.left, y + storey * 0.74, right, y + storey * 0.74 + 1.6, wood)
            for k in range(posts + 1):
                x = h.left + h.width * k / posts
                self.box(x - 1.2, y, x + 1.2, y + storey, wood)
            for x, way in ((h.left, 1), (right, -1)):
                self.area([(x, y + storey), (x + 2.4 * way, y + storey),
                           (x + way * h.width / posts, y), (x + way * (h.width / posts - 2.4), y)],
                          wood)  # fmt: skip
        self.box(h.left, h.eaves + storey * (floors - 1) - 1.6, right,
                 h.eaves + storey * (floors - 1) + 1.6, wood)  # fmt: skip
        if h.gable:
            for t in (0.0, 0.36, 0.68):
                half = h.width / 2 * (1 - t)
                y = h.eaves - rise * t
                self.box(middle - half, y - 1.4, middle + half, y + 1.4, wood)
                for k in range(-3, 4):
                    x = middle + k * h.width / 7
                    if abs(x - middle) < half - 3 and t < 0.6:
                        up = min(rise * 0.34, rise * (1 - abs(x - middle) * 2 / h.width) - rise * t)
                        self.area([(x - 1.1, y), (x + 1.1, y), (x + 1.1 + k, y - up),
                                   (x - 1.1 + k, y - up)], wood)  # fmt: skip

    def _door(self, x: float, storey: float) -> None:
        """An arched door with two steps."""
        top = self.foot - storey * 0.68
        code = ("5a3a24", "2f4a3a", "6a2a24", "34405a")[int(self.rng.integers(0, 4))]
        arch = [(x + 8.4 * np.cos(t), top - 7 * np.sin(t)) for t in np.linspace(0, np.pi, 12)]
        self.area([(x + 8.4, self.foot), *arch, (x - 8.4, self.foot)], "#cdbfa6")
        arch = [(x + 6.4 * np.cos(t), top - 5 * np.sin(t)) for t in np.linspace(0, np.pi, 12)]
        self.area([(x + 6.4, self.foot), *arch, (x - 6.4, self.foot)], "#" + code)
        self.box(x - 0.4, top - 5, x + 0.4, self.foot, _shade(code, 0.6))
        for k in (-3.4, 3.4):
            self.box(x + k - 2, top + 1, x + k + 2, top + 7, _shade(code, 0.7))
        self.box(x - 11, self.foot - 3, x + 11, self.foot, "#b0a690")

    def over(self, rgb: Array) -> Array:
        """The houses in front of ``rgb``, weathered and in sunlight from the left."""
        size = (self.shape[1], self.shape[0])
        sheet = from_image(self.paint.resize(size, Image.Resampling.BOX))
        dark = blur(from_image(self.dark.resize(size, Image.Resampling.BOX)), 0.8)
        y, x = grid(self.shape)
        stain = fbm(self.rng, self.shape, 40, 5, gain=0.6, stretch=0.5)
        grain = fbm(self.rng, self.shape, 4, 3)
        colour = sheet[..., :3] * (1 + 0.055 * stain + 0.045 * grain)[..., None]
        damp = np.clip((y - self.foot + 34) / 34, 0, 1) * 0.25
        colour = colour * (1 - damp * (0.7 + 0.3 * stain))[..., None]
        sun = ramp(1 - dark * 1.1, [0.3, 0.6, 1.0], "566080 8d8ea0 fff4e0")
        colour = colour * sun * 1.06 * (1.02 - 0.00012 * (x - 200))[..., None]
        return mix(rgb, colour, sheet[..., 3])
