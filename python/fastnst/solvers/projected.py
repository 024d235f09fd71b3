"""Quasi-Newton steps that are cut to a longest one and clamped to the bounds."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from fastnst.evaluation import Evaluation
from fastnst.ops import sums
from fastnst.solvers.solver import Setup
from fastnst.solvers.state import State

FIRST_STEP = 0.005  # mean absolute change of a pixel in [0, 1]
LONGEST_STEP = 0.1  # root mean square change of the pixels


class ProjectedSolver(ABC):
    """Takes quasi-Newton steps from the picture, cut to a longest one and clamped to the range.

    Args:
        setup: The picture, its range, how many curvature pairs to keep, the scale of the steps and
            the norm of the gradient, from which the length of the first step follows.
    """

    def __init__(self, setup: Setup) -> None:
        self.image = setup.image
        self.bounds = setup.bounds
        self.longest = LONGEST_STEP * setup.step_scale
        # reused by every step: fresh pages would take longer than the arithmetic on them
        self._before = torch.empty_like(self.image)
        self._displacement = torch.empty_like(self.image)
        first = FIRST_STEP * setup.step_scale * self.image.numel()
        self.prepare(setup.history_size, first, setup.gradient_norm1)

    @abstractmethod
    def prepare(self, history_size: int, first: float, gradient_norm1: float) -> None:
        """Set up the method.

        Args:
            history_size: How many curvature pairs to keep.
            first: The length that the first step is to have, a sum over all values of the picture.
            gradient_norm1: ‖g‖₁ at the picture.
        """

    @abstractmethod
    def propose(self, evaluation: Evaluation) -> Tensor:
        """The quasi-Newton step from ``image``, where ``evaluation`` was made, in its shape.

        The memory of the step is reused by the next one, and may be that of the last displacement.
        """

    @abstractmethod
    def remember(self, displacement: Tensor) -> None:
        """Keep the step that was really taken, ``(n,)``, whose memory the next one reuses."""

    @abstractmethod
    def state(self) -> State:
        """What ``restore`` needs to go on bit for bit."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Take the state of another solver of this kind, for a picture of this size."""

    def step(self, evaluation: Evaluation) -> None:
        """Take one step from the picture, in place; ``evaluation`` was made at the picture."""
        before = self._before.copy_(self.image)
        step = self.propose(evaluation)
        length = float(sums.norm2(step)) / self.image.numel() ** 0.5
        cut = self.longest / length if length > self.longest else 1.0
        self.image.add_(step, alpha=cut).clamp_(*self.bounds)
        self.remember(torch.sub(self.image, before, out=self._displacement).flatten())
