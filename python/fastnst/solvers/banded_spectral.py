"""Scaling by frequency and colour of vectors that are cut into bands of rows.

The method is that of ``spectral.py``, and so are its steps but for rounding. Several processes may
have the bands. Each then has some columns of the spectra (``banded_fourier.py``) and finds the sums
over its own; they are added in the order of the blocks of columns. So results depend on the bands,
not on the processes. An iteration makes four transforms, three to learn from s and y and to scale
the direction, and one back: for each pixel 48 bytes are sent.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fastnst.solvers import vectors
from fastnst.solvers.banded_fourier import BandedFourier
from fastnst.solvers.curvature import Curvature
from fastnst.solvers.spectral import (
    BANDS,
    MEMORY,
    OPPONENT_COLOURS,
    STRETCH,
    Scaling,
    add_by_band,
    frequency_bands,
    product,
    scaling_by_band,
    unit_of,
)
from fastnst.solvers.vectors import Placement, Vector


class BandedScaling(Scaling):
    """γ P for pictures that are cut into bands, learnt and applied by all processes together.

    Args:
        like: The rows of a picture that this process has, ``(1, 3, h, W)`` on the CPU.
        placement: How the picture is cut.
    """

    def __init__(self, like: Tensor, placement: Placement) -> None:
        colours = torch.tensor(OPPONENT_COLOURS, device=like.device, dtype=like.dtype)
        super().__init__(like)
        self._placement = placement
        self._fourier = BandedFourier(like, placement, colours)
        self._first, self._second = self._fourier.spectrum(), self._fourier.spectrum()
        size = self._fourier.height, like.shape[-1]
        found = [frequency_bands(size, self.gamma, columns) for columns in self._fourier.blocks]
        self._bands = [bands.to(torch.uint8) for bands, _ in found]
        self._weights = [weight for _, weight in found]

    def learn_pair(self, step: Vector, change: Vector, curvature: Curvature) -> None:
        """Learn from a curvature pair (s, y) whose products are ``curvature``."""
        square = torch.tensor(curvature.change, dtype=torch.float64, device=self.ss.device)
        unit = unit_of(square)
        self._fourier.forward(step, self._first)
        self._fourier.forward(change, self._second, float(unit))  # y / unit
        found = vectors.total(self._sums(), self._placement).view(3, 3, BANDS)
        ss, sy = found[0], found[1] * unit
        self.ss = MEMORY * self.ss + ss.to(self.ss.dtype)
        self.sy = MEMORY * self.sy + sy.to(self.sy.dtype)
        norm = (scaling_by_band(self.ss, self.sy).double() * found[2]).sum() * unit.square()
        self.gamma = (STRETCH * curvature.along / norm).to(self.gamma.dtype)  # norm is y·P y

    def scale(self, x: Vector) -> None:
        """x ← γ P x."""
        self._fourier.forward(x, self._first)
        by_band = scaling_by_band(self.ss, self.sy) * self.gamma
        for block, bands in zip(self._first, self._bands, strict=True):
            factors = by_band.index_select(1, bands.flatten().long()).view(3, *bands.shape)
            block.mul_(factors.transpose(0, 1))
            self._placement.release(block)
        self._fourier.inverse(self._first, x)

    def _sums(self) -> Iterator[Tensor]:
        """Of each block of columns s·s, s·y and y·y over each band, ``(9 · BANDS,)`` float64."""
        blocks = zip(self._first, self._second, self._bands, self._weights, strict=True)
        for s, y, bands, weight in blocks:
            members = bands.long()
            found = [
                add_by_band(product(a.transpose(0, 1), b.transpose(0, 1)).mul_(weight), members)
                for a, b in ((s, s), (s, y), (y, y))
            ]
            self._placement.release(s, y)
            yield torch.stack(found).reshape(-1)
