"""The terms of an objective as the walk takes them: which gradients are known, which are found.

Content losses and plain style losses have their gradient written down in ``walk.py``. That of any
other loss is found by autograd, on the features of its layer alone. The terms that see the picture
itself come last, when the gradient has reached the picture: the temporal term and most forms of
total variation have theirs written down beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastnst.losses import ContentLoss, StyleLoss, TemporalLoss, TotalVariationLoss
from fastnst.losses.gradients import normalise_gradient
from fastnst.objective.blending import is_plain
from fastnst.objective.objective import Objective


def plain_style(objective: Objective) -> dict[str, StyleLoss]:
    """The style losses, by layer, whose gradient is written down: those of one Gram matrix."""
    if objective.gradient_norm != "none":
        return {}
    style = objective.style.items()
    return {key: loss for key, loss in style if isinstance(loss, StyleLoss) and is_plain(loss)}


def plain_content(objective: Objective) -> dict[str, ContentLoss]:
    """The content losses, by layer, whose gradient is written down."""
    if objective.gradient_norm != "none":
        return {}
    content = objective.content.items()  # what is derived from it may be another function
    return {key: loss for key, loss in content if type(loss) is ContentLoss}


def differentiate(loss: nn.Module, features: Tensor, gradient_norm: str) -> tuple[Tensor, Tensor]:
    """A loss on one layer's features, or on the picture, and its gradient there, by autograd.

    Args:
        loss: A module from features to a 0-dimensional tensor.
        features: ``(1, C, H, W)``, float32 or float64: nothing below them is differentiated.
        gradient_norm: As in ``Settings``: what the gradient is divided by.

    Returns:
        The loss, detached, and the gradient ``(1, C, H, W)``.
    """
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        value = loss(features)
        if not value.requires_grad:  # a constant
            return value.detach(), torch.zeros_like(features)
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
    return _add(objective.tv, objective.tv_weight, image, gradient)


def add_temporal(objective: Objective, image: Tensor, gradient: Tensor) -> Tensor | None:
    """Add γ · ∂t/∂x at ``image`` ``(1, 3, H, W)`` to the gradient there.

    Returns:
        t(x), 0-dimensional; None where the objective has no temporal term.
    """
    if objective.temporal is None:
        return None
    return _add(objective.temporal, objective.temporal_weight, image, gradient)


def _add(loss: nn.Module, weight: float, image: Tensor, gradient: Tensor) -> Tensor:
    """Add weight · ∂loss/∂x to the gradient; a class derived from a loss may compute another."""
    if type(loss) is TemporalLoss or (type(loss) is TotalVariationLoss and loss.has_gradient):
        value, found = loss.differentiate(image)
    else:
        value, found = differentiate(loss, image, "none")
    gradient.add_(found, alpha=weight)
    return value
