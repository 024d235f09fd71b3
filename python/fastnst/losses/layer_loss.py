"""What every loss on features is."""

from __future__ import annotations

from torch import nn


class LayerLoss(nn.Module):
    """A loss on one layer: a module from features ``(1, C, H, W)`` to a 0-dimensional tensor.

    Attributes:
        needs_host: Whether it fetches numbers to the host while it is computed, so that no CUDA
            graph can record it.
    """

    needs_host: bool = False
