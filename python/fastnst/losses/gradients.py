"""Gradient normalisation: every layer pulls with the same force.

The option ``-normalize_gradients`` of jcjohnson/neural-style (norm of order 1) and neural-style-pt
(order 2): the gradient of each loss with respect to its layer's features is divided by its own norm
before the weight is applied. What comes out is the gradient of no function; L-BFGS works with it
all the same, since it looks at gradients alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastnst.ops import sums

NORMS = {"l1": sums.norm1, "l2": sums.norm2}


def normalise_gradient(gradient: Tensor, norm: str) -> Tensor:
    """A gradient divided by its norm, ``l1`` or ``l2``; zero stays zero."""
    length = NORMS[norm](gradient).to(gradient.dtype)
    normalised: Tensor = gradient / length.clamp_min(torch.finfo(gradient.dtype).tiny)
    return normalised


def scale_gradient(features: Tensor, weight: float, norm: str) -> Tensor:
    """The features themselves; on the way back a gradient becomes weight · gradient / |gradient|.

    What multiplied the gradient before is lost, so the weight has to be given again.
    """
    apply: Any = _ScaleGradient.apply  # untyped in torch
    scaled: Tensor = apply(features, weight, norm)
    return scaled


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: float, norm: str) -> Tensor:
        ctx.weight, ctx.norm = weight, norm
        return features.view_as(features)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.weight * normalise_gradient(gradient, ctx.norm), None, None
