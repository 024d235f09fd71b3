"""The pieces of a picture in main memory, computed on a GPU.

A picture that is too large for a GPU lies in main memory with everything that grows with it:
gradient, curvature pairs, content targets. A piece of it goes to the GPU as pixels and comes back
as sums and as a gradient, 24 bytes for each pixel and evaluation beside a network of a thousand
times as many operations. So the solver, the scratch file, checkpoints and ranks are those of a CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from torch import Tensor

from fastnst.devices import guard
from fastnst.engines.strips.evaluator import Evaluator, Key, Sums
from fastnst.engines.strips.statistics import Seed
from fastnst.strips.geometry import Tile


class OnDevice(Evaluator):
    """An evaluator that is given pixels and targets from main memory, and gives gradients there.

    Args:
        evaluator: What computes the pieces, on the device of its objective.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self.objective = evaluator.objective
        self.name, self.precision = evaluator.name, evaluator.precision
        self.tf32 = evaluator.tf32
        self._device = self.objective.normalize.mean.device

    def another(self) -> OnDevice:
        """One with features of its own on the device."""
        return OnDevice(self._evaluator.another())

    def forward(self, pixels: Tensor, tile: Tile) -> None:
        """Compute the features of a piece ``(1, 3, h, w)``, there."""
        with guard(self._device):
            self._evaluator.forward(self._there(pixels), tile)

    def content(self) -> Mapping[str, Tensor]:
        """The features of the content's layers at the owned positions, in main memory."""
        with guard(self._device):
            return {key: x.cpu() for key, x in self._evaluator.content().items()}

    def compare_with(self, targets: Mapping[str, Tensor]) -> None:
        """Give the content targets P at the owned positions, from main memory."""
        self._evaluator.compare_with({key: self._there(x) for key, x in targets.items()})

    def sums(self) -> Sums:
        """The sums over the positions that the piece owns, there: they are small."""
        with guard(self._device):
            return self._evaluator.sums()

    def set_seeds(self, style: Mapping[Key, Seed], content: Mapping[str, float]) -> None:
        """Say what the losses' gradients at the features are, there."""
        self._evaluator.set_seeds(style, content)

    def gradient(self) -> Tensor:
        """The gradient of the owned positions at all pixels of the piece, in main memory."""
        with guard(self._device):
            return self._evaluator.gradient().cpu()

    def _there(self, x: Tensor) -> Tensor:
        """A tensor in main memory, on the device.

        A GPU reads memory that is pinned several times as fast; PyTorch keeps the copy's space for
        the next one. Nothing waits: what reads it there comes later in the same stream.
        """
        if self._device.type != "cuda":
            return x.to(self._device)
        with contextlib.suppress(RuntimeError):  # where no more can be pinned, it takes longer
            x = x.pin_memory()
        return x.to(self._device, non_blocking=True)
