"""``optimiser``: one L-BFGS step without the evaluation, against ``torch.optim.LBFGS``.

The objective is a quadratic whose gradient costs one multiplication; the time inside it is
subtracted. The history is full before the first timing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import interleave, now
from benchmarks.options import Options
from benchmarks.rows import Row, summary
from benchmarks.suites.base import Case, Suite
from fastnst import Terms, minimise
from fastnst.engines import Evaluation


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(256, 512, 1024), quick=(256,))
    histories = (10, 100) if options.quick else (10, 20, 100)
    return [
        Case(f"history {history}", size, details={"history": history})
        for size in sizes
        for history in histories
    ]


class Quadratic:
    """½ Σ d (x − t)² with curvatures d over four decades: L-BFGS does not end it soon.

    Attributes:
        seconds: Spent inside since it was last set to zero.
    """

    def __init__(self, shape: Sequence[int], device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.target = (0.2 + 0.6 * torch.rand(shape, generator=generator)).to(device)
        self.curvature = (10 ** (4 * torch.rand(shape, generator=generator))).to(device)
        self.start = torch.full(tuple(shape), 0.5, device=device)
        self.device = device
        self.seconds = 0.0

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient."""
        began = now(self.device)
        with torch.no_grad():
            difference = image - self.target
            gradient = self.curvature * difference
            loss = 0.5 * (gradient * difference).sum()
        self.seconds += now(self.device) - began
        return loss, gradient


class TorchSteps:
    """``torch.optim.LBFGS`` as the textbook loop calls it; each call is one step."""

    def __init__(self, objective: Quadratic, history: int) -> None:
        self.objective = objective
        self.image = objective.start.clone().requires_grad_()
        self.optimizer = torch.optim.LBFGS(
            [self.image], max_iter=1, history_size=history, tolerance_grad=-1, tolerance_change=-1
        )

    def __call__(self) -> float:
        """The step's seconds, less those of the objective."""

        def closure() -> Tensor:
            loss, self.image.grad = self.objective(self.image)
            return loss

        return _less_objective(self.objective, lambda: self.optimizer.step(closure))


class FastnstSteps:
    """``fastnst.minimise``; each call is one step."""

    def __init__(self, objective: Quadratic, history: int) -> None:
        self.objective = objective

        def evaluate(image: Tensor) -> Evaluation:
            loss, gradient = objective(image)
            return Evaluation(Terms(loss, {}, {}, loss), gradient)

        self.iterates = minimise(evaluate, objective.start, iterations=10**6, history_size=history)
        next(self.iterates)  # the start: evaluated, no step yet

    def __call__(self) -> float:
        """The step's seconds, less those of the objective."""
        return _less_objective(self.objective, lambda: next(self.iterates))


def _less_objective(objective: Quadratic, step: Callable[[], object]) -> float:
    objective.seconds = 0.0
    began = now(objective.device)
    step()
    return now(objective.device) - began - objective.seconds


def measure(case: Case, options: Options) -> Iterator[Row]:
    history = (case.details or {})["history"]
    shape = (1, 3, case.size, case.size)
    arms: dict[str, Callable[[], object]] = {
        "torch.optim.LBFGS": TorchSteps(Quadratic(shape, options.device), history),
        "fastnst": FastnstSteps(Quadratic(shape, options.device), history),
    }
    samples = interleave(
        arms,
        device=options.device,
        rounds=options.rounds or 20,
        budget=2.0 if options.quick else 10.0,
        warm_up=history + 2,
    )
    row = partial(Row, "optimiser", case.title, device=options.device, dtype="fp32", size=case.size)
    reference = samples["torch.optim.LBFGS"]
    for name, sample in samples.items():
        if sample.error:
            yield row(name, error=sample.error)
            continue
        yield row(
            name,
            **summary(sample.seconds),
            reference_seconds=None if reference.error else summary(reference.seconds)["seconds"],
            extra={"history": history},
        )


SUITE = Suite(
    "optimiser",
    "One L-BFGS step on a full history, without the evaluation, against torch.optim.LBFGS.",
    cases,
    measure,
    "torch.optim.LBFGS",
)
