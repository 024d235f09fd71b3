"""Quasi-Newton steps that are cut to a longest one and clamped to the bounds."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from fastnst.evaluation import Evaluation
from fastnst.solvers.state import State

FIRST_STEP = 0.005  # mean absolute change of a pixel in [0, 1]
LONGEST_STEP = 0.1  # root mean square change of the pixels


class ProjectedSolver(ABC):
    """Takes quasi-Newton steps from the picture, cut to a longest one and clamped to the range.

    Args:
        image: What is optimised, in place.
        history_size: Curvature pairs to keep.
        bounds: Smallest and largest value of a pixel.
        caution: Factor on the length of the first and of the longest step.
        slope: |gradient|₁ at ``image``.
    """

    def __init__(
        self,
        image: Tensor,
        history_size: int,
        bounds: tuple[float, float],
        caution: float,
        slope: float,
    ) -> None:
        self.image = image
        self.bounds = bounds
        self.longest = LONGEST_STEP * caution
        self._before = torch.empty_like(image)  # kept: fresh pages take longer than what is done
        self._displacement = torch.empty_like(image)
        self.prepare(history_size, FIRST_STEP * caution * image.numel(), slope)

    @abstractmethod
    def prepare(self, history_size: int, first: float, slope: float) -> None:
        """Set up; the first step is to have length ``first`` (sum over the pixels)."""

    @abstractmethod
    def propose(self, evaluation: Evaluation) -> Tensor:
        """A quasi-Newton step from ``image``, where ``evaluation`` was made, in the image's shape.

        Its memory is reused by the next, and may be that of the last displacement.
        """

    @abstractmethod
    def remember(self, displacement: Tensor) -> None:
        """Take note of the step that was really taken, ``(n,)``; its memory is reused by the next."""

    @abstractmethod
    def state(self) -> State:
        """What ``restore`` needs to go on bit for bit."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Go on from the state of another solver of this kind."""

    def step(self, evaluation: Evaluation) -> None:
        """One iteration from the picture, where ``evaluation`` was made."""
        before = self._before.copy_(self.image)
        step = self.propose(evaluation)
        length = float(torch.linalg.vector_norm(step)) / self.image.numel() ** 0.5
        cut = self.longest / length if length > self.longest else 1.0
        self.image.add_(step, alpha=cut).clamp_(*self.bounds)
        self.remember(torch.sub(self.image, before, out=self._displacement).flatten())
