"""How much a frame of a film differs from what it should be after the frames before it.

Ruder, Dosovitskiy and Brox 2016 (arXiv:1604.08610, §4.2): with w the frame before, warped along the
optical flow, and the reliability c ≥ 0 of each pixel,

    t(x) = Σ c (x − w)² / (3 Σ c),

the mean over the reliable pixels and the three colours. The paper divides by all pixels; then the
weight of what is reliable would fall with its share of the frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastnst.errors import InvalidInput
from fastnst.losses.rows import sum_by_rows, wide


class TemporalLoss(nn.Module):
    """The mean squared distance to a warped frame, over the pixels that are reliable.

    Args:
        target: The warped frame ``(1, 3, H, W)``.
        reliability: ``(1, 1, H, W)``, 0 where a pixel of ``target`` means nothing, up to 1.

    Raises:
        InvalidInput: if the shapes do not go together, or the reliability is negative or not
            finite.
    """

    def __init__(self, target: Tensor, reliability: Tensor) -> None:
        super().__init__()
        if target.ndim != 4 or reliability.shape != (len(target), 1, *target.shape[-2:]):
            raise InvalidInput(
                f"the reliability has shape {tuple(reliability.shape)}: expected one number for "
                f"each pixel of the warped frame, which has {tuple(target.shape)}"
            )
        total = reliability.double().sum() * target.shape[1]
        if not bool(total.isfinite()):
            raise InvalidInput("the reliability has values that are not finite: expected 0 to 1")
        self.target: Tensor
        self.weights: Tensor
        if bool((reliability < 0).any()):
            raise InvalidInput("the reliability has negative values: expected 0 to 1")
        target = wide(target.detach()).masked_fill(reliability == 0, 0)  # which may be anything
        self.register_buffer("target", target)
        weights = reliability.double() / total if total > 0 else torch.zeros_like(reliability)
        self.register_buffer("weights", weights.to(target.dtype))

    def forward(self, image: Tensor) -> Tensor:
        """The loss, 0-dimensional, of a picture ``(1, 3, H, W)``; 0 if nothing is reliable.

        Raises:
            InvalidInput: if its shape is not that of the warped frame.
        """
        difference = self._difference(image)
        return sum_by_rows(difference.square() * self.weights)

    def differentiate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a picture ``(1, 3, H, W)``, and its gradient 2 c (x − w) / (3 Σ c) there.

        Returns:
            The loss, 0-dimensional, and the gradient ``(1, 3, H, W)``.

        Raises:
            InvalidInput: as ``forward``.
        """
        difference = self._difference(image)
        weighted = difference * self.weights
        return sum_by_rows(difference * weighted), weighted.mul_(2)

    def _difference(self, image: Tensor) -> Tensor:
        if image.shape != self.target.shape:
            raise InvalidInput(
                f"the picture has shape {tuple(image.shape)} and the warped frame "
                f"{tuple(self.target.shape)}"
            )
        return wide(image) - self.target
