"""Which solver a run uses, and on which side: led by the host, or on the device alone."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from fastnst.evaluation import Engine
from fastnst.settings.settings import Settings
from fastnst.solvers.device.loop import DEVICE_SOLVERS, minimise_on_device
from fastnst.solvers.iterate import Iterate
from fastnst.solvers.minimise import minimise
from fastnst.solvers.state import State
from fastnst.solvers.vectors import PLAIN, Placement


def runs_on_device(engine: Engine, settings: Settings) -> bool:
    """Whether the solver of these settings can run on the device alone with this engine."""
    return engine.device_only and settings.optimizer in DEVICE_SOLVERS and not settings.averaging


def solve(
    engine: Engine,
    start: Tensor,
    settings: Settings,
    iterations: int,
    *,
    stepwise: bool = False,
    resume: State | None = None,
    placement: Placement = PLAIN,
) -> Iterator[Iterate]:
    """Optimise a picture with the solver that the settings ask for.

    Args:
        engine: The objective and its gradient.
        start: ``(1, 3, H, W)`` float32 on the device of the engine; it is copied.
        settings: The solver and its settings are read from here.
        iterations: How many steps to take.
        stepwise: Whether the state of any iterate may be asked for.
        resume: State of an iterate to go on from.
        placement: How the vectors of a solver that the host leads are cut, and where they lie.

    Yields:
        The iterates that ``minimise`` yields.

    Raises:
        NonFiniteLoss: where ``minimise`` raises it.
    """
    pairs = settings.pairs(start.shape[-2] * start.shape[-1])
    if runs_on_device(engine, settings):
        return minimise_on_device(
            engine.launch,
            start,
            iterations=iterations,
            history_size=pairs,
            optimizer=settings.optimizer,
            stepwise=stepwise,
            record=engine.capturable,
            note=engine.note,
            resume=resume,
        )
    return minimise(
        engine.launch,
        start,
        iterations=iterations,
        history_size=pairs,
        optimizer=settings.optimizer,
        learning_rate=settings.learning_rate,
        averaging=settings.averaging,
        resume=resume,
        placement=placement,
        note=engine.note,
    )
