"""The contract of a solver: what it is made from, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fastnst.evaluation import Evaluation
from fastnst.solvers.state import State
from fastnst.solvers.vectors import PLAIN, Placement


@dataclass(frozen=True)
class Setup:
    """What a solver is made from; each solver reads what it needs.

    Attributes:
        image: What is optimised, in place; of any shape and float dtype.
        bounds: The smallest and the largest value of a pixel.
        history_size: How many curvature pairs a quasi-Newton method keeps.
        learning_rate: That of Adam, about the change of a pixel in a step.
        step_scale: The factor on the length of the steps that the solver chooses itself; below 1
            after a restart.
        gradient_norm1: ‖g‖₁, the sum of the absolute values of the gradient at ``image``.
        placement: Where the solver's vectors are to lie.
    """

    image: Tensor
    bounds: tuple[float, float]
    history_size: int
    learning_rate: float
    step_scale: float
    gradient_norm1: float
    placement: Placement = PLAIN


class Solver(Protocol):
    """A method that changes a picture step by step so that the objective falls."""

    def measure(self, evaluation: Evaluation) -> float:
        """‖g‖₁ of an evaluation at the picture: not finite where a value is not.

        It is asked for after each step, so that all sums that the next step needs can be found
        together.
        """
        ...

    def step(self, evaluation: Evaluation) -> None:
        """Take one step from the picture, in place; ``evaluation`` was made at the picture."""
        ...

    def state(self) -> State:
        """What ``restore`` needs to go on bit for bit."""
        ...

    def restore(self, state: State) -> None:
        """Take the state of another solver of this kind, for a picture of this size."""
        ...


def towards_one(size: float) -> float:
    """The power of two that brings a size into [½, 1), as far as float32 has it; 1 for 0.

    By it gradients are multiplied whose products have to stay in the range of float32, whatever the
    weights of the losses are. That changes no digit of them.
    """
    _, exponent = math.frexp(size)
    return math.ldexp(1.0, max(-126, min(126, -exponent)))
