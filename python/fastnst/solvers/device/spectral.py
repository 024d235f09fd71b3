"""The curvature by spatial frequency and colour (``spectral.py``) with every number on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from fastnst.solvers.spectral import BANDS, MEMORY, STRETCH, SpectralScaling
from fastnst.solvers.state import State


class DeviceScaling:
    """γ P, learnt and applied without a number fetched or a branch taken.

    Args:
        like: A picture ``(1, 3, H, W)``.
    """

    def __init__(self, like: Tensor) -> None:
        self.bands = SpectralScaling(like)  # what belongs to which band
        self.ss, self.sy = self.bands.ss, self.bands.sy
        # Sums over bands as a product: index_add_ on a GPU adds in no fixed order.
        chosen = torch.nn.functional.one_hot(self.bands.band.flatten(), BANDS)
        self.members = chosen.to(like.dtype) * self.bands.weight.flatten()[:, None]
        self.gamma = like.new_zeros(())
        self.scaling = like.new_ones(3, *self.bands.band.shape)  # P

    def learn(self, step: Tensor, change: Tensor, curvature: Tensor, accept: Tensor) -> None:
        """Take in a pair (s, y), each ``(n,)``, where it is accepted.

        Args:
            step: s.
            change: y.
            curvature: s·y.
            accept: Whether the pair counts; if not all stays as it is.
        """
        s, y = self.bands.spectrum(step), self.bands.spectrum(change)
        for sums, other in ((self.ss, s), (self.sy, y)):
            products = s.real * other.real + s.imag * other.imag
            learnt = MEMORY * sums + products.flatten(1) @ self.members
            sums.copy_(torch.where(accept, learnt, sums))
        scaling = self.bands.compute()
        power = y.real.square() + y.imag.square()
        gamma = STRETCH * curvature / (scaling * self.bands.weight * power).sum()
        self.scaling.copy_(torch.where(accept, scaling, self.scaling))
        self.gamma.copy_(torch.where(accept, gamma.to(self.gamma.dtype), self.gamma))

    def apply(self, x: Tensor) -> Tensor:
        """γ P x for x ``(n,)``."""
        return self.bands.scale(x, self.scaling, self.gamma)

    def forget(self, all_of_it: Tensor) -> None:
        """Drop what was learnt, where ``all_of_it`` (0-dimensional) is true."""
        self.ss.masked_fill_(all_of_it, 0)
        self.sy.masked_fill_(all_of_it, 0)

    def state(self) -> State:
        """What ``restore`` needs to go on bit for bit."""
        return State(tensors={name: getattr(self, name) for name in _STATE})

    def restore(self, state: State) -> None:
        """Take the state of another, for pictures of the same size."""
        for name in _STATE:
            getattr(self, name).copy_(state.tensors[name])


_STATE = ("ss", "sy", "gamma", "scaling")
