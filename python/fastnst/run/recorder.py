"""What a run has done so far: its history, its best picture, its checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastnst.errors import NonFiniteLoss
from fastnst.evaluation import Engine
from fastnst.images.pixels import to_pil
from fastnst.network.weights import Weights
from fastnst.run.checkpoint import (
    Checkpoint,
    Checkpoints,
    Identity,
    save_checkpoint,
)
from fastnst.run.result import Interrupted, Losses, Result, ScaleRecord, Step, finished
from fastnst.run.schedule import Scale
from fastnst.settings.settings import Settings
from fastnst.solvers.device.loop import DeviceIterate, minimise_on_device, takes
from fastnst.solvers.minimise import Iterate, minimise


@dataclass
class Course:
    """A run: what it has done so far, at the scales before and at this one.

    Attributes:
        settings: Of the run.
        weights: Of the network.
        schedule: Its scales.
        callback: Hears of each step.
        checkpoints: Where to keep the state, and how often.
        identity: What the run is made from.
        history: The objective at each evaluation, at all scales.
        snapshots: Pictures kept on the way, by iteration.
        scales: What was done at the scales before this one.
        best: The best picture of this scale, as the solver left it; None before the first evaluation.
        best_row: Its row of the history.
        colours: The picture whose colours the result gets, or None.
        here: What was done at this scale; None before its first evaluation.
        engine: Of the best picture.
        precision: Of the last evaluation.
        seconds_before: Of the optimisation, before this scale or before the checkpoint.
    """

    settings: Settings
    weights: Weights
    schedule: tuple[Scale, ...]
    callback: Callable[[Step], None] | None
    checkpoints: Checkpoints | None
    identity: Identity | None = None
    history: list[Losses] = field(default_factory=list)
    snapshots: dict[int, Tensor] = field(default_factory=dict)
    scales: tuple[ScaleRecord, ...] = ()
    best: Tensor | None = None
    best_row: int = 0
    colours: Tensor | None = None
    here: ScaleRecord | None = None
    engine: Engine | None = None
    precision: str = ""
    seconds_before: float = 0.0
    began: float = 0.0

    def follow(
        self,
        engine: Engine,
        start: Tensor,
        colours: Tensor | None,
        scale: Scale,
        resumed: Checkpoint | None,
    ) -> None:
        """Optimise at one scale: collect the history, keep the best picture, report each step."""
        if resumed is not None:
            self._restore(resumed)
            self._begin(engine, start, colours, resumed.solver.tensors["best"])
            rows = self.history[-1 - resumed.solver.numbers["iteration"] :]
            self.precision = engine.resume([losses.total for losses in rows])
        self.began = time.perf_counter()
        last: Iterate | DeviceIterate | None = None
        saved_at = 0 if resumed is None else resumed.solver.numbers["iteration"]
        at_rest = False  # the solver waits between two iterates, so its state can be saved
        try:
            for iterate in self._iterates(engine, start, scale, resumed):
                at_rest = True
                if iterate.averaged and last is not None and saved_at != last.iteration:
                    self._keep_state(last)  # before the average, which is no part of the way
                    saved_at = last.iteration
                if self.here is None:
                    self._begin(engine, start, colours, iterate.image)
                last = iterate
                self._note(iterate)
                if self.checkpoints and iterate.iteration - saved_at >= self.checkpoints.every:
                    self._keep_state(iterate)
                    saved_at = iterate.iteration
                at_rest = False
            if last is not None and (saved_at != last.iteration or not saved_at):
                self._keep_state(last)
        except KeyboardInterrupt as interrupt:
            if last is not None and at_rest and not last.averaged:
                self._keep_state(last)
            so_far = self.result()
            if so_far is None:
                raise
            raise Interrupted(so_far) from interrupt
        except NonFiniteLoss as error:
            error.result = self.result()
            raise
        assert self.here is not None  # minimise yields the start at least
        self.seconds_before, self.began = self.seconds(), 0.0
        self.scales, self.here = (*self.scales, self.here), None

    def _iterates(
        self, engine: Engine, start: Tensor, scale: Scale, resumed: Checkpoint | None
    ) -> Iterator[Iterate] | Iterator[DeviceIterate]:
        """The solver at work, on the device alone where it can be."""
        settings = self.settings
        resume = None if resumed is None else resumed.solver
        if takes(engine, settings):
            return minimise_on_device(
                engine.evaluate,
                start,
                iterations=scale.iterations,
                history_size=settings.history_size,
                optimizer=settings.optimizer,
                stepwise=self.checkpoints is not None,
                record=engine.capturable,
                resume=resume,
            )
        return minimise(
            engine.evaluate,
            start,
            iterations=scale.iterations,
            history_size=settings.history_size,
            optimizer=settings.optimizer,
            learning_rate=settings.learning_rate,
            averaging=settings.averaging,
            resume=resume,
        )

    def _begin(self, engine: Engine, start: Tensor, colours: Tensor | None, best: Tensor) -> None:
        self.engine, self.colours = engine, colours
        self.best = torch.empty_like(start).copy_(best)
        height, width = start.shape[-2:]
        if self.here is None:
            self.here = ScaleRecord(width, height, 0, 0)
            self.best_row = len(self.history)

    def _note(self, iterate: Iterate | DeviceIterate) -> None:
        """Take in an iterate, and tell the callback."""
        assert self.here is not None
        assert self.best is not None
        self.here = replace(
            self.here, iterations=iterate.iteration, evaluations=iterate.evaluations
        )
        losses = Losses.of(iterate.terms)
        self.history.append(losses)
        row = len(self.history) - 1
        precision, self.precision = self.precision, iterate.precision
        if (
            row == self.best_row
            or precision != self.precision  # losses in different ones are not compared
            or losses.total < self.history[self.best_row].total
        ):
            self.best_row = row
            self.best.copy_(iterate.image)
        iterations = sum(scale.iterations for scale in self.schedule)
        iteration = sum(scale.iterations for scale in self.scales) + iterate.iteration
        if iteration in (0, iterations // 2):
            self.snapshots.setdefault(iteration, _eight_bits(iterate.image, self.colours))
        if self.callback is not None:
            evaluations = sum(scale.evaluations for scale in self.scales) + iterate.evaluations
            self.callback(
                Step(
                    iteration,
                    iterations,
                    evaluations,
                    losses,
                    self.seconds(),
                    iterate.image,
                    self.colours,
                    len(self.scales) + 1,
                    len(self.schedule),
                )
            )

    def _keep_state(self, iterate: Iterate | DeviceIterate) -> None:
        """Write a checkpoint, if there are to be any."""
        if self.checkpoints is None:
            return
        assert self.identity is not None
        rows = [list(losses.to_row().values()) for losses in self.history]
        state = Checkpoint(
            self.identity,
            iterate.state(),
            torch.tensor(rows, dtype=torch.float64, device="cpu"),
            tuple(self.history[0].to_row()),
            self.best_row,
            self.seconds(),
            self.snapshots,
            tuple(astuple(scale) for scale in self.scales),
        )
        save_checkpoint(state, self.checkpoints.path)

    def _restore(self, saved: Checkpoint) -> None:
        rows = (dict(zip(saved.terms, row, strict=True)) for row in saved.history.tolist())
        self.history = [Losses.from_row(row) for row in rows]
        self.snapshots = dict(saved.snapshots)
        self.scales = tuple(ScaleRecord(*scale) for scale in saved.scales)
        self.best_row = saved.best
        self.seconds_before = saved.seconds
        image, numbers = saved.solver.tensors["image"], saved.solver.numbers
        height, width = image.shape[-2:]
        self.here = ScaleRecord(width, height, numbers["iteration"], numbers["evaluations"])

    def seconds(self) -> float:
        """Of the optimisation, so far."""
        return self.seconds_before + (time.perf_counter() - self.began if self.began else 0.0)

    def result(self) -> Result | None:
        """Of what was done so far; None before the first evaluation."""
        if not self.history or self.best is None or self.engine is None:
            return None
        done = self.scales if self.here is None else (*self.scales, self.here)
        return Result(
            finished(self.best, self.colours),
            self.history[self.best_row],
            tuple(self.history),
            sum(scale.iterations for scale in done),
            sum(scale.evaluations for scale in done),
            self.seconds(),
            self.engine.name,
            str(self.best.device),
            self.engine.precision,
            self.settings,
            {"name": self.weights.name, "sha256": self.weights.sha256},
            done,
            {k: Image.fromarray(picture.numpy()) for k, picture in self.snapshots.items()},
            self.engine.provider,
        )


def _eight_bits(image: Tensor, colours: Tensor | None) -> Tensor:
    """``(1, 3, H, W)`` as ``(H, W, 3)`` uint8 on the CPU."""
    return torch.from_numpy(np.array(to_pil(finished(image, colours))))
