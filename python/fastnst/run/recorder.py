"""What a run has done so far: its history, and pictures from the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor

from fastnst.evaluation import Engine
from fastnst.images.pixels import Pixels, to_pil
from fastnst.ranks.communication import current
from fastnst.ranks.share import Share
from fastnst.run.checkpoint_state import Checkpoint
from fastnst.run.losses import Losses
from fastnst.run.preparation import Preparation
from fastnst.run.record import ScaleRecord
from fastnst.run.step import Step, finished_small
from fastnst.solvers.iterate import Iterate
from fastnst.solvers.state import State

SNAPSHOT = 2048  # long side of a picture from the way in pixels, at most


class Recorder:
    """Collects what a run does at its scales, and tells a callback of each step.

    Args:
        prepared: The run.
        callback: Called with a ``Step`` after each evaluation, or None.

    Attributes:
        history: The objective at each evaluation, at all scales.
        best: The best picture of the scale at hand, ``(1, 3, H, W)``, in memory of the solver; None
            before the first evaluation. Where several ranks share the scale, this rank's rows.
        best_row: The row of the best picture in the history.
        snapshots: ``{iteration: (H, W, 3) uint8}``, pictures of the start and of the middle,
            reduced to ``SNAPSHOT`` pixels.
        scales: What was done at the scales that are finished.
        here: What was done at the scale at hand; None before its first evaluation.
        strips: In how many pieces the pictures of the scale at hand are computed.
        engine: The engine of the best picture; None before the first evaluation.
        colours: The picture whose colours the result is given, or None.
        share: What this rank owns of the pictures of the scale at hand; None: all.
    """

    def __init__(self, prepared: Preparation, callback: Callable[[Step], None] | None) -> None:
        self.prepared = prepared
        self.callback = callback
        self.history: list[Losses] = []
        self.best: Tensor | None = None
        self.best_row = 0
        self.snapshots: dict[int, Tensor] = {}
        self.scales: tuple[ScaleRecord, ...] = ()
        self.here: ScaleRecord | None = None
        self.strips = 1
        self.engine: Engine | None = None
        self.colours: Tensor | None = None
        self.share: Share | None = None
        self._seconds_before = 0.0  # at the scales before this one, or before the checkpoint
        self._began = 0.0

    def restore(
        self,
        saved: Checkpoint,
        engine: Engine,
        colours: Tensor | None,
        state: State,
        size: tuple[int, int],
    ) -> None:
        """Take up a run where a checkpoint left it.

        Args:
            saved: The checkpoint.
            engine: The engine of the scale at hand.
            colours: The picture whose colours the result is given, or None.
            state: What this rank goes on from, of the solver's state.
            size: Height and width of the pictures of the scale at hand.
        """
        rows = (dict(zip(saved.terms, row, strict=True)) for row in saved.history.tolist())
        self.history = [Losses.from_row(row) for row in rows]
        # Copies: a checkpoint's tensors are those of its file, which will be replaced.
        self.snapshots = {k: picture.clone() for k, picture in saved.snapshots.items()}
        self.scales = tuple(ScaleRecord(*scale) for scale in saved.scales)
        self.best_row = saved.best
        self._seconds_before = saved.seconds
        self.best = state.tensors["best"].to(self.prepared.device, copy=True)
        self.engine, self.colours = engine, colours
        numbers = saved.solver.numbers
        height, width = size
        self.here = ScaleRecord(width, height, numbers["iteration"], numbers["evaluations"])

    def begin_scale(self, strips: int = 1, share: Share | None = None) -> None:
        """Start the clock.

        Args:
            strips: In how many pieces the pictures of this scale are computed.
            share: What this rank owns of them; None: all.
        """
        self.strips = strips
        self.share = share
        self._began = time.perf_counter()

    def end_scale(self, mapped: bool = False) -> None:
        """Stop the clock, and count the scale at hand as finished.

        Args:
            mapped: Whether the best picture lies in a file that is about to be closed.
        """
        assert self.here is not None  # a solver yields the start at least
        self._seconds_before, self._began = self.seconds(), 0.0
        self.scales, self.here = (*self.scales, self.here), None
        if mapped and self.best is not None:
            self.best = self.best.clone()
        if self.best is not None and len(self.scales) < len(self.prepared.schedule):
            self.best = self._for_the_next_scale(self.best)

    def _for_the_next_scale(self, best: Tensor) -> Tensor:
        """The whole of the best picture, the same on every rank, which the next scale begins at."""
        share, speech = self.share, current()
        self.share = None
        if share is not None and share.communication.ranks > 1:
            return share.everywhere(best)
        if speech.ranks == 1:
            return best
        # Each rank has computed all of it, on machines that may round otherwise.
        return speech.collect(best if speech.rank == 0 else best[..., :0])[0]

    def picture(self, own: Tensor) -> tuple[Tensor, Tensor | None]:
        """A picture of the scale at hand, and the picture whose colours it is given.

        Where several ranks share it they all call this together. Rank 0 has the whole of it then;
        the others have the rows that they own, which nobody looks at, in their own colours.

        Args:
            own: What this rank has of it.
        """
        if self.share is None or self.share.communication.ranks == 1:
            return own, self.colours
        whole = self.share.whole(own)
        return (own, None) if whole is None else (whole, self.colours)

    def note(self, iterate: Iterate, engine: Engine, colours: Tensor | None) -> None:
        """Record an iterate, and tell the callback.

        Args:
            iterate: What the solver shows.
            engine: The engine of the scale at hand.
            colours: The picture whose colours the result is given, or None.
        """
        height, width = iterate.image.shape[-2:]
        if self.share is not None:
            height = self.share.grid.height
        self.here = ScaleRecord(width, height, iterate.iteration, iterate.evaluations)
        self.engine, self.colours = engine, colours
        losses = Losses.of(iterate.terms)
        self.history.append(losses)
        self.best = iterate.best
        if iterate.is_best:
            self.best_row = len(self.history) - 1
        iterations = sum(scale.iterations for scale in self.prepared.schedule)
        iteration = sum(scale.iterations for scale in self.scales) + iterate.iteration
        if iteration in (0, iterations // 2) and iteration not in self.snapshots:
            shown = finished_small(*self.picture(iterate.image), SNAPSHOT)
            self.snapshots[iteration] = _eight_bits(shown)
        if self.callback is not None:
            evaluations = sum(scale.evaluations for scale in self.scales) + iterate.evaluations
            at = len(self.scales) + 1, len(self.prepared.schedule)
            self.callback(
                Step(
                    *(iteration, iterations, evaluations, losses, self.seconds()),
                    *(iterate.image, colours, *at),
                )
            )

    def totals(self) -> list[float]:
        """The total losses of the evaluations at the scale at hand, in order."""
        assert self.here is not None
        return [losses.total for losses in self.history[-1 - self.here.iterations :]]

    def seconds(self) -> float:
        """How long the optimisation has run."""
        return self._seconds_before + (time.perf_counter() - self._began if self._began else 0.0)

    def history_table(self) -> Tensor:
        """The history as a tensor ``(evaluations, terms)`` float64."""
        rows = [list(losses.to_row().values()) for losses in self.history]
        return torch.tensor(rows, dtype=torch.float64, device="cpu")

    def scales_before(self) -> tuple[tuple[int, int, int, int], ...]:
        """Width, height, iterations and evaluations of each finished scale."""
        return tuple(astuple(scale) for scale in self.scales)


def _eight_bits(pixels: Pixels) -> Tensor:
    """A picture as it is shown, ``(H, W, 3)`` uint8 on the CPU."""
    return torch.from_numpy(np.array(to_pil(pixels)))
