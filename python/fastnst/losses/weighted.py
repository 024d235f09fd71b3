"""A weighted sum of losses on the same features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class WeightedLoss(nn.Module):
    """Σ_i w_i · loss_i(features).

    Args:
        losses: Modules that map features to a 0-dimensional loss; at least one.
        weights: One for each.
    """

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.weights = tuple(weights)

    def forward(self, features: Tensor) -> Tensor:
        """The sum, 0-dimensional."""
        terms = [w * loss(features) for loss, w in zip(self.losses, self.weights, strict=True)]
        total: Tensor = sum(terms[1:], terms[0])
        return total
