"""An objective that costs next to nothing, for measuring what surrounds an objective."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.measure import now
from fastnst import Terms
from fastnst.evaluation import Evaluation


class Quadratic:
    """½ Σ d (x − t)², with curvatures d spread over four decades so that L-BFGS stays busy.

    Args:
        shape: Shape of the picture.
        device: Where the tensors lie: ``cpu`` or ``cuda``.

    Attributes:
        target: The minimum t, between 0.2 and 0.8.
        curvature: The curvatures d, between 1 and 10⁴.
        start: A grey picture to start from.
        seconds: Time spent inside since it was last set to zero.
    """

    def __init__(self, shape: Sequence[int], device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.target = (0.2 + 0.6 * torch.rand(shape, generator=generator)).to(device)
        self.curvature = (10 ** (4 * torch.rand(shape, generator=generator))).to(device)
        self.start = torch.full(tuple(shape), 0.5, device=device)
        self.device = device
        self.seconds = 0.0

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient; the time that they take is added to ``seconds``."""
        began = now(self.device)
        with torch.no_grad():
            loss, gradient = self._loss_and_gradient(image)
        self.seconds += now(self.device) - began
        return loss, gradient

    def evaluate(self, image: Tensor) -> Evaluation:
        """The same without reading the clock, which a CUDA graph cannot record."""
        loss, gradient = self._loss_and_gradient(image)
        return Evaluation(Terms(loss, {}, {}, loss), gradient)

    def _loss_and_gradient(self, image: Tensor) -> tuple[Tensor, Tensor]:
        difference = image - self.target
        gradient = self.curvature * difference
        return 0.5 * (gradient * difference).sum(), gradient
