"""Oil paint: bristled strokes along a direction field, with thickness that catches the light.

A layer of strokes is rasterised all at once. Every stroke is a ribbon of sample points, dense
enough to leave no holes, and each point writes its own number into a buffer at twice the final
resolution; later strokes overwrite earlier ones. What is left in the buffer says, for each pixel,
which stroke covers it and where along and across it, and colour and height are computed from that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .noise import Array, Rng, Shape, blur, fbm, gradient, pick, relief, to_image, value_noise

SCALE = 2  # supersampling: buffer pixels per picture pixel, each way
SPACING = 0.72  # distance between a stroke's sample points in buffer pixels
CHUNK = 1_500_000  # sample points rasterised at a time
VARIANTS = 48  # different bristle patterns


@dataclass(frozen=True)
class Stroke:
    """How the strokes of one layer look.

    Attributes:
        radius: half the width in pixels.
        length: in pixels.
        vary: strokes are up to this fraction narrower than ``radius``.
        contrast: brightness difference between bristles, 0..1.
        hue: standard deviation of the colour variation between strokes, per channel.
        streak: how far a bristle's colour moves towards the neighbouring colour it picked up, 0..1.
        thickness: of the paint in pixels.
        dry: fraction of the bristles that run out of paint before the end, 0..1.
        taper: how much of either end is pointed, 0 (knife) to 1 (leaf shaped).
    """

    radius: float
    length: float
    vary: float = 0.4
    contrast: float = 0.16
    hue: float = 0.03
    streak: float = 0.5
    thickness: float = 1.0
    dry: float = 0.4
    taper: float = 0.5


def scatter(rng: Rng, shape: Shape, spacing: float) -> Array:
    """Positions (n, 2) as (y, x), one near each point of a grid ``spacing`` pixels wide."""
    ys, xs = np.mgrid[0 : shape[0] + spacing : spacing, 0 : shape[1] + spacing : spacing]
    points = np.stack([ys.ravel(), xs.ravel()], axis=1)
    points = points + rng.uniform(-0.6, 0.6, points.shape) * spacing
    return np.asarray(rng.permutation(points), dtype=np.float32)


def trace(angle: Array, points: Array, length: float, steps: int = 12) -> Array:
    """Follow a direction field both ways from each point.

    Args:
        angle: direction in radians at every pixel, 0 to the right, growing clockwise.
        points: (n, 2) midpoints as (y, x).
        length: of a path in pixels.
        steps: segments in a path.

    Returns:
        Paths (n, steps + 1, 2) as (y, x).
    """
    half = steps // 2
    step = length / (2 * half)
    path = np.empty((len(points), 2 * half + 1, 2), dtype=np.float32)
    path[:, half] = points
    for sign in (1, -1):
        heading = None
        here = points
        for i in range(1, half + 1):
            theta = pick(angle, here[:, 0], here[:, 1])
            move = np.stack([np.sin(theta), np.cos(theta)], axis=1) * (step * sign)
            if heading is not None:  # directions have no sign: never turn back
                move *= np.where((move * heading).sum(axis=1, keepdims=True) < 0, -1, 1)
            heading = move
            here = here + move
            path[:, half + sign * i] = here
    return path


class Canvas:
    """Wet paint on a ground: strokes are laid in layers, then the whole is lit once.

    Args:
        rng: source of randomness for all strokes.
        ground: RGB (height, width, 3) in 0..1 that shows where no stroke lies.
    """

    def __init__(self, rng: Rng, ground: Array) -> None:
        self.rng = rng
        self.shape: Shape = (ground.shape[0], ground.shape[1])
        big = (ground.shape[1] * SCALE, ground.shape[0] * SCALE)
        image = to_image(ground).resize(big, Image.Resampling.BILINEAR)
        self.rgb = np.asarray(image, dtype=np.float32) / 255
        weave = value_noise(rng, (big[1], big[0]), (2.6, 2.6))
        self.height = 0.25 * weave.astype(np.float32)

    def layer(
        self,
        look: Stroke,
        angle: Array,
        colours: Array | Callable[[Array], Array],
        spacing: float,
        where: Array | None = None,
    ) -> None:
        """Cover the canvas, or the part where ``where`` is true, with strokes in random order.

        Args:
            look: shape and paint of the strokes.
            angle: direction field, as for `trace`.
            colours: a picture (height, width, 3) to take each stroke's colour from, or a function
                from midpoints (n, 2) to colours (n, 3).
            spacing: distance between midpoints in pixels.
            where: boolean (height, width), tested at midpoints.
        """
        points = scatter(self.rng, self.shape, spacing)
        if where is not None:
            points = points[pick(where, points[:, 0], points[:, 1]).astype(bool)]
        if len(points) == 0:
            return
        paint = colours(points) if callable(colours) else pick(colours, points[:, 0], points[:, 1])
        steps = int(np.clip(look.length / 4, 4, 24))
        self.strokes(look, trace(angle, points, look.length, steps), paint)

    def strokes(self, look: Stroke, paths: Array, colours: Array) -> None:
        """Paint given paths (n, k, 2), in order, in the given colours (n, 3)."""
        rng, count = self.rng, len(paths)
        height, width = self.height.shape
        along = max(int(look.length * SCALE / SPACING), 4)
        across = max(int(2 * look.radius * SCALE / SPACING), 3)
        u = np.linspace(0, 1, along, dtype=np.float32)
        v = np.linspace(-1, 1, across, dtype=np.float32)
        radius = look.radius * (1 - look.vary * rng.random(count)) * SCALE
        outline = 1 - look.taper * (np.abs(2 * u - 0.8) / 1.2) ** 3
        outline *= np.sqrt(np.clip(np.minimum(u * 14, (1 - u) * 10) + 0.25, 0, 1))
        hairs = self._hairs(across, along)
        worn = self._worn(look, u, v)
        variant = rng.integers(0, VARIANTS, count)

        knots = np.linspace(0, paths.shape[1] - 1, along)
        low = np.minimum(knots.astype(np.intp), paths.shape[1] - 2)
        part = (knots - low).astype(np.float32)[None, :, None]
        owner = np.full(height * width, -1, dtype=np.int32)
        each = along * across
        batch = max(CHUNK // each, 1)
        for first in range(0, count, batch):
            some = slice(first, min(first + batch, count))
            path = paths[some]
            spine = (path[:, low] * (1 - part) + path[:, low + 1] * part + 0.5) * SCALE
            tangent = np.gradient(spine, axis=1)
            tangent /= np.linalg.norm(tangent, axis=2, keepdims=True) + 1e-6
            wide = (radius[some, None] * outline).astype(np.float32)[..., None] * v
            y = (spine[..., 0:1] + tangent[..., 1:2] * wide).astype(np.int32)
            x = (spine[..., 1:2] - tangent[..., 0:1] * wide).astype(np.int32)
            keep = worn[variant[some]] & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            number = np.flatnonzero(keep)
            owner[(y * width + x).ravel()[number]] = number + first * each
        self._shade(look, owner.reshape(height, width), (along, across), hairs, variant, colours)

    def _hairs(self, across: int, along: int) -> Array:
        """Bristle heights (variant, along, across), changing slowly along each hair."""
        fine = value_noise(self.rng, (VARIANTS * along, across), (along * 0.7, 1.7))
        coarse = value_noise(self.rng, (VARIANTS * along, across), (along * 0.9, 4.5))
        return (0.6 * fine + 0.6 * coarse).reshape(VARIANTS, along, across).astype(np.float32)

    def _worn(self, look: Stroke, u: Array, v: Array) -> Array:
        """Where each bristle pattern leaves paint, boolean (variant, along, across)."""
        rng, across = self.rng, len(v)
        start = rng.random((VARIANTS, 1, across)) ** 2 * 0.12
        stop = 1 - rng.random((VARIANTS, 1, across)) ** 2 * (0.08 + 0.5 * look.dry)
        skip = value_noise(rng, (VARIANTS * len(u), across), (len(u) * 0.3, 1.4))
        skip = skip.reshape(VARIANTS, len(u), across)
        rim = np.abs(v)[None, None, :] ** 3 * 0.5 + u[None, :, None] * 0.5
        line = u[None, :, None]
        return np.asarray((line > start) & (line < stop) & (skip + look.dry * rim < 0.78))

    def _shade(
        self,
        look: Stroke,
        owner: Array,
        size: tuple[int, int],
        hairs: Array,
        variant: Array,
        colours: Array,
    ) -> None:
        """Colour and height of the covered pixels from the stroke points that own them."""
        along, across = size
        covered = np.flatnonzero(owner.ravel() >= 0)
        stroke, rest = np.divmod(owner.ravel()[covered], along * across)
        iu, iv = np.divmod(rest, across)
        v = iv * (2 / (across - 1)) - 1
        hair = hairs[variant[stroke], iu, iv]

        shift = self.rng.normal(0, 1, (len(colours), 1)) * np.array([1, 1, 1]) * 0.7
        shift = (shift + self.rng.normal(0, 1, colours.shape) * 0.7) * look.hue
        base = (colours + shift).astype(np.float32)
        other = base[self.rng.permutation(len(base))] * 0.5 + np.roll(base, 1, axis=0) * 0.5
        near = np.abs(other - base).sum(axis=1, keepdims=True)
        other = base + (other - base) * np.minimum(1, 0.35 / (near + 1e-6))
        pickup = np.clip(hair * 1.2, 0, 1)[:, None] * look.streak
        tone = 1 + look.contrast * hair
        rgb = self.rgb.reshape(-1, 3)
        rgb[covered] = (base[stroke] * (1 - pickup) + other[stroke] * pickup) * tone[:, None]

        ridge = np.sqrt(np.clip(1.04 - v * v, 0, 1)) * 0.7 + 0.45 * np.abs(v) ** 5
        load = 0.75 + 0.4 * (iu / along)
        flat = self.height.reshape(-1)
        under = flat[covered] * 0.45
        flat[covered] = under + look.thickness * (ridge * load + 0.45 * hair)

    def render(
        self,
        light: tuple[float, float, float] = (-0.6, -0.7, 0.75),
        depth: float = 1.0,
        gloss: float = 0.12,
    ) -> Image.Image:
        """Light the paint and shrink the buffer to the picture's size.

        Args:
            light: direction to the light as (right, down, towards the viewer).
            depth: exaggeration of the paint's thickness.
            gloss: strength of the highlights, 0..1.
        """
        height = blur(self.height, 0.9) * depth
        shade = relief(height, light)
        flat = light[2] / float(np.linalg.norm(light))
        down, across = gradient(height)
        glint = np.clip(shade - 0.93, 0, 1) * (np.hypot(down, across) > 0.15) / 0.07
        lit = self.rgb * (0.42 + 0.58 * shade / flat)[..., None] + gloss * glint[..., None]
        size = (self.shape[1], self.shape[0])
        return to_image(lit).resize(size, Image.Resampling.BOX)


def swirls(rng: Rng, shape: Shape, cell: float) -> Array:
    """Directions in radians that follow the contours of noise, features ``cell`` pixels."""
    down, across = gradient(fbm(rng, shape, cell, octaves=2, gain=0.3))
    return np.asarray(np.arctan2(-across, down), dtype=np.float32)
