"""What a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fastnst.run.identity import Identity
from fastnst.solvers.state import State


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after an evaluation.

    Attributes:
        identity: What the run is made from.
        solver: The state of the solver.
        history: ``(evaluations, terms)`` float64, one row for each evaluation so far.
        terms: The name of each column of ``history``.
        best: The row of the best picture of this scale.
        seconds: How long the optimisation has run.
        snapshots: ``{iteration: (H, W, 3) uint8}``, pictures from the way.
        scales: What was done at each scale before: (width, height, iterations, evaluations).
    """

    identity: Identity
    solver: State
    history: Tensor
    terms: tuple[str, ...]
    best: int
    seconds: float
    snapshots: Mapping[int, Tensor]
    scales: tuple[tuple[int, int, int, int], ...] = ()
