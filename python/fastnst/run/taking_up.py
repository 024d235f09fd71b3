"""A run is taken up where a checkpoint left it."""

from __future__ import annotations

import torch
from torch import Tensor

from fastnst.evaluation import Engine
from fastnst.run.checkpoint_state import Checkpoint
from fastnst.run.losses import Losses
from fastnst.run.record import EngineRecord, ScaleRecord
from fastnst.run.recorder import Recorder
from fastnst.solvers.state import State


def take_up(
    recorder: Recorder,
    saved: Checkpoint,
    engine: Engine,
    colours: Tensor | None,
    state: State,
    size: tuple[int, int],
    home: torch.device,
) -> None:
    """Let a recorder know what was done until a checkpoint.

    Args:
        recorder: Of a run that has not begun.
        saved: The checkpoint.
        engine: The engine of the scale at hand.
        colours: The picture whose colours the result is given, or None.
        state: What this rank goes on from, of the solver's state.
        size: Height and width of the pictures of the scale at hand.
        home: The device where they lie.
    """
    rows = (dict(zip(saved.terms, row, strict=True)) for row in saved.history.tolist())
    recorder.history = [Losses.from_row(row) for row in rows]
    # Copies: a checkpoint's tensors are those of its file, which will be replaced.
    recorder.snapshots = {k: picture.clone() for k, picture in saved.snapshots.items()}
    recorder.scales = tuple(ScaleRecord(*scale) for scale in saved.scales)
    recorder.best_row = saved.best
    recorder.clock.before = saved.seconds
    recorder.best = state.tensors["best"].to(home, copy=True)
    recorder.engine, recorder.colours = EngineRecord.of(engine), colours
    numbers = saved.solver.numbers
    height, width = size
    recorder.here = ScaleRecord(width, height, numbers["iteration"], numbers["evaluations"])
