"""The gradient of L2 pooling, in PyTorch's operators: neither plan has a kernel for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastnst.network.vgg import L2Pool


def unpool_l2(gradient: Tensor, features: Tensor, pooled: Tensor, *, out: Tensor) -> None:
    """The gradient of y = √(mean of x² over 2×2 windows): ∂y/∂x = x / (4 y), and 0 where y is.

    It is zero wherever x is, so ReLU's mask is in it.

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
