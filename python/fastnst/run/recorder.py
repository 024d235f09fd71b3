"""What a run has done so far: its history, and pictures from the way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fastnst.evaluation import Engine
from fastnst.images.pixels import Pixels, to_pil
from fastnst.ranks.share import Share
from fastnst.run import gathering
from fastnst.run.clock import Clock
from fastnst.run.losses import Losses
from fastnst.run.preparation import Preparation
from fastnst.run.record import EngineRecord, ScaleRecord
from fastnst.run.step import Step
from fastnst.solvers.iterate import Iterate

SNAPSHOT = 2048  # long side of a picture from the way in pixels, at most


class Recorder:
    """Collects what a run does at its scales, and tells a callback of each step.

    Args:
        prepared: The run.
        callback: Called with a ``Step`` after each evaluation, or None.
        by_band: Whether ranks that share the result keep their rows of it, for ``Result.rows``.

    Attributes:
        history: The objective at each evaluation, at all scales.
        best: The best picture of the scale at hand, ``(1, 3, H, W)``, in memory of the solver; None
            before the first evaluation. Where several ranks share the scale, this rank's rows.
        best_row: The row of the best picture in the history.
        noted: How many iterates are in the history, and have been compared with the best.
        snapshots: ``{iteration: (H, W, 3) uint8}``, pictures of the start and of the middle,
            reduced to ``SNAPSHOT`` pixels.
        scales: What was done at the scales that are finished.
        here: What was done at the scale at hand; None before its first evaluation.
        strips: In how many pieces the pictures of the scale at hand are computed.
        engine: The engine of the best picture; None before the first evaluation.
        colours: The picture whose colours the result is given, or None.
        share: What this rank owns of the pictures of the scale at hand; None: all.
        clock: Runs while the optimisation does.
    """

    def __init__(
        self,
        prepared: Preparation,
        callback: Callable[[Step], None] | None,
        by_band: bool = False,
    ) -> None:
        self.prepared = prepared
        self.callback = callback
        self.by_band = by_band
        self.history: list[Losses] = []
        self.best: Tensor | None = None
        self.best_row = 0
        self.noted = 0
        self.snapshots: dict[int, Tensor] = {}
        self.scales: tuple[ScaleRecord, ...] = ()
        self.here: ScaleRecord | None = None
        self.strips = 1
        self.engine: EngineRecord | None = None
        self.colours: Tensor | None = None
        self.share: Share | None = None
        self.clock = Clock()

    def begin_scale(self, strips: int = 1, share: Share | None = None) -> None:
        """Start the clock.

        Args:
            strips: In how many pieces the pictures of this scale are computed.
            share: What this rank owns of them; None: all.
        """
        self.strips = strips
        self.share = share
        self.clock.start()

    def end_scale(self, mapped: bool = False) -> None:
        """Stop the clock, and count the scale at hand as finished.

        Args:
            mapped: Whether the best picture lies in a file that is about to be closed.
        """
        assert self.here is not None  # a solver yields the start at least
        self.clock.stop()
        self.scales, self.here = (*self.scales, self.here), None
        if mapped and self.best is not None:
            self.best = self.best.clone()
        if self.best is not None and len(self.scales) < len(self.prepared.schedule):
            self.best = gathering.everywhere(self.best, self.share)
            self.share = None

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
        self.engine, self.colours = EngineRecord.of(engine), colours
        losses = Losses.of(iterate.terms)
        self.history.append(losses)
        self.best = iterate.best
        if iterate.is_best:
            self.best_row = len(self.history) - 1
        self.noted += 1
        iterations = sum(scale.iterations for scale in self.prepared.schedule)
        iteration = sum(scale.iterations for scale in self.scales) + iterate.iteration
        if iteration in (0, iterations // 2) and iteration not in self.snapshots:
            shown = gathering.small(iterate.image, self.share, colours, SNAPSHOT)
            self.snapshots[iteration] = _eight_bits(shown)
        if self.callback is not None:
            evaluations = sum(scale.evaluations for scale in self.scales) + iterate.evaluations
            at = len(self.scales) + 1, len(self.prepared.schedule)
            self.callback(
                Step(
                    *(iteration, iterations, evaluations, losses, self.seconds()),
                    *(iterate.image, colours, *at, self.share),
                    *(self.prepared.width, self.prepared.height),
                )
            )

    def totals(self) -> list[float]:
        """The total losses of the evaluations at the scale at hand, in order."""
        assert self.here is not None
        return [losses.total for losses in self.history[-1 - self.here.iterations :]]

    def seconds(self) -> float:
        """How long the optimisation has run."""
        return self.clock.seconds()


def _eight_bits(pixels: Pixels) -> Tensor:
    """A picture as it is shown, ``(H, W, 3)`` uint8 on the CPU."""
    return torch.from_numpy(np.array(to_pil(pixels)))
