"""When a run writes its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import torch
from torch import Tensor

from fastnst.run import checkpoint_parts
from fastnst.run.checkpoint import Checkpoints, parts_of, save_checkpoint
from fastnst.run.checkpoint_state import Checkpoint
from fastnst.run.identity import Identity
from fastnst.run.losses import Losses
from fastnst.run.part import Part
from fastnst.run.recorder import Recorder
from fastnst.solvers.iterate import Iterate
from fastnst.solvers.sharing import apart, together
from fastnst.solvers.state import State
from fastnst.solvers.vectors import PLAIN, Placement


class CheckpointWriter:
    """Writes the state of a run at one scale every so many iterations, and after the last of them.

    Args:
        checkpoints: Where to write, and how often.
        identity: What the run is made from.
        recorder: What the run has done so far.
        iterations: How many iterations this scale has.
        written: The iteration whose state was saved last; 0 at the beginning.
        placement: Where the solver's vectors lie. Where several ranks have them they all call the
            same. Each writes its part, if they share a file system; if not, rank 0 writes what all
            of them have.
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
        self._in_parts: bool | None = None  # whether each rank writes its part; None: not yet known

    def note(self, iterate: Iterate) -> None:
        """Write a checkpoint if it is time for one; the recorder knows of the iterate already."""
        if iterate.averaged:
            return  # the average is no part of the way, and the state before it is written
        if self.checkpoints.only_interrupted:
            return
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
        found = self._collect(iterate.state())
        if found is None:
            return
        state, parts = found
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
        save_checkpoint(checkpoint, self.checkpoints.path, parts)

    def _collect(self, state: State) -> tuple[State, tuple[Part, ...]] | None:
        """What rank 0 writes of the state, and the parts that all ranks have written; else None."""
        speech, path = self.placement.communication, self.checkpoints.path
        if speech.ranks > 1 and self._in_parts is None:
            self._in_parts = checkpoint_parts.can_share(path, speech)
            left = parts_of(path) if self._in_parts and speech.rank == 0 else None
            if left is not None:
                checkpoint_parts.sweep(path, left)  # of a run that was killed
        if speech.ranks > 1 and self._in_parts:
            alike, own = apart(state)
            parts = checkpoint_parts.write_together(own, path, speech)
            return None if parts is None else (alike, parts)
        whole = together(state, self.placement)
        return None if whole is None else (whole, ())


def _table(history: Sequence[Losses]) -> Tensor:
    """The history as a tensor ``(evaluations, terms)`` float64."""
    rows = [list(losses.to_row().values()) for losses in history]
    return torch.tensor(rows, dtype=torch.float64, device="cpu")
