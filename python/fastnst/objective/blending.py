"""From the features of the style pictures at one layer to one loss.

Several pictures are blended with proportions b_k, Σ b_k = 1, in one of two ways (``blending``):

    targets    the distance from the blended statistics Σ b_k A_k         (jcjohnson/neural-style)
    losses     the blended distances Σ b_k mean (G − A_k)²                (most others)

Where the distance is a mean square the second is the first plus a constant,

    Σ b_k mean (G − A_k)² = mean (G − Ā)² + Σ b_k mean (A_k − Ā)²,   Ā = Σ b_k A_k,

so it costs no more, and the picture is the same. For ``wasserstein`` they are two objectives.

Regions (``regions.py``) add up: g_l = Σ_r λ_r g_{l,r}, each with guidance (Gatys et al. 2017,
equation 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from fastnst.errors import InvalidInput
from fastnst.losses import (
    STYLE_LOSSES,
    LayerLoss,
    StyleLoss,
    StyleLossType,
    WassersteinLoss,
    WeightedLoss,
)
from fastnst.objective.regions import Region
from fastnst.settings.settings import Settings

Statistics = Mapping[tuple[int, str], tuple[Tensor, ...]]


def describe(
    features: Tensor, index: int, settings: Settings, regions: Sequence[Region], backend: str
) -> Statistics:
    """The statistics of one style picture at one layer.

    Args:
        features: ``(1, C, h, w)``.
        index: Which of the style pictures it is.
        settings: ``statistics`` is read.
        regions: Where each style goes.
        backend: What computes Gram matrices; see ``fastnst.gram_matrix``.

    Returns:
        ``{(region, statistic): targets}`` for the regions that this style is for.
    """
    found = {}
    for r, region in enumerate(regions):
        if index in region.styles:
            guidance = region.style_guidance(index, (features.shape[-2], features.shape[-1]))
            for name in settings.statistics:
                found[r, name] = STYLE_LOSSES[name].statistics(features, guidance, backend)
    return found


def style_loss_of(
    styles: Sequence[Statistics],
    size: tuple[int, int],
    settings: Settings,
    regions: Sequence[Region],
    backend: str = "auto",
) -> LayerLoss:
    """The loss of one layer.

    Args:
        styles: What ``describe`` returns for each style picture.
        size: Positions of the result at this layer, (H, W).
        settings: ``statistics``, their weights, ``style_blend`` and ``blending`` are read.
        regions: Where each style goes.
        backend: What computes Gram matrices; see ``fastnst.gram_matrix``.

    Returns:
        A module that maps features ``(1, C, H, W)`` to g_l, 0-dimensional. With one region and one
        statistic that is the loss itself, unless several Wasserstein losses are blended.
    """
    blend = settings.blend(len(styles))
    statistics_weights = settings.statistics_weights or (1.0,) * len(settings.statistics)
    losses: list[LayerLoss] = []
    weights: list[float] = []
    for r, region in enumerate(regions):
        guidance = region.content_guidance(size)
        total = sum(blend[k] for k in region.styles)
        if not total:
            raise InvalidInput(f"style_blend leaves {region.name} without a style")
        shares = [blend[k] / total for k in region.styles]
        for name, weight in zip(settings.statistics, statistics_weights, strict=True):
            found = [styles[k][r, name] for k in region.styles]
            loss_type = STYLE_LOSSES[name]
            losses.append(_blended(loss_type, found, shares, settings.blending, guidance, backend))
            weights.append(region.share * weight)
    if len(losses) == 1 and weights == [1.0]:
        return losses[0]
    return WeightedLoss(losses, weights)


def _blended(
    loss_type: StyleLossType,
    found: Sequence[tuple[Tensor, ...]],
    shares: Sequence[float],
    blending: str,
    guidance: Tensor | None,
    backend: str,
) -> LayerLoss:
    if blending == "losses" and loss_type is WassersteinLoss and len(found) > 1:
        losses = [loss_type(*targets, guidance=guidance, backend=backend) for targets in found]
        return WeightedLoss(losses, shares)
    means = tuple(
        sum((b * part for b, part in zip(shares, parts, strict=True)), parts[0].new_zeros(()))
        for parts in zip(*found, strict=True)
    )
    spread = 0.0
    if blending == "losses":
        for share, targets in zip(shares, found, strict=True):
            for part, mean in zip(targets, means, strict=True):
                spread += share * float((part - mean).double().square().mean())
    return loss_type(*means, guidance=guidance, backend=backend, spread=spread)


def is_plain(loss: nn.Module) -> bool:
    """Whether a loss is that of one unguided Gram matrix, which engines may fuse."""
    return type(loss) is StyleLoss and loss.guidance is None
