"""Guidance: where in a picture a style loss looks (Gatys et al. 2017, arXiv:1611.07865, §4).

A guidance map T ``(H, W)`` weights the positions of a layer: features F become T ∘ F, so that the
guided Gram matrix is (T ∘ F)(T ∘ F)ᵀ / N. The paper has Σ T² = 1 and no division by N; here the
mean of T² is 1, so that no guidance is T = 1. As weights of a mean, positions count T².
"""

from __future__ import annotations

from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ops.sums import squared_norm


def guide(features: Tensor, guidance: Tensor | None) -> Tensor:
    """T ∘ F for features ``(…, C, H, W)`` and guidance ``(H, W)``; F without guidance.

    Raises:
        InvalidInput: if the guidance is of another size than the features.
    """
    if guidance is None:
        return features
    if features.shape[-2:] != guidance.shape:
        raise InvalidInput(
            f"guidance has shape {tuple(guidance.shape)}, "
            f"the features have {tuple(features.shape[-2:])} positions"
        )
    return features * guidance


def normalise_guidance(guidance: Tensor) -> Tensor:
    """Scale a guidance map, not all zero, so that the mean of its squares is 1."""
    return guidance / (squared_norm(guidance) / guidance.numel()).sqrt().to(guidance.dtype)
