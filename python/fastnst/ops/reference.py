"""The truth: Gram matrix and style loss in plain PyTorch, for any device and any autograd use.

Same signatures as ``fastnst.ops.functional`` without the backend. Half-precision features are
summed in float32, as the kernels do; float64 features stay float64. Source: Gatys, Ecker and
Bethge, "Image Style Transfer Using Convolutional Neural Networks" (CVPR 2016), equations 3 to 6,
each normalised by the number of its terms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gram_matrix(features: Tensor) -> Tensor:
    """G = F Fᵀ / N for features (C, H, W) or (B, C, H, W) with N = H·W."""
    f = features.flatten(-2)
    if f.dtype != torch.float64:
        f = f.float()
    return f @ f.mT / f.shape[-1]


def style_loss(features: Tensor, target_gram: Tensor) -> Tensor:
    """Mean of (G − A)² over (B,) C × C."""
    return (gram_matrix(features) - target_gram).square().mean()


def style_losses(features: Sequence[Tensor], target_grams: Sequence[Tensor]) -> Tensor:
    """The style loss of each layer, shape (L,)."""
    losses = [style_loss(f, a) for f, a in zip(features, target_grams, strict=True)]
    return torch.stack(losses)
