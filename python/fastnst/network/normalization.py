"""From a picture to the network's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalization(nn.Module):
    """From a picture to the network's input: (x − mean) / std for each channel.

    Args:
        mean: One value per channel, in the units of the picture.
        std: One value per channel, > 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", _per_channel(mean))
        self.register_buffer("std", _per_channel(std))

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to the same shape."""
        return (image - self.mean) / self.std


def _per_channel(values: Sequence[float]) -> Tensor:
    """``(C, 1, 1)`` float32, on the CPU."""
    return torch.tensor(values, dtype=torch.float32, device="cpu").view(-1, 1, 1)
