"""Fields that the built-in pictures are made of: noise, ramps, blurs, gradients and light.

Every random field takes its generator as an argument, so that a picture depends on its own seed
and on nothing else. Fields are float32 arrays of shape (height, width); colours are RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, int]
Rng: TypeAlias = np.random.Generator


def grid(shape: Shape) -> tuple[Array, Array]:
    """Row and column of every pixel centre, as broadcastable (height, 1) and (1, width) arrays."""
    height, width = shape
    return (
        np.arange(height, dtype=np.float32)[:, None],
        np.arange(width, dtype=np.float32)[None, :],
    )


def hex_rgb(code: str) -> Array:
    """The colour written as ``rrggbb``, as three floats in 0..1."""
    return np.array([int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)], dtype=np.float32)


def palette(codes: str) -> Array:
    """Colours written as ``rrggbb`` with spaces between them, shape (n, 3)."""
    return np.stack([hex_rgb(code) for code in codes.split()])


def smoothstep(low: float, high: float, value: Array) -> Array:
    """0 at ``low``, 1 at ``high``, with zero slope at both; ``low`` may be the larger."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def ramp(value: Array, stops: Sequence[float], codes: str) -> Array:
    """Colour of each value along a piecewise linear ramp.

    Args:
        value: any shape.
        stops: increasing positions, one for each colour.
        codes: colours, as for `palette`.

    Returns:
        RGB of shape ``value.shape + (3,)``.
    """
    colours = palette(codes)
    channels = [np.interp(value, stops, colours[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def mix(first: Array, second: Array, weight: Array | float) -> Array:
    """Blend two colour arrays; a (height, width) weight is applied to every channel."""
    if isinstance(weight, np.ndarray) and weight.ndim == 2:
        weight = weight[..., None]
    return np.asarray(first + (second - first) * weight, dtype=np.float32)


def resize(
    field: Array, shape: Shape, box: tuple[float, float, float, float] | None = None
) -> Array:
    """Bicubic resampling of a field, or of its ``box`` (left, top, right, bottom)."""
    image = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box))


def value_noise(rng: Rng, shape: Shape, cell: tuple[float, float]) -> Array:
    """Smooth noise of about zero mean, whose features are ``cell`` (height, width) pixels large."""
    rows, cols = shape[0] / cell[0], shape[1] / cell[1]
    lattice = rng.uniform(-1, 1, (int(np.ceil(rows)) + 4, int(np.ceil(cols)) + 4))
    return resize(lattice, shape, (1.5, 1.5, 1.5 + cols, 1.5 + rows))


def lattice(rng: Rng, x: Array, z: Array) -> Array:
    """Value noise in -1..1 at any position, on a lattice of unit cells that repeats every 64."""
    table = rng.uniform(-1, 1, (64, 64)).astype(np.float32)
    i, j = np.floor(z), np.floor(x)
    fz, fx = z - i, x - j
    fz, fx = fz**3 * (fz * (fz * 6 - 15) + 10), fx**3 * (fx * (fx * 6 - 15) + 10)
    i0, j0 = i.astype(np.intp) & 63, j.astype(np.intp) & 63
    i1, j1 = (i0 + 1) & 63, (j0 + 1) & 63
    top = table[i0, j0] * (1 - fx) + table[i0, j1] * fx
    low = table[i1, j0] * (1 - fx) + table[i1, j1] * fx
    return np.asarray(top * (1 - fz) + low * fz)


def standardise(field: Array) -> Array:
    """The field shifted and scaled to zero mean and unit standard deviation."""
    return np.asarray((field - field.mean()) / (field.std() + 1e-9), dtype=np.float32)


def fbm(
    rng: Rng,
    shape: Shape,
    cell: float,
    octaves: int = 5,
    gain: float = 0.5,
    stretch: float = 1.0,
    ridged: bool = False,
) -> Array:
    """Fractal noise: octaves of value noise, each half the size of the one before.

    Args:
        rng: source of randomness.
        shape: (height, width) in pixels.
        cell: size of the largest features in pixels.
        octaves: how many scales are summed.
        gain: amplitude of each octave relative to the one before.
        stretch: width of a feature over its height.
        ridged: sharp crests (mountains, rock) instead of soft hills.

    Returns:
        Zero mean, unit standard deviation.
    """
    total = np.zeros(shape, dtype=np.float32)
    carry: Array | float = 1.0
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        layer = value_noise(rng, shape, (size, size * stretch))
        if ridged:
            layer = np.square(1 - np.minimum(np.abs(layer) * 1.6, 1)) * carry
            carry = np.clip(layer * 1.6, 0, 1)
        total += layer * gain**octave
    return standardise(total)


def blur(field: Array, sigma: float) -> Array:
    """Gaussian blur of a (height, width) field; ``sigma`` in pixels, edges repeated."""
    shape = (field.shape[0], field.shape[1])
    shrink = int(sigma // 3)
    if shrink > 1:
        small = (max(shape[0] // shrink, 2), max(shape[1] // shrink, 2))
        return resize(blur(resize(field, small), sigma / shrink), shape)
    radius = max(int(np.ceil(2.5 * sigma)), 1)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-3)) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        size = shape[axis]
        pad = [(radius, radius) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.pad(field, pad, mode="edge")
        field = np.zeros(shape, dtype=np.float32)
        for i, tap in enumerate(taps):
            field += tap * (padded[i : i + size] if axis == 0 else padded[:, i : i + size])
    return np.asarray(field, dtype=np.float32)


def gradient(field: Array) -> tuple[Array, Array]:
    """Central differences down the rows and along the columns, per pixel."""
    down = np.empty_like(field)
    across = np.empty_like(field)
    down[1:-1] = (field[2:] - field[:-2]) * 0.5
    down[0], down[-1] = down[1], down[-2]
    across[:, 1:-1] = (field[:, 2:] - field[:, :-2]) * 0.5
    across[:, 0], across[:, -1] = across[:, 1], across[:, -2]
    return down, across


def relief(height: Array, light: tuple[float, float, float]) -> Array:
    """Lambertian shading of a height field in pixels.

    Args:
        height: (height, width), in pixels towards the viewer.
        light: direction to the light as (right, down, towards the viewer), any length.

    Returns:
        Cosine between normal and light; negative where the surface faces away.
    """
    down, across = gradient(height)
    x, y, z = np.array(light) / np.linalg.norm(light)
    cosine = (-across * x - down * y + z) / np.sqrt(across**2 + down**2 + 1)
    return np.asarray(cosine, dtype=np.float32)


def pick(field: Array, y: Array, x: Array) -> Array:
    """The field (any channels) at the nearest pixel of each position, edges repeated."""
    rows = np.clip(np.rint(y), 0, field.shape[0] - 1).astype(np.intp)
    cols = np.clip(np.rint(x), 0, field.shape[1] - 1).astype(np.intp)
    return np.asarray(field[rows, cols])


def to_image(rgb: Array) -> Image.Image:
    """An 8-bit RGB picture from floats in 0..1; values outside are clipped."""
    return Image.fromarray(np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8))


def from_image(image: Image.Image) -> Array:
    """Floats in 0..1 from an 8-bit picture."""
    return np.asarray(image, dtype=np.float32) / 255
