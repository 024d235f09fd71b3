"""What a solver shows of its way: one picture after the other, each with the objective there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from fastnst.evaluation import Terms
from fastnst.solvers.state import State


@dataclass(frozen=True)
class Iterate:
    """A picture on the way, and the objective there.

    Attributes:
        iteration: 0 for the start, k after k iterations.
        evaluations: How many times the objective was evaluated so far.
        image: ``(1, 3, H, W)``. The solver writes over it when it is asked for the next iterate, so
            clone what is to be kept.
        terms: The loss and its parts at ``image``.
        loss: The total loss, a finite number.
        precision: The precision of the features that ``terms`` were computed from.
        best: ``(1, 3, H, W)``, the best picture so far, this one included, as ``BestSoFar`` has it;
            the solver goes on writing to it.
        is_best: Whether ``image`` is that best picture.
        state: Makes the state from which the solver goes on, bit for bit. Call it, and save what it
            returns, before asking for the next iterate.
        averaged: Whether ``image`` is the average of the iterates, which comes after the last of
            them; ``state`` is then that of the last of them.
    """

    iteration: int
    evaluations: int
    image: Tensor
    terms: Terms
    loss: float
    precision: str
    best: Tensor
    is_best: bool
    state: Callable[[], State]
    averaged: bool = False
