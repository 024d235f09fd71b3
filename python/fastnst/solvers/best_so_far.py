"""The best picture so far, kept outside the solver that finds it, by one rule for all solvers."""

from __future__ import annotations

import math

from torch import Tensor


class BestSoFar:
    """The picture with the lowest finite loss among those that were offered.

    Losses that were computed in different precisions are not compared: the first picture in another
    precision than the one before it begins a new comparison, and is the best of it.

    Args:
        image: A picture of the shape, dtype and device of those to come, in memory that becomes
            that of the best. It stands for the best until one was offered.

    Attributes:
        image: The best picture, in memory of its own.
        loss: Its loss; infinite before a picture was offered.
        precision: The precision of the loss that was offered last.
    """

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self.loss = math.inf
        self.precision = ""

    @property
    def is_known(self) -> bool:
        """Whether any picture was offered."""
        return self.loss < math.inf

    def is_beaten_by(self, loss: float, precision: str) -> bool:
        """Whether a picture with this finite loss would be the best."""
        return precision != self.precision or loss < self.loss

    def offer(self, image: Tensor, loss: float, precision: str) -> bool:
        """Copy a picture if it is the best.

        Args:
            image: The picture.
            loss: Its total loss, a finite number.
            precision: The precision of the features that the loss was computed from.

        Returns:
            Whether it is the best so far.
        """
        is_best = self.is_beaten_by(loss, precision)
        self.precision = precision
        if is_best:
            self.loss = loss
            self.image.copy_(image)
        return is_best

    def restore(self, image: Tensor, loss: float, precision: str) -> None:
        """Take the best picture of an earlier run, its loss, and the precision of the last loss."""
        self.image.copy_(image)
        self.loss = loss
        self.precision = precision
