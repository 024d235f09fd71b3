"""Lanczos resampling by rows: Pillow's of a whole picture.

On x86-64 the bits are the same unless one side grows while the other shrinks, where Pillow may take
its passes in the other order. There, and where a compiler fuses a product and a sum, the results
differ by a rounding to float32.

Pillow resamples in two passes: each row to the new width, then each column to the new height. The
first is Pillow's own here, a few rows at a time. For the second, Pillow takes a float32 box, which
does not tell rows of a large picture apart; so it is done here, with the same coefficients and
additions in the same order (libImaging/Resample.c, ``precompute_coeffs`` and
``ImagingResampleVertical_32bpc``).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastnst.images.pixels import Pixels
from fastnst.images.rows import STRIP_BYTES, RowSource

_SUPPORT = 3  # of the Lanczos kernel, in pixels of the larger of the two grids


class ResizedRows:
    """The rows of a picture at another size: those of ``pixels.resize``.

    Args:
        source: The picture.
        width: Columns of the result.
        height: Rows of the result.
    """

    def __init__(self, source: RowSource, width: int, height: int) -> None:
        self._source = source
        self.width, self.height = width, height

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``, clipped to [0, 1].

        Reads the source rows that they need in strips, so memory is bounded by the rows asked for:
        24 bytes a pixel, and twice ``STRIP_BYTES``.
        """
        same_width = self._source.width == self.width
        if self._source.height == self.height:
            rows = self._source.rows(start, stop)
            # ``pixels.resize`` gives back as it is what has the size already
            return rows if same_width else self._widened(rows).clip(0, 1)
        weights = [_weights(self._source.height, self.height, row) for row in range(start, stop)]
        totals = np.zeros((stop - start, self.width, 3), np.float64)
        low = min(first for first, _ in weights)
        high = max(first + len(values) for first, values in weights)
        step = max(1, STRIP_BYTES // (12 * max(self._source.width, self.width)))
        for top in range(low, high, step):
            bottom = min(top + step, high)
            rows = self._source.rows(top, bottom)
            self._accumulate(totals, weights, rows if same_width else self._widened(rows), top)
        return totals.astype(np.float32).clip(0, 1)

    def _widened(self, rows: Pixels) -> Pixels:
        """Rows at the new width: only the horizontal pass has anything to do."""
        channels = [
            Image.fromarray(np.ascontiguousarray(rows[..., c])).resize(
                (self.width, rows.shape[0]), Image.Resampling.LANCZOS, reducing_gap=None
            )
            for c in range(3)
        ]
        return np.stack([np.asarray(channel) for channel in channels], axis=-1)

    @staticmethod
    def _accumulate(
        totals: NDArray[np.float64],
        weights: list[tuple[int, list[float]]],
        rows: Pixels,
        top: int,
    ) -> None:
        """Add source rows, the first of which is ``top``, to the results that they are part of."""
        for k, (first, values) in enumerate(weights):
            for y in range(max(first, top), min(first + len(values), top + rows.shape[0])):
                totals[k] += rows[y - top].astype(np.float64) * values[y - first]


def _weights(source: int, result: int, row: int) -> tuple[int, list[float]]:
    """The first source row that a row of the result depends on, and the rows' weights."""
    scale = source / result
    stretch = max(scale, 1.0)
    support = _SUPPORT * stretch
    centre = (row + 0.5) * scale
    first = max(int(centre - support + 0.5), 0)
    last = min(int(centre + support + 0.5), source)
    factor = 1.0 / stretch
    values = [_lanczos((y + first - centre + 0.5) * factor) for y in range(last - first)]
    total = 0.0
    for value in values:  # one after the other: sum() compensates for rounding from Python 3.12 on
        total += value
    return first, [value / total for value in values] if total else values


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / _SUPPORT) if -_SUPPORT <= x < _SUPPORT else 0.0


def _sinc(x: float) -> float:
    if x == 0:
        return 1.0
    x *= math.pi
    return math.sin(x) / x
