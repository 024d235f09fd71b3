"""An engine's loss as a node of torch's autograd, for pictures that are made by other code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastnst.evaluation import Engine


def differentiable_loss(engine: Engine, image: Tensor) -> Tensor:
    """L(image), which autograd can differentiate: ``differentiable_loss(engine, f(z)).backward()``.

    The engine computes the gradient along with the loss, so a backward pass costs next to nothing,
    and a forward pass as much as both.

    Args:
        engine: What ``create_engine`` returns.
        image: ``(1, 3, H, W)``, RGB in [0, 1] and a little beyond.

    Returns:
        The total loss, 0-dimensional. It can be differentiated once, not twice.
    """
    apply: Any = _EngineLoss.apply  # untyped in torch
    loss: Tensor = apply(image, engine)
    return loss


class _EngineLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, engine: Engine) -> Tensor:
        evaluation = engine.evaluate(image.detach())
        ctx.save_for_backward(evaluation.gradient.clone())  # its memory may be reused
        return evaluation.terms.total.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None
