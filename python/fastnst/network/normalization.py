"""From a picture to the network's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


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
