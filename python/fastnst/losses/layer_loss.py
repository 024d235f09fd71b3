"""What every loss on features is."""

from __future__ import annotations

from torch import Tensor, nn


class LayerLoss(nn.Module):
    """A loss on one layer: a module from features ``(1, C, H, W)`` to a 0-dimensional tensor.

    Attributes:
        needs_host: Whether it fetches numbers to the host while it is computed, so that no CUDA
            graph can record it.
        sums_over_positions: Whether it depends on sums over positions alone, so that it can be
            computed for a part of a picture at a time: a content loss, or one with ``of_moments``.
        needs_mean: Whether ``of_moments`` reads the mean.
        guidance: How much each position counts in a style loss, ``(H, W)`` with a mean square of 1;
            None, or no such attribute: all alike.
    """

    needs_host: bool = False
    sums_over_positions: bool = False
    needs_mean: bool = False
    guidance: Tensor | None

    def parts(self) -> list[tuple[float, LayerLoss]]:
        """The losses of which this one is the weighted sum, with their weights."""
        return [(1.0, self)]

    def of_moments(self, mean: Tensor, gram: Tensor) -> Tensor:
        """The loss as a function of two means over all positions, which can be differentiated.

        Every style loss is one, so it can be computed for a picture of which only a part is in
        memory at a time. With guidance T, positions count T².

        Args:
            mean: The mean of the features, ``(C,)``.
            gram: The mean of their products, ``(C, C)``.

        Raises:
            NotImplementedError: if the loss is no function of these.
        """
        raise NotImplementedError
