"""Pictures that are read a few rows at a time, wherever they lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.fingerprint import digest_of_parts
from fastnst.images.exif import upright
from fastnst.images.pixels import Pixels, to_pixels
from fastnst.strips.storage import BandedTensor, Store

STRIP_BYTES = 1 << 23  # of float32 pixels that are looked at in one go: 8 MB


class RowSource(Protocol):
    """A picture of which any rows can be had, any number of times."""

    @property
    def height(self) -> int:
        """The number of rows."""
        ...

    @property
    def width(self) -> int:
        """The number of columns."""
        ...

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``, ``(stop - start, W, 3)`` float32, RGB in [0, 1]."""
        ...


class PixelRows:
    """The rows of a picture that is in memory.

    Args:
        pixels: ``(H, W, 3)`` float32, RGB in [0, 1].
        in_memory: How many pixels it takes the memory of; None: all.
    """

    def __init__(self, pixels: Pixels, in_memory: int | None = None) -> None:
        self._pixels = pixels
        self.height, self.width = pixels.shape[:2]
        self.pixels_in_memory = self.height * self.width if in_memory is None else in_memory

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``: a view."""
        return self._pixels[start:stop]


class ImageRows:
    """The rows of a picture of 8 bits.

    Args:
        image: RGB.
    """

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.width, self.height = image.size

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``: a copy."""
        levels = np.asarray(self.image.crop((0, start, self.width, stop)), np.float32)
        pixels: Pixels = levels / np.float32(255)
        return pixels


class TensorRows:
    """The rows of a picture that is a tensor, clipped to [0, 1].

    Args:
        image: ``(1, 3, H, W)`` float32 on any device.
    """

    def __init__(self, image: Tensor) -> None:
        self._image = image.detach()
        self.height, self.width = image.shape[-2:]

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``: a copy."""
        return to_pixels(self._image[:, :, start:stop])


class BandedRows:
    """The rows of a picture that is stored by band, clipped to [0, 1].

    Args:
        stored: ``(1, 3, H, W)`` float32.
    """

    def __init__(self, stored: BandedTensor) -> None:
        self._stored = stored
        self.height, self.width = stored.height, stored.width

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``; what is mapped for them is released again."""
        values = self._stored.read(slice(start, stop))[0].clamp_(0, 1)
        self._stored.release_rows(slice(start, stop))
        pixels: Pixels = values.permute(1, 2, 0).contiguous().numpy()
        return pixels


class StoredRows:
    """The rows of a picture that is stored as a file's decoder left it.

    Args:
        values: ``(h, w, 3)``, uint8, uint16 or float32: RGB as it is in the file, which may have
            been taken lying on its side.
        store: Where ``values`` lie.
        orientation: How to turn them, 1 to 8 as in EXIF 2.32, tag 0x0112. From 5 on, rows of the
            picture are columns of ``values``; reading a few touches every page of the file.
        white: The value of white.
    """

    def __init__(self, values: Tensor, store: Store, orientation: int, white: float) -> None:
        self._values, self._store = values, store
        self._turned = upright(values.numpy(), orientation)
        self._white = np.float32(white)
        self.height, self.width = self._turned.shape[:2]
        self.pixels_in_memory = 0

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``; what is mapped for them is released again."""
        pixels: Pixels = np.ascontiguousarray(self._turned[start:stop], np.float32)
        pixels = (pixels / self._white).clip(0, 1)
        self._store.release(self._values)
        return pixels


class MixedRows:
    """A picture mixed of several, pixel by pixel.

    Args:
        rest: The picture of which there is what the maps leave.
        parts: The other pictures, of the same size, each with how much of it there is at each
            pixel: ``(H, W)`` float32 in [0, 1] on the CPU, of all together at most 1.
    """

    def __init__(self, rest: RowSource, parts: Sequence[tuple[RowSource, Tensor]]) -> None:
        self._rest, self._parts = rest, tuple(parts)
        self.height, self.width = rest.height, rest.width

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``, clipped to [0, 1]."""
        left = np.ones((stop - start, self.width, 1), np.float32)
        mixed = np.zeros((stop - start, self.width, 3), np.float32)
        for part, amounts in self._parts:
            amount = amounts[start:stop, :, None].numpy()
            mixed += amount * part.rows(start, stop)
            left -= amount
        mixed += left.clip(min=0) * self._rest.rows(start, stop)
        return mixed.clip(0, 1)


def strips(source: RowSource) -> Iterator[tuple[int, int]]:
    """Ranges of rows, ``(start, stop)``, of about ``STRIP_BYTES`` each, from top to bottom."""
    step = max(1, STRIP_BYTES // (12 * source.width))
    for start in range(0, source.height, step):
        yield start, min(start + step, source.height)


def digest(source: RowSource) -> str:
    """SHA-256 of a picture: that of its pixels, ``(H, W, 3)`` float32, as one tensor."""
    shape = (source.height, source.width, 3)
    parts = (torch.from_numpy(source.rows(start, stop)) for start, stop in strips(source))
    return digest_of_parts(shape, torch.float32, parts)


def to_tensor_rows(source: RowSource, start: int, stop: int) -> Tensor:
    """Rows of a picture as a tensor, ``(1, 3, stop - start, W)`` float32."""
    return torch.from_numpy(source.rows(start, stop).transpose(2, 0, 1).copy())[None]


def fill(stored: BandedTensor, source: RowSource) -> None:
    """Copy a picture into a tensor ``(1, 3, H, W)`` that is stored by band, strip by strip.

    Raises:
        ValueError: if the sizes differ.
    """
    if (stored.height, stored.width) != (source.height, source.width):
        message = (
            f"a picture of {source.width}×{source.height} does not fill "
            f"{stored.width}×{stored.height}"
        )
        raise ValueError(message)
    for start, stop in strips(source):
        stored.write(slice(start, stop), to_tensor_rows(source, start, stop))
        stored.release_rows(slice(start, stop))


def extremes(values: Tensor, store: Store) -> tuple[float, float]:
    """The smallest and the largest of stored floats, ``(h, w, 3)``, read a few rows at a time.

    Raises:
        InvalidInput: if any is NaN or infinite.
    """
    smallest, largest = math.inf, -math.inf
    step = max(1, STRIP_BYTES // (values.element_size() * 3 * values.shape[1]))
    for part in torch.split(values, step):
        low, high = (float(found) for found in part.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InvalidInput("holds NaN or infinity")
        smallest, largest = min(smallest, low), max(largest, high)
        store.release(part)
    return smallest, largest
