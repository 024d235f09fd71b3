"""One piece of a picture by the plan on a GPU, of PyTorch's operators or with our own kernels.

cuDNN may compute a convolution otherwise for a piece than for the whole picture, so features differ
by rounding from those of a picture in one piece. The same pieces have the same bits each time.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.engines.planned.cuda import PlannedEngine
from fastnst.engines.planned.cudnn import same_plans
from fastnst.engines.planned.kernels import KernelEngine
from fastnst.engines.strips.walk import PieceWalk
from fastnst.objective.objective import Objective
from fastnst.strips.geometry import Tile


class PlannedEvaluator(PieceWalk, PlannedEngine):
    """Computes pieces with the walk of ``PlannedEngine``.

    Args:
        objective: Of the whole picture, on the device where pieces are computed.
        precision: ``fp32`` or ``bf16``, as for ``PlannedEngine``.
        name: What the engine is called in results.
        cache: Arranged filters of the same network, to be used again.
    """

    copied = 1 << 25  # 128 MB in float32: fewer and larger operations

    def __init__(
        self,
        objective: Objective,
        precision: str = "fp32",
        name: str = "native",
        cache: Cache | None = None,
    ) -> None:
        super().__init__(objective, precision, name, cache)
        self._compare_nothing()

    def another(self) -> PlannedEvaluator:
        """One with features of its own, and the same filters."""
        found = copy.copy(self)
        found.features, found._pooled_at = {}, {}
        found._gradient = self._gradient.new_empty(0)
        return found

    def forward(self, pixels: Tensor, tile: Tile) -> None:
        """Compute the features of a piece ``(1, 3, h, w)``, by the same plans each time."""
        with same_plans():
            super().forward(pixels, tile)

    def gradient(self) -> Tensor:
        """The gradient that the owned positions give to all pixels of the piece."""
        with same_plans():
            return super().gradient()

    def _by_position(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)

    def _no_gradient(self, key: str) -> Tensor:
        return torch.zeros_like(self.features[key])

    def _gram(self, features: Tensor) -> Tensor:
        f = features.reshape(-1, features.shape[-1]).to(self._wide)
        return (f.T @ f).double()

    def _product(self, features: Tensor, matrix: Tensor) -> Tensor:
        return features.to(self._wide) @ matrix


class KernelEvaluator(PlannedEvaluator, KernelEngine):
    """The same with the walk of ``KernelEngine``: its convolution of the picture, its poolings."""
