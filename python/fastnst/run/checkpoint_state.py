"""What a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastnst.run.identity import Identity
from fastnst.solvers.sharing import own_part
from fastnst.solvers.state import State
from fastnst.solvers.vectors import Placement


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after an evaluation.

    Attributes:
        identity: What the run is made from.
        solver: The state of the solver, but for ``pieces``.
        history: ``(evaluations, terms)`` float64, one row for each evaluation so far.
        terms: The name of each column of ``history``.
        best: The row of the best picture of this scale.
        seconds: How long the optimisation has run.
        snapshots: ``{iteration: (H, W, 3) uint8}``, pictures from the way.
        scales: What was done at each scale before: (width, height, iterations, evaluations).
        pieces: Pictures of the solver's state of which several ranks have written their rows,
            ``(1, 3, rows, W)`` each, one below the other.
        sha256: Of what was written; empty before it is.
    """

    identity: Identity
    solver: State
    history: Tensor
    terms: tuple[str, ...]
    best: int
    seconds: float
    snapshots: Mapping[int, Tensor]
    scales: tuple[tuple[int, int, int, int], ...] = ()
    pieces: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)
    sha256: str = ""

    def picture(self, name: str) -> tuple[tuple[int, ...], torch.dtype] | None:
        """Shape and dtype of a picture of the solver's state, in pieces or not; None: not there."""
        found = self.solver.tensors.get(name)
        if found is not None:
            return tuple(found.shape), found.dtype
        if name not in self.pieces:
            return None
        first = self.pieces[name][0]
        rows = sum(piece.shape[-2] for piece in self.pieces[name])
        return (*first.shape[:-2], rows, first.shape[-1]), first.dtype

    def part(self, placement: Placement) -> State:
        """What the solver of this rank goes on from.

        Args:
            placement: That of the solver.
        """
        state = own_part(self.solver, placement)
        pictures = {}
        for name, pieces in self.pieces.items():
            rows = 0, sum(piece.shape[-2] for piece in pieces)
            if placement.communication.ranks > 1:
                rows = placement.bands[0].start, placement.bands[-1].stop
            pictures[name] = _rows(pieces, *rows)
        return State(state.numbers, {**state.tensors, **pictures})


def _rows(pieces: Sequence[Tensor], start: int, stop: int) -> Tensor:
    """The rows ``start`` to ``stop - 1`` of a picture in pieces, a copy unless they lie in one."""
    found, at = [], 0
    for piece in pieces:
        height = piece.shape[-2]
        first, last = max(start - at, 0), min(stop - at, height)
        if first < last:
            found.append(piece[..., first:last, :])
        at += height
    return found[0] if len(found) == 1 else torch.cat(found, -2)
