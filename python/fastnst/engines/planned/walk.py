"""What both planned evaluations take from an objective, whatever computes their features.

Features and their gradients are seen as ``(1, C, H, W)``, whichever way they lie in memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastnst.losses import ContentLoss, StyleLoss
from fastnst.losses.gradients import normalise_gradient
from fastnst.network.vgg import L2Pool
from fastnst.objective.blending import is_plain
from fastnst.objective.objective import Objective


def plain_style(objective: Objective) -> dict[str, StyleLoss]:
    """The style losses, by layer, whose gradient is written down; of others it is found by autograd."""
    if objective.gradient_norm != "none":
        return {}
    style = objective.style.items()
    return {key: loss for key, loss in style if isinstance(loss, StyleLoss) and is_plain(loss)}


def plain_content(objective: Objective) -> dict[str, ContentLoss]:
    """Likewise the content losses."""
    if objective.gradient_norm != "none":
        return {}
    return {key: loss for key, loss in objective.content.items() if isinstance(loss, ContentLoss)}


def differentiate(loss: nn.Module, features: Tensor, gradient_norm: str) -> tuple[Tensor, Tensor]:
    """A loss on one layer's features and its gradient there, by autograd on that layer alone.

    Args:
        loss: From features to a 0-dimensional tensor.
        features: ``(1, C, H, W)``, float32 or float64.
        gradient_norm: As in ``Settings``: what the gradient is divided by.

    Returns:
        The loss, detached, and the gradient ``(1, C, H, W)``.
    """
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        value = loss(features)
        (gradient,) = torch.autograd.grad(value, features)
    if gradient_norm != "none":
        gradient = normalise_gradient(gradient, gradient_norm)
    return value.detach(), gradient


def add_total_variation(objective: Objective, image: Tensor, gradient: Tensor) -> Tensor:
    """Add τ · ∂tv/∂x at ``image`` ``(1, 3, H, W)`` to the gradient there.

    Returns:
        tv(x), 0-dimensional; zero where the objective has no total variation.
    """
    if not objective.tv_weight:
        return image.new_zeros(())
    with torch.enable_grad():
        x = image.detach().requires_grad_()
        tv: Tensor = objective.tv(x)
        (found,) = torch.autograd.grad(tv, x)
    gradient.add_(found, alpha=objective.tv_weight)
    return tv.detach()


def unpool_l2(gradient: Tensor, features: Tensor, pooled: Tensor, *, out: Tensor) -> None:
    """The gradient of L2 pooling, ∂y/∂x = x / (4 y); zero where the window is, so ReLU's mask is in it.

    Args:
        gradient: At the pooled features y, ``(1, C, H // 2, W // 2)``.
        features: x, ``(1, C, H, W)``.
        pooled: y.
        out: ``(1, C, H, W)``, written.
    """
    factor = gradient / (4 * pooled)
    factor.masked_fill_(pooled <= L2Pool.SMALLEST**0.5, 0)
    height, width = pooled.shape[-2:]
    out.zero_()  # an odd last row or column has no window
    for i in (0, 1):
        for j in (0, 1):
            window: Any = (..., slice(i, 2 * height, 2), slice(j, 2 * width, 2))
            torch.mul(features[window], factor, out=out[window])
