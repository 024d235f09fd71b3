"""When a run writes its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import torch
from torch import Tensor

from fastnst.run.checkpoint import Checkpoints, save_checkpoint
from fastnst.run.checkpoint_state import Checkpoint
from fastnst.run.identity import Identity
from fastnst.run.losses import Losses
from fastnst.run.recorder import Recorder
from fastnst.solvers.iterate import Iterate
from fastnst.solvers.sharing import together
from fastnst.solvers.vectors import PLAIN, Placement


class CheckpointWriter:
    """Writes the state of a run at one scale every so many iterations, and after the last of them.

    Args:
        checkpoints: Where to write, and how often.
        identity: What the run is made from.
        recorder: What the run has done so far.
        iterations: How many iterations this scale has.
        written: The iteration whose state was saved last; 0 at the beginning.
        placement: Where the solver's vectors lie. Where several ranks have them, rank 0 writes what
            all of them have, and all call the same.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        identity: Identity,
        recorder: Recorder,
        iterations: int,
        written: int = 0,
        placement: Placement = PLAIN,
    ) -> None:
        self.checkpoints = checkpoints
        self.identity = identity
        self.recorder = recorder
        self.iterations = iterations
        self.written = written
        self.placement = placement

    def note(self, iterate: Iterate) -> None:
        """Write a checkpoint if it is time for one; the recorder knows of the iterate already."""
        if iterate.averaged:
            return  # the average is no part of the way, and the state before it is written
        due = iterate.iteration - self.written >= self.checkpoints.every
        if due or iterate.iteration >= self.iterations:
            self.write(iterate)

    def write(self, iterate: Iterate) -> None:
        """Write a checkpoint now; the solver must not have gone on since it showed the iterate.

        Raises:
            OutputFailed: if it cannot be written.
        """
        recorder = self.recorder
        self.written = iterate.iteration
        state = together(iterate.state(), self.placement)
        if state is None:
            return
        checkpoint = Checkpoint(
            self.identity,
            state,
            _table(recorder.history),
            tuple(recorder.history[0].to_row()),
            recorder.best_row,
            recorder.seconds(),
            recorder.snapshots,
            tuple(astuple(scale) for scale in recorder.scales),
        )
        save_checkpoint(checkpoint, self.checkpoints.path)


def _table(history: Sequence[Losses]) -> Tensor:
    """The history as a tensor ``(evaluations, terms)`` float64."""
    rows = [list(losses.to_row().values()) for losses in history]
    return torch.tensor(rows, dtype=torch.float64, device="cpu")
