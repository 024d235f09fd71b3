"""Statistics in float32 against float64 where features are large and positions few."""

from __future__ import annotations

import torch

from fastnst.losses import WassersteinLoss


def test_wasserstein_holds_for_features_of_weights_that_are_not_normalised() -> None:
    """As VGG's own have them: float32 leaves more in their covariances than 1e-4."""
    generator = torch.Generator().manual_seed(0)
    picture, style = (
        (3 * torch.randn(1, 64, 4, 6, generator=generator) + 1).relu() * 200 for _ in range(2)
    )  # fewer positions than channels
    loss = WassersteinLoss(*WassersteinLoss.statistics(style))
    wide = WassersteinLoss(
        *WassersteinLoss.statistics(style.double(), None, "torch"), backend="torch"
    )
    x, y = picture.clone().requires_grad_(), picture.double().requires_grad_()
    exact = wide(y)
    loss(x).backward()
    exact.backward()
    # what float32 leaves of a sum of squares, over the smallest root: 2⁻²⁴ / 1e-6^½
    assert float((x.grad - y.grad).norm() / y.grad.norm()) < 1e-3
    assert abs(float(loss(style))) < 1e-5 * float(exact.detach())

    rows = picture[0].flatten(1).double().requires_grad_()  # as the sums of strips make it
    loss.of_moments(rows.mean(1), rows @ rows.T / rows.shape[1]).backward()
    whole = x.grad[0].flatten(1).double()
    assert float((whole - rows.grad).norm() / rows.grad.norm()) < 1e-3
