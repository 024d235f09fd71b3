"""Matching the colours of one picture to those of another, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor


def match_colours(image: Tensor, reference: Tensor) -> Tensor:
    """Give ``image`` the mean and covariance of the colours of ``reference``.

    The affine map x ↦ μ_r + A (x − μ) with A = Σ^-½ (Σ^½ Σ_r Σ^½)^½ Σ^-½ sends the normal
    distribution N(μ, Σ) to N(μ_r, Σ_r) and moves the colours least (Olkin & Pukelsheim 1982).

    Args:
        image: ``(1, 3, H, W)``, RGB in [0, 1].
        reference: ``(1, 3, h, w)``, RGB in [0, 1].

    Returns:
        The picture, clamped to [0, 1], in the dtype of ``image``.
    """
    mean, covariance = _moments(image)
    mean_r, covariance_r = _moments(reference)
    root = _power(covariance, 0.5)
    inverse = _power(covariance, -0.5)
    matrix = inverse @ _power(root @ covariance_r @ root, 0.5) @ inverse
    colours = image[0].flatten(1).double()
    matched = matrix @ (colours - mean) + mean_r
    return matched.reshape(image.shape).clamp(0, 1).to(image)


def _moments(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (3, 1) and covariance (3, 3) of the colours, float64; never quite singular."""
    colours = image[0].flatten(1).double()
    mean = colours.mean(1, keepdim=True)
    centred = colours - mean
    covariance = centred @ centred.T / colours.shape[1]
    return mean, covariance + 1e-6 * torch.eye(3, dtype=covariance.dtype, device=covariance.device)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric, positive definite matrix, by its eigenvectors."""
    values, vectors = torch.linalg.eigh(matrix)
    power: Tensor = vectors * values.clamp_min(1e-12).pow(exponent) @ vectors.T
    return power
