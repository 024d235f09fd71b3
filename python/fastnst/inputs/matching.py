"""The content in the colours of its styles: the start ``matched``, and what comes into a film.

Where masks say which style goes where, each region gets the colours of its own styles, and what has
no style keeps its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastnst.images.colour_rows import MatchedRows
from fastnst.images.rows import MixedRows, RowSource, TensorRows
from fastnst.objective.regions import Region


def matched(
    content: Tensor,
    styles: Sequence[Tensor],
    blend: Sequence[float],
    regions: Sequence[Region] | None = None,
) -> RowSource:
    """The content with the mean and covariance of its styles' colours.

    Args:
        content: ``(1, 3, H, W)``, RGB in [0, 1].
        styles: ``(1, 3, h, w)`` each.
        blend: The proportion of each style, with sum 1.
        regions: Which style goes where, with maps on the CPU; None: all of them everywhere. A
            region is recoloured by the mean and covariance of its own colours, to those of the
            parts of its styles that count; where maps are soft, regions are mixed by them.
    """
    whole, pictures = TensorRows(content), [TensorRows(style) for style in styles]
    if regions is None:
        return MatchedRows(whole, pictures, blend)
    parts = []
    for region in regions:
        # What is too small for this size has no colours; the objective refuses it.
        counted = [k for k, part in region.styles.items() if blend[k] and _has_any(part)]
        if not (counted and _has_any(region.content)):
            continue
        total = sum(blend[k] for k in counted)
        recoloured = MatchedRows(
            whole,
            [pictures[k] for k in counted],
            [blend[k] / total for k in counted],
            region.content,
            [region.styles[k] for k in counted],
        )
        where = region.content
        if where is None:
            where = torch.ones(content.shape[-2:], dtype=torch.float32, device="cpu")
        parts.append((recoloured, where))
    return MixedRows(whole, parts)


def _has_any(membership: Tensor | None) -> bool:
    return membership is None or bool(membership.any())
