"""The losses of the paper as small modules, for fastnst's engines and for anyone's PyTorch code.

    content = ContentLoss(target_features)          # mean (F − P)²
    style = StyleLoss(gram_matrix(style_features))  # mean (G − A)²
    total_variation = TotalVariationLoss()
    normalize = Normalization(mean, std)

Every loss is a mean, so a weight keeps its meaning when the size of the picture changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastnst.errors import InvalidInput
from fastnst.ops import gram_matrix, style_loss

__all__ = ["ContentLoss", "Normalization", "StyleLoss", "TotalVariationLoss", "gram_matrix"]


class Normalization(nn.Module):
    """What turns a picture into the network's input: (x − mean) / std for each channel.

    Args:
        mean: One value per channel, in the units of the picture.
        std: One value per channel, > 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to the same shape."""
        return (image - self.mean) / self.std


class ContentLoss(nn.Module):
    """The distance of the content representations: mean over all elements of (F − P)².

    Gatys et al. 2015, equation 1, which has ½ Σ in the place of the mean.

    Args:
        target: The features P of the content image at one layer, ``(B, C, H, W)``.
    """

    target: Tensor

    def __init__(self, target: Tensor) -> None:
        super().__init__()
        self.register_buffer("target", target.detach())

    def forward(self, features: Tensor) -> Tensor:
        """The loss, 0-dimensional, of features F of the target's shape.

        Raises:
            InvalidInput: if the shapes differ.
        """
        if features.shape != self.target.shape:
            raise InvalidInput(
                f"content features have shape {tuple(features.shape)}, "
                f"the target has {tuple(self.target.shape)}"
            )
        return nn.functional.mse_loss(features.to(self.target.dtype), self.target)


class StyleLoss(nn.Module):
    """The distance of the style representations: mean over C×C of (G − A)².

    Gatys et al. 2015, equations 3 and 4, with both Gram matrices divided by their own number of
    positions, G = F Fᵀ / (H·W), so that pictures of different sizes compare.

    Args:
        target_gram: The Gram matrix A of the style image at one layer, ``(C, C)`` or
            ``(B, C, C)``, float32: what ``gram_matrix`` returns.
        backend: ``"auto"``, ``"torch"`` or ``"native"``; see ``fastnst.style_loss``.
    """

    target_gram: Tensor

    def __init__(self, target_gram: Tensor, backend: str = "auto") -> None:
        super().__init__()
        self.register_buffer("target_gram", target_gram.detach())
        self.backend = backend

    def forward(self, features: Tensor) -> Tensor:
        """The loss, 0-dimensional, of features F ``(B, C, H, W)`` or ``(C, H, W)``."""
        return style_loss(features, self.target_gram, backend=self.backend)


class TotalVariationLoss(nn.Module):
    """The mean squared difference of neighbouring pixels, along rows plus along columns.

    Mahendran & Vedaldi 2015 (arXiv:1412.0035), with β = 2 and means in the place of sums.
    """

    def forward(self, image: Tensor) -> Tensor:
        """The loss, 0-dimensional, of a picture ``(B, C, H, W)``; 0 for a single pixel."""
        rows = image.diff(dim=-2).square()
        columns = image.diff(dim=-1).square()
        # .sum() / n in the place of .mean(): a side of one pixel has no neighbours, and no NaN.
        return rows.sum() / max(rows.numel(), 1) + columns.sum() / max(columns.numel(), 1)
