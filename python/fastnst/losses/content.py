"""The distance of two pictures' content."""

from __future__ import annotations

from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.losses.layer_loss import LayerLoss
from fastnst.losses.rows import sum_by_rows, wide


class ContentLoss(LayerLoss):
    """The distance of the content representations: mean over all elements of (F − P)².

    Gatys et al. 2015, equation 1, which has ½ Σ where the mean is here.

    Args:
        target: The features P of the content image at one layer, ``(B, C, H, W)``.
    """

    sums_over_positions = True
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
        target = wide(self.target)
        difference = features.to(target.dtype) - target
        return sum_by_rows(difference.square()) / difference.numel()
