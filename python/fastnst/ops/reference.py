"""The truth: Gram matrix, style loss, convolution in plain PyTorch, on any device, for autograd.

Same signatures as ``fastnst.ops.functional`` without the backend. Half-precision features are
summed in float32, as the kernels do; float64 features stay float64. Source: Gatys, Ecker and
Bethge, "Image Style Transfer Using Convolutional Neural Networks" (CVPR 2016), equations 3 to 6,
each normalised by the number of its terms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fastnst.devices import without_autocast

# Positions whose products are added up at once. With 16 channels or more the sums of 8192 are off
# by 3e-7 at most, and all of them together by less; those of a megapixel in one product by 4e-6, of
# 16 megapixels by 1e-5.
POSITIONS = 1 << 13
SHORT = 512  # those of one product of a batch; with 1024 MKL divides some among threads after all


def gram_matrix(features: Tensor) -> Tensor:
    """G = F Fᵀ / N for features (C, H, W) or (B, C, H, W) with N = H·W."""
    f = features.flatten(-2)
    if f.dtype != torch.float64:
        f = f.float()
    with without_autocast(f.device.type):
        return products(f) / f.shape[-1]


def products(f: Tensor) -> Tensor:
    """F Fᵀ ``(…, C, C)`` for F ``(…, C, N)``, in its dtype: in parts, whose sums are added.

    In float32 the number of threads changes no bit. PyTorch's matrix product may divide one long
    product among its threads, and then their number decides the order of the sums; of a batch of
    short ones each is left to one thread.
    """
    found = [_batched_products(part) for part in torch.split(f, POSITIONS, -1)]
    return found[0] if len(found) == 1 else torch.stack(found).sum(0)


def _batched_products(f: Tensor) -> Tensor:
    """F Fᵀ by parts of at most ``SHORT`` positions, two at least."""
    positions = f.shape[-1]
    count = max(2, -(-positions // SHORT))
    length = positions // count
    cut = f[..., : count * length].reshape(*f.shape[:-1], count, length)  # no copy is made
    parts, rest = cut.movedim(-2, -3), f[..., count * length :]
    return (parts @ parts.mT).sum(-3) + rest @ rest.mT


def style_loss(features: Tensor, target_gram: Tensor) -> Tensor:
    """Mean of (G − A)² over (B,) C × C."""
    difference = gram_matrix(features) - target_gram
    return difference.square().mean(-1).mean()  # row by row, so that threads change no bit


def style_losses(features: Sequence[Tensor], target_grams: Sequence[Tensor]) -> Tensor:
    """The style loss of each layer, shape (L,)."""
    losses = [style_loss(f, a) for f, a in zip(features, target_grams, strict=True)]
    return torch.stack(losses)


# Convolutions of features (B, H, W, C), 3×3, stride 1, padding 1, and their gradients.


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """mask(relu(W ∗ x + b)) for filters W (Co, Ci, 3, 3); zero where mask ≤ 0."""
    y = functional.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=1).permute(0, 2, 3, 1)
    if relu:
        y = y.relu()
    return y if mask is None else y * (mask > 0)


def input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """dL/dx (B, H, W, Ci) from dL/d(W ∗ x): a convolution with flipped, transposed filters."""
    return convolve(gradient, weight.flip(2, 3).transpose(0, 1))


def pool(x: Tensor, pooling: str) -> Tensor:
    """2×2 pooling with stride 2, ``average`` or ``max``; an odd last row or column is left out."""
    function = functional.avg_pool2d if pooling == "average" else functional.max_pool2d
    y: Tensor = function(x.permute(0, 3, 1, 2), 2)
    return y.permute(0, 2, 3, 1)


def unpool(pooled: Tensor, features: Tensor, pooling: str, *, relu_mask: bool = False) -> Tensor:
    """The gradient of pooling and, with ``relu_mask``, of the ReLU before it."""
    with torch.enable_grad():
        x = features.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(pool(x, pooling), x, pooled)
    return gradient * (features > 0) if relu_mask else gradient
