"""What a callback hears of a run while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from fastnst.images.pixels import Pixels, to_pil
from fastnst.ranks.share import Share
from fastnst.run import gathering
from fastnst.run.finish import finished
from fastnst.run.losses import Losses


@dataclass(frozen=True)
class Step:
    """What a callback hears after each evaluation.

    Where several ranks share the picture, all of them ask for it together: rank 0 has it then, and
    any other the rows that it owns.

    Attributes:
        iteration: 0 for the start, k after k iterations, counted over all scales.
        iterations: How many iterations there will be, over all scales.
        evaluations: Evaluations of the objective so far.
        losses: The objective at the picture of this step.
        seconds: How long the optimisation has run.
        scale: The number of the scale at hand, from 1.
        scales: How many scales there are.
        width: Of the result, in pixels; the picture of an earlier scale is smaller.
        height: Of the result.
    """

    iteration: int
    iterations: int
    evaluations: int
    losses: Losses
    seconds: float
    _image: Tensor = field(repr=False)
    _colours: Tensor | None = field(default=None, repr=False)
    scale: int = 1
    scales: int = 1
    _share: Share | None = field(default=None, repr=False)
    width: int = 0
    height: int = 0

    @property
    def image(self) -> Image.Image:
        """The picture of this step, 8-bit RGB, made on demand. Read it inside the callback."""
        return to_pil(self.pixels)

    @property
    def pixels(self) -> Pixels:
        """The picture of this step, ``(H, W, 3)`` float32 in [0, 1]."""
        return finished(*gathering.whole(self._image, self._share, self._colours))

    def reduced(self, longest: int) -> Pixels:
        """The picture of this step at a whole fraction of its size, made without a whole copy.

        Args:
            longest: Long side of the reduced picture in pixels, at most.

        Returns:
            ``(h, w, 3)`` float32 in [0, 1]: means of squares of pixels, or ``pixels`` where these
            are small enough. Rows and columns that fill no square are left out.
        """
        return gathering.small(self._image, self._share, self._colours, longest)

    def to_dict(self) -> dict[str, Any]:
        """The record of the step, without its picture: plain values for JSON."""
        return {
            "iteration": self.iteration,
            "iterations": self.iterations,
            "evaluations": self.evaluations,
            "seconds": round(self.seconds, 3),
            "loss": self.losses.to_dict(),
            "scale": self.scale,
            "scales": self.scales,
        }
