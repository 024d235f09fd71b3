"""L-BFGS scaled by frequency and colour, whose vectors are cut into bands of rows.

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
from fastnst.solvers.lbfgs import LBFGS
from fastnst.solvers.spectral import (
    BANDS,
    MEMORY,
    OPPONENT_COLOURS,
    STRETCH,
    add_by_band,
    frequency_bands,
    product,
    scaling_by_band,
)
from fastnst.solvers.state import State
from fastnst.solvers.vectors import Placement, Vector


class BandedSpectralLBFGS(LBFGS):
    """L-BFGS by bands with an initial inverse Hessian for each band of frequencies and colour."""

    def place(self, placement: Placement) -> Placement:
        """Bands as they were asked for."""
        return placement

    def prepare(self, history_size: int, first: float, gradient_norm1: float) -> None:
        """Set up the method; see ``ProjectedSolver``."""
        super().prepare(history_size, first, gradient_norm1)
        self.scaling = BandedScaling(self.image, self.placement)

    def learn(self, step: Vector, change: Vector, curvature: Curvature) -> None:
        """Learn γ P from a pair (s, y) with s·y > 0."""
        self.scaling.learn(step, change, curvature.along)

    def initial(self, q: Vector) -> None:
        """q ← γ P q, or γ q as long as there is no pair to learn P from."""
        if self.pairs.order:
            self.scaling.apply(q)
        else:
            super().initial(q)

    def state(self) -> State:
        """What ``restore`` needs to go on bit for bit."""
        return super().state() | self.scaling.state().under("scaling")

    def restore(self, state: State) -> None:
        """Take the state of another solver of this kind, for a picture of this size and bands."""
        super().restore(state)
        self.scaling.restore(state.part("scaling"))


class BandedScaling:
    """γ P for pictures that are cut into bands, learnt and applied by all processes together.

    Args:
        like: The rows of a picture that this process has, ``(1, 3, h, W)`` on the CPU.
        placement: How the picture is cut.

    Attributes:
        ss: Σ s_b·s_b, ``(3, BANDS)``.
        sy: Σ s_b·y_b, ``(3, BANDS)``.
        gamma: γ, 0-dimensional.
    """

    def __init__(self, like: Tensor, placement: Placement) -> None:
        colours = torch.tensor(OPPONENT_COLOURS, device=like.device, dtype=like.dtype)
        self._placement = placement
        self.ss = like.new_zeros(3, BANDS)
        self.sy = like.new_zeros(3, BANDS)
        self.gamma = like.new_zeros(())
        self._fourier = BandedFourier(like, placement, colours)
        self._first, self._second = self._fourier.spectrum(), self._fourier.spectrum()
        size = self._fourier.height, like.shape[-1]
        found = [frequency_bands(size, self.gamma, columns) for columns in self._fourier.blocks]
        self._bands = [bands.to(torch.uint8) for bands, _ in found]
        self._weights = [weight for _, weight in found]

    def learn(self, step: Vector, change: Vector, along: float) -> None:
        """Learn from a curvature pair.

        Args:
            step: s.
            change: y.
            along: s·y, positive.
        """
        self._fourier.forward(step, self._first)
        self._fourier.forward(change, self._second)
        found = vectors.total(self._sums(), self._placement).view(3, 3, BANDS)
        ss, sy = found[:2].to(self.ss.dtype)
        self.ss = MEMORY * self.ss + ss
        self.sy = MEMORY * self.sy + sy
        norm = (scaling_by_band(self.ss, self.sy).double() * found[2]).sum()  # y·P y
        self.gamma = (STRETCH * along / norm).to(self.gamma.dtype)

    def apply(self, x: Vector) -> None:
        """x ← γ P x."""
        self._fourier.forward(x, self._first)
        by_band = scaling_by_band(self.ss, self.sy) * self.gamma
        for block, bands in zip(self._first, self._bands, strict=True):
            factors = by_band.index_select(1, bands.flatten().long()).view(3, *bands.shape)
            block.mul_(factors.transpose(0, 1))
            self._placement.release(block)
        self._fourier.inverse(self._first, x)

    def state(self) -> State:
        """What was learnt, from which ``restore`` goes on bit for bit."""
        return State(tensors={"ss": self.ss, "sy": self.sy, "gamma": self.gamma})

    def restore(self, state: State) -> None:
        """Take the state of another scaling, for pictures of the same size and bands."""
        self.ss.copy_(state.tensors["ss"])
        self.sy.copy_(state.tensors["sy"])
        self.gamma.copy_(state.tensors["gamma"])

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
