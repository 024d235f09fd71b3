"""Colours: matching one picture's to another's, and keeping the content's.

Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer" (arXiv:1606.05897).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)  # of RGB, ITU-R BT.601
ROTATIONS = 12  # of match_histogram; the distance of the two clouds hardly falls after ten
QUANTILES = 1024
ALIKE = 1e-9  # values this near are one: rounding of a product of matrices tells them apart
STRIP_PIXELS = 1 << 22  # of a large picture that are recoloured at a time

Moments: TypeAlias = "tuple[Tensor, Tensor]"


def match_colours(
    image: Tensor, reference: Tensor | Sequence[Tensor], weights: Sequence[float] | None = None
) -> Tensor:
    """Give ``image`` the mean and covariance of the colours of ``reference``.

    The affine map x ↦ μ_r + A (x − μ) with A = Σ^-½ (Σ^½ Σ_r Σ^½)^½ Σ^-½ sends the normal
    distribution N(μ, Σ) to N(μ_r, Σ_r) and moves the colours least (Olkin & Pukelsheim 1982).

    Args:
        image: ``(1, 3, H, W)``, RGB in [0, 1].
        reference: ``(1, 3, h, w)``, RGB in [0, 1], or several: the colours of their mixture.
        weights: Proportions of the mixture, with sum 1; None: equal.

    Returns:
        The picture, clamped to [0, 1], in the dtype of ``image``.
    """
    references = [reference] if isinstance(reference, Tensor) else list(reference)
    own = moments(image)
    wanted = mixture([moments(picture) for picture in references], weights)
    colours = image[0].flatten(1).double()
    matched = transport(own, wanted) @ (colours - own[0]) + wanted[0]
    return matched.reshape(image.shape).clamp(0, 1).to(image)


def transport(own: Moments, wanted: Moments) -> Tensor:
    """The matrix A of ``match_colours``, (3, 3): it takes one covariance to the other."""
    root = _power(own[1], 0.5)
    inverse = _power(own[1], -0.5)
    return inverse @ _power(root @ wanted[1] @ root, 0.5) @ inverse


def match_histogram(image: Tensor, reference: Tensor) -> Tensor:
    """Give ``image`` the distribution of the colours of ``reference``, not only its moments.

    Along the axes of one rotation after another the histograms are made equal (Pitié, Kokaram &
    Dahyot 2005), starting from the picture that ``match_colours`` returns.

    Args:
        image: ``(1, 3, H, W)``, RGB in [0, 1].
        reference: ``(1, 3, h, w)``, RGB in [0, 1].

    Returns:
        The picture, clamped to [0, 1], in the dtype of ``image``. The same input gives the same.
    """
    colours = match_colours(image, reference)[0].flatten(1).double().cpu()
    wanted = reference[0].flatten(1).double().cpu()
    for axes in rotations():
        projected, wanted_projected = axes.T @ colours, axes.T @ wanted
        colours = axes @ torch.stack(
            [_match_values(a, b) for a, b in zip(projected, wanted_projected, strict=True)]
        )
    return colours.reshape(image.shape).clamp(0, 1).to(image)


def rotations() -> Iterator[Tensor]:
    """The axes of ``match_histogram``, ``ROTATIONS`` times (3, 3) float64, the same every time."""
    yield torch.eye(3, dtype=torch.float64, device="cpu")
    generator = torch.Generator().manual_seed(0)
    for _ in range(ROTATIONS - 1):
        normal = torch.randn(3, 3, generator=generator, dtype=torch.float64, device="cpu")
        yield torch.linalg.qr(normal)[0]


def luminance(image: Tensor) -> Tensor:
    """``(1, 3, H, W)`` to its luminance Y, ``(1, 1, H, W)``."""
    weights = image.new_tensor(LUMINANCE).view(1, 3, 1, 1)
    return (weights * image).sum(1, keepdim=True)


def grey(image: Tensor, like: Tensor | None = None) -> Tensor:
    """The luminance of a picture as a grey picture ``(1, 3, H, W)``.

    Args:
        image: ``(1, 3, H, W)``, RGB in [0, 1].
        like: A picture whose mean and standard deviation of luminance it is given.
    """
    y = luminance(image)
    if like is not None:
        other = luminance(like)
        scale = other.std(correction=0) / y.std(correction=0).clamp_min(1e-6)
        y = ((y - y.mean()) * scale + other.mean()).clamp(0, 1)
    return y.expand(-1, 3, -1, -1).contiguous()


def with_colours_of(image: Tensor, content: Tensor) -> Tensor:
    """The luminance of ``image`` with the colours of ``content``, both ``(1, 3, H, W)``.

    In YIQ (and every space with Y and linear differences) this adds the same to R, G and B.
    """
    result = torch.empty_like(content)
    rows = max(1, STRIP_PIXELS // content.shape[-1])
    for start in range(0, content.shape[-2], rows):
        x, y, part = (t[..., start : start + rows, :] for t in (image, content, result))
        torch.clamp(y + luminance(x) - luminance(y), 0, 1, out=part)
    return result


def _match_values(values: Tensor, wanted: Tensor) -> Tensor:
    """The increasing map that gives ``values`` the distribution of ``wanted``, both of one axis."""
    return between_quantiles(
        values, quantiles(values.sort().values), quantiles(wanted.sort().values)
    )


def between_quantiles(values: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Map values so that their quantiles ``source`` become ``target``, linearly in between.

    A value that many quantiles have, as the paper of a drawing, becomes the mean of theirs.

    Args:
        values: Of one axis, ``(n,)``.
        source: Their quantiles, ascending, ``(q,)``, of the same dtype.
        target: Those that they are to have, ``(q,)``.
    """
    values = values.contiguous()
    after = torch.searchsorted(source, values).clamp(1, len(source) - 1)
    low, high = source[after - 1], source[after]
    part = ((values - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    mapped = torch.lerp(target[after - 1], target[after], part)
    # Those that may have several: the two searches take as long as all of the above.
    flat = ((values - low <= ALIKE) | (high - values <= ALIKE)).nonzero().squeeze(1)
    first = torch.searchsorted(source, values[flat] - ALIKE)
    alike = torch.searchsorted(source, values[flat] + ALIKE, right=True) - first
    sums = torch.cat([target.new_zeros(1), target.cumsum(0)])
    mean = (sums[first + alike] - sums[first]) / alike.clamp_min(1)
    mapped[flat] = torch.where(alike > 1, mean, mapped[flat])
    return mapped


def quantiles(ordered: Tensor) -> Tensor:
    """``QUANTILES`` values at equal ranks of a 1-dimensional tensor in ascending order."""
    ranks = torch.linspace(0, len(ordered) - 1, QUANTILES, dtype=torch.float64, device="cpu")
    low = ranks.floor().long()
    high = (low + 1).clamp_max(len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], ranks - low)


def mixture(parts: Sequence[Moments], weights: Sequence[float] | None = None) -> Moments:
    """Mean and covariance of the colours of several pictures, mixed in proportion.

    Args:
        parts: Each picture's own mean and covariance.
        weights: Proportions of the mixture, with sum 1; None: equal.
    """
    weights = weights or [1 / len(parts)] * len(parts)
    mean = torch.stack([w * m for w, (m, _) in zip(weights, parts, strict=True)]).sum(0)
    covariances = [
        w * (covariance + (m - mean) @ (m - mean).T)
        for w, (m, covariance) in zip(weights, parts, strict=True)
    ]
    return mean, torch.stack(covariances).sum(0)


def moments(image: Tensor) -> Moments:
    """Mean (3, 1) and covariance (3, 3) of the colours, float64; never quite singular."""
    colours = image[0].flatten(1).double()
    mean = colours.mean(1, keepdim=True)
    centred = colours - mean
    return mean, never_singular(centred @ centred.T / colours.shape[1])


def never_singular(covariance: Tensor) -> Tensor:
    """A covariance of colours with a little noise, so that a picture of one colour has a root."""
    return covariance + 1e-6 * torch.eye(3, dtype=covariance.dtype, device=covariance.device)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric, positive definite matrix, by its eigenvectors."""
    values, vectors = torch.linalg.eigh(matrix)
    power: Tensor = vectors * values.clamp_min(1e-12).pow(exponent) @ vectors.T
    return power
