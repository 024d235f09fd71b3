"""A weighted sum of losses on the same features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fastnst.losses.layer_loss import LayerLoss


class WeightedLoss(LayerLoss):
    """Σ_i w_i · loss_i(features).

    Args:
        losses: At least one.
        weights: w_i, one for each loss.
    """

    def __init__(self, losses: Sequence[LayerLoss], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.weights = tuple(weights)
        self.needs_host = any(loss.needs_host for loss in losses)
        self._parts = tuple(zip(self.weights, losses, strict=True))

    def parts(self) -> list[tuple[float, LayerLoss]]:
        """The losses of the losses, with the products of their weights."""
        return [(w * v, loss) for w, outer in self._parts for v, loss in outer.parts()]

    def forward(self, features: Tensor) -> Tensor:
        """The sum, 0-dimensional."""
        terms = [w * loss(features) for loss, w in zip(self.losses, self.weights, strict=True)]
        total: Tensor = sum(terms[1:], terms[0])
        return total
