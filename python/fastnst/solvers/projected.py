"""Quasi-Newton steps that are cut to a longest one and clamped to the bounds."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from fastnst.evaluation import Evaluation
from fastnst.solvers import vectors
from fastnst.solvers.solver import Setup
from fastnst.solvers.state import State
from fastnst.solvers.vectors import Placement, Vector

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
        self.placement = self.place(setup.placement)
        self.values = self.placement.count(self.image)
        first = FIRST_STEP * setup.step_scale * self.values
        self.prepare(setup.history_size, first, setup.gradient_norm1)

    def place(self, placement: Placement) -> Placement:
        """Where this solver's vectors lie, of what was asked for: one band by default."""
        return placement.whole

    @abstractmethod
    def prepare(self, history_size: int, first: float, gradient_norm1: float) -> None:
        """Set up the method.

        Args:
            history_size: How many curvature pairs to keep.
            first: The length that the first step is to have, a sum over all values of the picture.
            gradient_norm1: ‖g‖₁ at the picture.
        """

    @abstractmethod
    def propose(self, evaluation: Evaluation) -> Vector:
        """The quasi-Newton step from ``image``, where ``evaluation`` was made.

        It is cut and clamped in place: what it holds at the next call is the displacement that
        really took place.
        """

    @abstractmethod
    def state(self) -> State:
        """What ``restore`` needs to go on bit for bit."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Take the state of another solver of this kind, for a picture of this size."""

    def length(self, step: Vector) -> float:
        """The length of a step that ``propose`` has returned."""
        return float(vectors.norm2(step, self.placement))

    def measure(self, evaluation: Evaluation) -> float:
        """‖g‖₁ of an evaluation at the picture; see ``Solver``."""
        return float(self.placement.norm1(evaluation.gradient))

    def step(self, evaluation: Evaluation) -> None:
        """Take one step from the picture, in place; ``evaluation`` was made at the picture."""
        step = self.propose(evaluation)
        length = self.length(step) / self.values**0.5
        cut = self.longest / length if length > self.longest else 1.0

        def move(image: Tensor, step: Tensor) -> None:
            moved = torch.add(image, step, alpha=cut).clamp_(*self.bounds)
            torch.sub(moved, image, out=step)
            image.copy_(moved)

        for view, band in zip(self.placement.views(self.image), step, strict=True):
            vectors.by_slab(move, view, band.view(view.shape))
            self.placement.release(band)
