"""Gram matrix, style loss and gradient in float64, from the formulas, and their tolerances."""

import torch
from torch import Tensor


def gram(features: Tensor) -> Tensor:
    f = features.detach().double().flatten(-2)
    return torch.einsum("...in,...jn->...ij", f, f) / f.shape[-1]


def loss(features: Tensor, target: Tensor) -> Tensor:
    return ((gram(features) - target.double()) ** 2).mean()


def weighted(features: Tensor, weight: Tensor) -> Tensor:
    """(W + Wᵀ)/2 · F."""
    f = features.detach().double().flatten(-2)
    symmetric = (weight.double() + weight.double().transpose(-1, -2)) / 2
    return torch.einsum("...ik,...kn->...in", symmetric, f).reshape(features.shape)


def gradient(features: Tensor, target: Tensor) -> Tensor:
    """∂/∂F of the loss: 4 / (B·C²·N) · sym(G − A) F."""
    difference = gram(features) - target.double()
    channels, positions = features.shape[-3], features.shape[-2] * features.shape[-1]
    batch = features.shape[0] if features.ndim == 4 else 1
    return weighted(features, difference) * 4 / (batch * channels**2 * positions)


def error(value: Tensor, truth: Tensor) -> float:
    """Relative Frobenius error; 0 for two zeros."""
    distance = (value.detach().double() - truth).norm().item()
    return distance / max(truth.norm().item(), 1e-300)


# Relative error of one multiplication and rounding chain: float32 sums differ from float64 by a few
# roundings of 6e-8; the bfloat16 gradient multiplies D rounded to 8 bits and is rounded to 8 bits.
FORWARD = 1e-6
GRADIENT = {torch.float32: 2e-6, torch.bfloat16: 6e-3}
